"""The oracle: any implementation, in any language, learns which of its numbers is wrong and why.

vectors        the published cases: model, inputs, expected values of sixty digits, tolerances
messages       what is said between refvlm and another program, validated in both directions
tensors        arrays as text: IEEE bits, or plain lists
conversation   another program as a child process, that may hang, crash or talk nonsense
comparison     an answer against what was expected, in units of its own condition
plain          the equations in plain NumPy, every step a method: what mistakes are made of
mistakes       that implementation with one thing wrong, many times over
fingerprints   which mistake explains an answer
examination    all checks of one implementation, and what came of them
ourselves      refvlm's own answers, through its public functions
reports        what came of it as JSON, JUnit XML and HTML
"""
