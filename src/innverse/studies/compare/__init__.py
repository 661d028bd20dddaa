"""INN, VAE and GAN side by side: every claim of the theory with its number."""

from . import images
from .claims import Claim, claims, table_of
from .contestants import Contestant
from .page import make_page, make_table
from .run import Data, Findings, Settings, compare

__all__ = [
    "Claim", "Contestant", "Data", "Findings", "Settings", "claims", "compare", "images",
    "make_page", "make_table", "table_of",
]  # fmt: skip
