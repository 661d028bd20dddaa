"""Solvers: reconstruct x from y = A(x) + noise with a prior."""
