"""C2ST on normals: the best possible classifier is known."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.errors import ShapeError
from innverse.metrics.c2st import c2st


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_accuracy_is_that_of_the_best_classifier(shift):
    """Two normals a distance s apart: accuracy Phi(s / 2)."""
    pytest.importorskip("sklearn")
    x, y = torch.randn(400, 1), torch.randn(400, 1) + shift
    best = 0.5 * (1 + math.erf(shift / 2 / math.sqrt(2)))
    assert abs(c2st(x, y) - best) < 0.05


def test_shapes_must_agree():
    with pytest.raises(ShapeError, match="C2ST"):
        c2st(torch.zeros(3, 2), torch.zeros(4, 2))
