"""Learning: plain NumPy and SciPy over exact inference."""
