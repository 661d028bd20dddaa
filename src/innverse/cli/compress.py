"""``innverse compress`` and ``innverse decompress``: pictures to a file and back, bit for bit."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, UsageError
from ..progress import Progress
from .options import (
    Device,
    Json,
    Quiet,
    check_writable,
    noise_level,
    parse_number,
    print_json,
    start,
)


def compress(
    files: list[str],
    /,
    *,
    model: str = "faces64",
    out: Path = Path("pictures.inn"),
    sigma: str | None = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compress pictures losslessly by the exact density of a flow.

    innverse compress faces/*.png --model faces64 --out faces.inn
    innverse decompress faces.inn --model faces64 --out faces-again

    The code is about as long as log p says: short for pictures like those of the training. All
    pictures are of one size and 8 bits. The first borrows bits that only a long row of pictures
    pays back: the length is told with and without them.

    Parameters
    ----------
    files
        Pictures, or folders of them.
    model
        A flow of images: a shipped name or a folder. The same one decompresses.
    out
        The file.
    sigma
        Noise level of the density, for models that are conditioned on one. [default: the lowest]
    """
    check_writable(out.parent)
    level_asked = None if sigma is None else parse_number(sigma, "--sigma")
    target = start(device)
    import numpy as np

    from ..coding import compress as encode
    from ..coding import describe
    from ..data import atomic_write, read_image
    from ..data.sources import image_files
    from .pictures import load_flow_of_images

    flow = load_flow_of_images(model, target)
    level = noise_level(flow, level_asked)
    paths = [path for file in files for path in image_files(file)]
    pictures = [
        _pixels(read_image(path, "L" if flow.shape[0] == 1 else "RGB"), path) for path in paths
    ]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise InputError(
                f"{path} is {picture.shape[2]}x{picture.shape[1]}, {paths[0]} "
                f"{pictures[0].shape[2]}x{pictures[0].shape[1]}: compress each size on its own"
            )
    with Progress("compressing", len(paths), unit="picture", quiet=quiet) as progress:
        data = encode(
            flow if level is None else flow.at(level), np.stack(pictures), progress=progress
        )
    atomic_write(out, data)
    code = describe(data)
    if json:
        print_json(
            {
                "out": str(out), "shape": code.shape, "bytes": len(data),
                "borrowed_bits": code.borrowed, "bits_per_dim": code.bits_per_dim,
                "gross_bits_per_dim": code.gross_bits_per_dim,
            }
        )  # fmt: skip
    else:
        print(
            f"{out}: {len(data)} bytes for {code.shape[0]} pictures, {code.gross_bits_per_dim:.3f} "
            f"bits/dim, of which {code.gross_bits_per_dim - code.bits_per_dim:.3f} are borrowed"
        )
    return 0


def _pixels(image, path):
    if image.bits > 8:
        raise UsageError(f"{path} has {image.bits} bits: 8-bit pictures are compressed")
    return (image.tensor * 255).round().byte().numpy()


def decompress(
    file: Path,
    /,
    *,
    model: str = "faces64",
    out: Path = Path("pictures"),
    device: Device = "auto",
    quiet: Quiet = False,
) -> int:
    """The pictures that `innverse compress` made a file of, as PNG files.

    innverse decompress faces.inn --model faces64 --out faces-again

    Parameters
    ----------
    file
        What compress wrote.
    model
        The model that compressed it.
    out
        Folder of the pictures.
    """
    check_writable(out)
    target = start(device)
    from ..coding import decompress as decode
    from ..coding import describe
    from ..data import write_image
    from ..reading import read_bytes
    from .pictures import load_flow_of_images

    data = read_bytes(file)
    n = describe(data).shape[0]
    flow = load_flow_of_images(model, target)
    with Progress("decompressing", n, unit="picture", quiet=quiet) as progress:
        images = decode(flow, data, progress=progress)
    digits = len(str(n - 1))
    for i, image in enumerate(images):
        write_image(out / f"{file.stem}-{i:0{digits}d}.png", image.float() / 255)
    print(f"{n} pictures in {out}")
    return 0
