"""The theory, run and shown: on top of all other rooms; only commands import from here."""
