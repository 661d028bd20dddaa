"""From pictures and settings to restored pictures: `restore`, which the command line calls too."""

from .run import Restored, restore

__all__ = ["Restored", "restore"]
