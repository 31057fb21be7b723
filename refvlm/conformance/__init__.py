"""The oracle: any implementation, in any language, learns which of its numbers is wrong and why.

vectors        the published cases: model, inputs, expected values of sixty digits, tolerances
quantities     what can be asked for
tensors        arrays as text: IEEE bits, or plain lists
messages       what is said between refvlm and another program, checked in both directions
conversation   another program as a child process, that may hang, crash or talk nonsense
problems       a question, read into layers; what is wrong with it
comparison     an answer against what was expected, in units of its own condition
plain          the equations in plain NumPy, every step a method: what mistakes are made of
mistakes       that implementation with one thing wrong, many times over
fingerprints   which mistake explains an answer
examination    all checks of one implementation, and what came of them
reports        what came of it as text, JSON, JUnit XML and HTML
smoke          three questions, and what is wrong with the conversation itself
ourselves      refvlm's own answers, through its public functions
server         refvlm at the other end of the conversation
"""
