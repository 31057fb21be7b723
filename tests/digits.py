"""What tests compute in many digits."""

import mpmath as mp

EXACT = {
    "tanh": mp.tanh,
    "relu": lambda a: max(a, mp.mpf(0)),
    "sigmoid": lambda a: 1 / (1 + mp.exp(-a)),
    "leaky_relu": lambda a: a if a > 0 else mp.mpf(0.01) * a,
    "elu": lambda a: a if a > 0 else mp.expm1(a),
    "softplus": lambda a: mp.log1p(mp.exp(a)) if a < 0 else a + mp.log1p(mp.exp(-a)),
    "silu": lambda a: a / (1 + mp.exp(-a)),
}
"""The activations, by name."""
