"""What makes the rest fast: kernels, fused couplings, folded matrices, memory modes.

Formulas stand in `bijections` and `nets`; they enter here by one hook in the coupling and one in the
chain, and nothing here knows them.
"""
