"""Sums over {0,1}^K: arrays in, arrays out. This floor knows no model; `kernels` alone imports numba."""
