"""The proofs of `benchmarks/posterior.py`: each file without an underscore before its name is one.

It has ``run(setting) -> dict``, whose numbers are the key of the file's name, and ``SEED``, if not 0.
``setting`` (`_setting.Setting`) keeps parts that are computed once, knows where data are, and whether
the run is only to show that it runs.
"""
