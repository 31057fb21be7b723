"""Pictures of the exact quantities, with matplotlib: `pip install 'refvlm[plot]'`.

Every function draws on the matplotlib Axes given as `ax`, or on those of a new Figure that pyplot does not know, and
returns them: `refvlm.plot.learning_curve(history).figure.savefig("curve.svg")`. Labels say of a number whether it is
exact, an estimate, or certified at a confidence, and its unit. matplotlib is imported when the first picture is drawn;
without it every function raises an ImportError of one line.
"""

from .bound import decomposition, vlb_terms
from .canvas import save
from .images import fantasies, receptive_fields
from .latents import posterior, posterior_mean
from .learning import learning_curve
from .moments import estimators, many_samples
from .scaling import cost

__all__ = [
    "cost",
    "decomposition",
    "estimators",
    "fantasies",
    "learning_curve",
    "many_samples",
    "posterior",
    "posterior_mean",
    "receptive_fields",
    "save",
    "vlb_terms",
]
