"""Draws for the tools of statisticians: ArviZ."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ....errors import InnverseError

if TYPE_CHECKING:
    from ...reconstruction import Reconstruction

__all__ = ["to_arviz"]

_AXES = ["item", "channel", "row", "column"]
_MISSING = "to_arviz needs ArviZ: pip install arviz"


def to_arviz(result: Reconstruction) -> Any:
    """The draws (chain, draw, item, channel, row, column) as "x" of the group ``posterior``, with the
    measurement as ``observed_data``: a DataTree (arviz-base, ArviZ 1.0 or newer), or InferenceData
    of an older ArviZ.

    Raises:
        InnverseError: ArviZ is not installed.
    """
    groups = {"posterior": {"x": result.by_chain.detach().cpu().numpy()}}
    if result.measured is not None:
        groups["observed_data"] = {"y": result.measured.y.detach().cpu().numpy()}
    try:
        from_dict = import_module("arviz_base").from_dict
    except ImportError:
        try:
            from_dict = import_module("arviz").from_dict
        except ImportError:
            raise InnverseError(_MISSING) from None
        tree = from_dict(**groups, dims={"x": _AXES})
    else:
        tree = from_dict(groups, dims={"x": _AXES})
    tree["posterior"].attrs |= {
        "inference_library": "innverse",
        "method": result.method,
        "quantity": result.quantity,
    }
    return tree
