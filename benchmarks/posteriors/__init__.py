"""The parts of `benchmarks/amortized.py`, one file per question."""
