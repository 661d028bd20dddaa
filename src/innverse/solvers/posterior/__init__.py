"""Exact draws of p(u | y): Hamiltonian Monte Carlo in image space under a density that is known."""

from .solve import solve_posterior

__all__ = ["solve_posterior"]
