"""INN, VAE and GAN side by side: every claim of the theory with its number."""

from . import images as images
from .claims import Claim as Claim
from .claims import claims as claims
from .claims import table_of as table_of
from .contestants import Contestant as Contestant
from .page import make_page as make_page
from .page import make_table as make_table
from .run import Data as Data
from .run import Findings as Findings
from .run import Settings as Settings
from .run import compare as compare
