"""Images in and out: reading, writing, sources of training images, random crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from . import tabular as tabular
    from . import toys as toys
    from .atomic import atomic_path as atomic_path
    from .atomic import atomic_write as atomic_write
    from .atomic import write_json as write_json
    from .crops import Crops as Crops
    from .crops import as_unit as as_unit
    from .crops import dequantize as dequantize
    from .files import read_array as read_array
    from .files import read_stack as read_stack
    from .files import write_stack as write_stack
    from .image_io import Image as Image
    from .image_io import decode_image as decode_image
    from .image_io import read_image as read_image
    from .image_io import to_pil as to_pil
    from .image_io import write_image as write_image
    from .masks import read_mask as read_mask
    from .patches import natural_patches as natural_patches
    from .resize import fit as fit
    from .resize import fit_all as fit_all
    from .sources import ImageSource as ImageSource
    from .sources import open_images as open_images
    from .sources import split as split
    from .stack import Stack as Stack
    from .tabular import open_table as open_table

__getattr__, __dir__, __all__ = lazy(__name__)
