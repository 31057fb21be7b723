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


def exact_logits(network, z):
    """The logits of an MLP for one row of bits, as mpf at the precision that is set."""
    h = [mp.mpf(int(v)) for v in z]
    for depth, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        if depth > 0:
            h = [EXACT[network.activation](v) for v in h]
        h = [
            mp.mpf(float(shift)) + mp.fsum(a * mp.mpf(float(c)) for a, c in zip(h, column, strict=True))
            for column, shift in zip(w.T, b, strict=True)
        ]
    return h
