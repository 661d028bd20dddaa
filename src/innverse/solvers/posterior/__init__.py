"""Draws of p(x | y), by Hamiltonian Monte Carlo."""
