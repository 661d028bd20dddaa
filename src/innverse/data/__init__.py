"""Images in and out: reading, writing, sources of training images, random crops."""

from . import tabular, toys
from .atomic import atomic_path, atomic_write, write_json
from .crops import Crops, dequantize
from .image_io import Image, decode_image, read_image, to_pil, write_image
from .masks import read_mask
from .patches import natural_patches
from .resize import fit, fit_all
from .sources import ImageSource, open_images, split
from .tabular import open_table

__all__ = [
    "Crops",
    "Image",
    "ImageSource",
    "atomic_path",
    "atomic_write",
    "decode_image",
    "dequantize",
    "fit",
    "fit_all",
    "natural_patches",
    "open_images",
    "open_table",
    "read_image",
    "read_mask",
    "split",
    "tabular",
    "to_pil",
    "toys",
    "write_image",
    "write_json",
]
