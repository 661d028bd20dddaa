"""Cousins of the sampler that are fast and say that they are approximate."""
