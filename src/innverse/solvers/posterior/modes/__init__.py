"""Posteriors of several modes, evidence, and what else is not known: beyond plain chains."""
