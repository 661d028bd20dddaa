"""Reconstruction of Levy processes, where the posterior is known: flows beside a Gibbs sampler.

The benchmark of Bohra et al. (2023, arXiv 2203.09920) and Zach et al. (2026, arXiv 2509.12821): signals
of 64 samples with independent increments, six laws of the increments, four operators, measurements of
25 dB. `python benchmarks/levy` runs it.
"""
