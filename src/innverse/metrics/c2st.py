"""The classifier two-sample test: how well a network tells two sets of draws apart."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InnverseError, ShapeError


def c2st(x: Tensor, y: Tensor, *, seed: int = 1, folds: int = 5) -> float:
    """The cross-validated accuracy of a classifier between x (n, d) and y (n, d).

    0.5 means that they cannot be told apart, 1 that they have nothing in common. The protocol of
    sbibm (Lueckmann et al. 2021): both standardised by x (the reference), a perceptron with two
    hidden layers of 10 d, trained by scikit-learn's defaults in float32.

    Raises:
        ShapeError: not two matrices of one shape.
        InnverseError: scikit-learn is missing (``pip install innverse[science]``).
    """
    if x.dim() != 2 or x.shape != y.shape:
        raise ShapeError(f"C2ST compares two (n, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    try:
        from sklearn.model_selection import KFold, cross_val_score
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise InnverseError("C2ST needs scikit-learn: pip install innverse[science]") from None
    mean, std = x.mean(0), x.std(0).clamp_min(1e-12)
    data = ((torch.cat((x, y)) - mean) / std).float().numpy()
    target = torch.cat((torch.zeros(len(x)), torch.ones(len(y)))).numpy()
    width = 10 * x.shape[1]
    classifier = MLPClassifier(
        activation="relu", hidden_layer_sizes=(width, width), max_iter=10_000, random_state=seed
    )
    shuffle = KFold(n_splits=folds, shuffle=True, random_state=seed)
    return float(cross_val_score(classifier, data, target, cv=shuffle).mean())
