"""Draws of p(x | y), by Hamiltonian Monte Carlo.

``solve`` is the method: what is sampled (`target`, `likelihood`), in which geometry (`metric`), by
which steps (`hmc`, `adapt`), for whom (`chains`). ``modes`` goes beyond plain chains, ``approximate``
is faster and says so, ``draws`` is what a result says of its draws.
"""
