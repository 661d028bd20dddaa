"""The bi-directional INN: approximate the simulator by an invertible network, get the inverse free.

Ardizzone et al. 2018 (arXiv 1808.04730). With u the (unbounded, standardised) parameters, y the
standardised observation, z latent variables that hold what y leaves open, and zeros as padding:

    [y, z, 0] = f([u, 0])           forward: a simulator, learned from pairs
    [u, 0]    = f^-1([y, z, 0])     backward, with z ~ N(0, I): draws of p(u | y)

Losses: y is supervised; MMD on (y, z), with the gradient to y blocked, makes z normal and
independent of y; MMD on u backwards speeds this up; padding is kept at zero, and inverting a
slightly moved (z, padding) must give the same u. One term is ours: what comes out backwards, its
padding set to zero again, must give y forwards. Without it f may send a wrong u to y by means of
what lies in the padding, and modes end up at the wrong observation.

The maximum-likelihood variant (Kruse et al. 2021) replaces both MMDs by the change of variables:

    |z|^2 / 2 + |f_y - y|^2 / (2 s^2) + |padding|^2 / (2 p^2) - log|det df|

which is the density of (u, its padding) if y and the padding carry noise of s and p. Both variants
learn with this noise, so their draws carry it too; without it they collapse onto curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import flows
from ..errors import ShapeError, UsageError
from ..fitting.schedule import History, schedule_of
from ..fitting.training import Training
from ..flows.flow import Flow
from ..metrics.mmd import inverse_multiquadratic, mmd2
from ..seeding import seeded
from ..showing.shown import PairPlotted
from . import files
from .checks import as_observations, as_rows, as_shape, check_seed
from .fit import checked_pairs
from .parameters import ParameterTransform
from .standardize import Standardize

_FLOWS = {  # the name of each, and its options
    "affine": ("realnvp", {"mix": "permute", "norm": False, "standardize": False}),
    "spline": ("nsf", {"standardize": False}),
}
_FORMAT = files.form("innverse-bidirectional-posterior", {"sizes": list, "options": dict})


@dataclass(frozen=True)
class Weights:
    """Weights of the losses, and the sizes of the noise that is added.

    ``y``, ``latent``, ``backward``, ``padding``, ``reconstruction``, ``again``: factors of the
    terms above. ``padding_noise``: p, standard deviation of what is fed in place of zeros;
    ``moved``: of the perturbation before reconstruction; ``y_noise``: s, and what y carries in the
    MMDs.
    """

    y: float = 3.0
    latent: float = 300.0
    backward: float = 400.0
    padding: float = 30.0
    reconstruction: float = 3.0
    again: float = 3.0
    padding_noise: float = 0.05
    moved: float = 0.01
    y_noise: float = 0.1


class BidirectionalINN(nn.Module):
    """f and its losses for ``d`` parameters, ``m`` observed numbers, ``k`` latents.

    The width is max(d, m + k) and at least ``width``; both sides are padded up to it. ``flow`` holds
    options of the flow of ``"affine"`` or ``"spline"`` couplings.

    Example:
        >>> from innverse.amortized.bidirectional import Weights
        >>> options = {"layers": 2, "width": 8}
        >>> inn = BidirectionalINN(2, 1, 2, flow=options, weights=Weights(), width=4)
        >>> y, z, padding, log_det = inn(torch.randn(5, 2))
        >>> y.shape, z.shape, padding.shape
        (torch.Size([5, 1]), torch.Size([5, 2]), torch.Size([5, 1]))
        >>> inn.inverse(y, z, padding).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        d: int,
        m: int,
        k: int,
        *,
        flow: dict,
        weights: Weights,
        width: int = 0,
        couplings: str = "affine",
    ):
        super().__init__()
        self.options = {
            "flow": flow,
            "weights": asdict(weights),
            "width": width,
            "couplings": couplings,
        }
        self.d, self.m, self.k = d, m, k
        self.width = max(d, m + k, width, 2)
        self.weights = weights
        name, defaults = _FLOWS[couplings]
        self.flow: Flow = flows.build(name, (self.width,), **defaults | flow)

    def forward(self, u: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u (B, d) -> y (B, m), z (B, k), padding (B, width - m - k), log|det| (B,)."""
        out, log_det = self.flow.bijection(self._padded(u, noise))
        return *out.split((self.m, self.k, self.width - self.m - self.k), 1), log_det

    def inverse(self, y: Tensor, z: Tensor, padding: Tensor | None = None) -> Tensor:
        """u and its padding (B, width), from y (B, m), z (B, k) and padding (zeros by default)."""
        if padding is None:
            padding = y.new_zeros(len(y), self.width - self.m - self.k)
        return self.flow.bijection.inverse(torch.cat((y, z, padding), 1))[0]

    def initialize_(self, u: Tensor) -> None:
        """Set the ActNorms, where there are any, from parameters u (B, d)."""
        self.flow.initialize_(self._padded(u, self.weights.padding_noise))

    def mmd_losses(self, u: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The six terms of the bi-directional training, scalars, without their weights."""
        w, kernel = self.weights, inverse_multiquadratic()
        y_hat, z_hat, padding, _ = self(u, w.padding_noise)
        # the gradient to y is blocked: z has to adapt to y, not y to z
        joint = torch.cat((self._noisy(y_hat.detach()), z_hat), 1)
        target = torch.cat((self._noisy(y), torch.randn_like(z_hat)), 1)
        back = self.inverse(
            self._noisy(y), torch.randn_like(z_hat), w.padding_noise * torch.randn_like(padding)
        )
        moved = self.inverse(
            y_hat,
            z_hat + w.moved * torch.randn_like(z_hat),
            padding + w.moved * torch.randn_like(padding),
        )
        u_back, u_padding = back.split((self.d, self.width - self.d), 1)
        return {
            "y": (y_hat - y).square().sum(1).mean(),
            "latent": mmd2(joint, target, kernel, unbiased=False),
            "backward": mmd2(u_back, u, kernel, unbiased=False),
            "padding": padding.square().sum(1).mean() + u_padding.square().sum(1).mean(),
            "reconstruction": (moved[:, : self.d] - u).square().sum(1).mean(),
            "again": (self(u_back, w.padding_noise)[0] - y).square().sum(1).mean(),
        }

    def likelihood_loss(self, u: Tensor, y: Tensor) -> Tensor:
        """The terms of the maximum-likelihood variant, (B,)."""
        w = self.weights
        y_hat, z, padding, log_det = self(u, w.padding_noise)
        misfit = (y_hat - y).square().sum(1) / w.y_noise**2
        spare = padding.square().sum(1) / w.padding_noise**2
        return 0.5 * (z.square().sum(1) + misfit + spare) - log_det

    def draw(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One u (B, d) for each y (B, m)."""
        z = torch.randn(len(y), self.k, generator=generator)
        rest = self.width - self.m - self.k
        padding = self.weights.padding_noise * torch.randn(len(y), rest, generator=generator)
        return self.inverse(self._noisy(y, generator), z, padding)[:, : self.d]

    def _noisy(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return y + self.weights.y_noise * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    def _padded(self, u: Tensor, noise: float) -> Tensor:
        padding = u.new_zeros(len(u), self.width - self.d)
        # without noise no number is drawn
        padding = noise * torch.randn_like(padding) if noise else padding
        return torch.cat((u, padding), 1)


class BidirectionalPosterior(PairPlotted):
    """A learned simulator and its inverse: `predict` forwards, `sample` backwards.

    ``sample`` and ``sample_batched`` are those of `Posterior`; there is no density.

    Example:
        >>> theta = torch.rand(200, 2)
        >>> both = fit_bidirectional(theta, theta[:, :1], layers=1, max_epochs=1, progress=False)
        >>> both.predict(theta[:3]).shape, both.sample((5,), x=[0.5]).shape
        (torch.Size([3, 1]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        network: BidirectionalINN,
        transform: ParameterTransform,
        standardize: Standardize,
        names: list[str],
        history: History | None,
    ):
        self.network = network.eval().requires_grad_(False)
        self.transform, self.standardize = transform, standardize
        self.names, self.history = names, history

    @property
    def x_shape(self) -> tuple[int, ...]:
        return self.standardize.shape

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into ``folder``."""
        f = self.network
        facts = {"names": self.names, "sizes": [f.d, f.m, f.k], "options": f.options}
        files.save(folder, _FORMAT, self._modules(), self.transform, self.history, facts)

    @classmethod
    def load(cls, folder: str | Path) -> BidirectionalPosterior:
        """Read what `save` wrote; InputError when it is missing or damaged."""

        def build(made: dict[str, Any], history: History | None) -> BidirectionalPosterior:
            (d, m, k), options = made["sizes"], dict(made["options"])
            options["weights"] = Weights(**options["weights"])
            transform, standardize = files.transform_of(made), Standardize((m,))
            network = BidirectionalINN(d, m, k, **options)
            return cls(network, transform, standardize, made["names"], history)

        return files.load(folder, _FORMAT, build, lambda p: p._modules())[0]

    def _card(self):
        from ..showing.posterior import bidirectional

        return bidirectional(self)

    def _modules(self) -> nn.ModuleDict:
        parts = {"network": self.network, "transform": self.transform}
        return nn.ModuleDict(parts | {"standardize": self.standardize})

    def predict(self, theta) -> Tensor:
        """The observation (B, m) that belongs to parameters theta (B, D)."""
        theta = as_rows(theta, "theta")
        if theta.shape[1:] != (len(self.names),):
            raise ShapeError(f"theta must be (B, {len(self.names)}), got {tuple(theta.shape)}")
        if not len(theta):
            return theta.new_zeros(0, *self.x_shape)
        with torch.no_grad():
            y = self.network(self.transform(theta)[0])[0].double()
            z = torch.where(self.standardize.heavy, y.sinh(), y)
            return (z * self.standardize.scale + self.standardize.loc).to(theta.dtype)

    def sample(
        self, sample_shape=(), x=None, *, generator=None, show_progress_bars=False
    ) -> Tensor:
        """Draws (*sample_shape, D) of p(theta | x) for one observation x (m,) or (1, m)."""
        x = as_observations(x, self.x_shape)
        if len(x) != 1:
            raise ShapeError(f"x must be one observation {self.x_shape}, got {tuple(x.shape)}")
        return self.sample_batched(sample_shape, x, generator=generator).squeeze(-2)

    def sample_batched(
        self, sample_shape, x, *, generator=None, show_progress_bars: bool = False
    ) -> Tensor:
        """Draws (*sample_shape, B, D) for observations x (B, m)."""
        x, shape = as_observations(x, self.x_shape), as_shape(sample_shape)
        with torch.no_grad():
            y = self.standardize(x)
            y = y.expand(shape.numel(), *y.shape).reshape(-1, y.shape[1])
            parts = y.split(16_384) if len(y) else ()  # no network is asked about nothing
            u = [self.network.draw(part, generator) for part in parts]
            u = torch.cat(u) if u else y.new_zeros(0, self.network.d)
            return self.transform.inverse(u).reshape(*shape, len(x), len(self.names))


def fit_bidirectional(
    theta,
    x,
    *,
    loss: str = "mmd",
    latent: int | None = None,
    prior=None,
    bounds=None,
    names: Sequence[str] | None = None,
    couplings: str | None = None,
    layers: int = 6,
    width: int = 64,
    pad_to: int = 16,
    weights: Weights | None = None,
    seed: int = 0,
    progress: bool = True,
    **schedule: Any,
) -> BidirectionalPosterior:
    """Train the bi-directional INN on pairs theta (N, D) and x (N, m).

    Args:
        loss: ``"mmd"`` (the six losses) or ``"ml"`` (maximum likelihood).
        latent: k, by default D (at least as much as x can leave open).
        couplings: ``"affine"``, as published, or ``"spline"``, which leaves fewer bridges between
            the modes of a posterior and takes three times as long; by default affine for ``"mmd"``
            and spline for ``"ml"``.
        layers, width: number of couplings and the width of their networks.
        pad_to: least width of the INN. One that is just as wide as D or m + k ask for has no room
            to come apart, and may fail to train.
        weights: see `Weights`.
        schedule: see `Schedule`; batches of 512 and at most 100 epochs by default.
        Others: as in `fit`.

    Raises:
        UsageError, InputError, ShapeError: one line that says what is wrong.

    Example:
        >>> theta = torch.rand(200, 2)
        >>> options = {"layers": 1, "width": 8, "max_epochs": 1, "progress": False}
        >>> fit_bidirectional(theta, theta[:, :1], loss="ml", **options).sample((5,), x=[0.5]).shape
        torch.Size([5, 2])
    """
    check_seed(seed)
    if loss not in ("mmd", "ml"):
        raise UsageError(f"loss={loss!r}: choose mmd or ml")
    # as published; a gap in nats, by which decays are tried, says nothing of the MMDs' terms
    limits = schedule_of(**{"batch_size": 512, "max_epochs": 100, "weight_decay": 1e-4} | schedule)
    if couplings is None:
        couplings = "spline" if loss == "ml" else "affine"
    if couplings not in _FLOWS:
        raise UsageError(f"couplings={couplings!r}: choose affine or spline")
    pairs = checked_pairs(theta, x, prior, bounds, names)
    theta, x, region, n = pairs.theta, pairs.x, pairs.region, len(pairs.theta)
    if x.dim() != 2:
        raise ShapeError(f"the bi-directional INN takes vectors x (N, m), not {tuple(x.shape)}")
    d = region.free
    transform = ParameterTransform(region, dtype=theta.dtype)
    standardize = Standardize(tuple(x.shape[1:]))
    weights = weights or Weights()
    with seeded(seed):
        order = torch.randperm(n)
        split = max(n // 10, 10)
        transform.learn(theta[order[split:]])
        standardize.learn(x[order[split:]])
        u, y = transform(theta)[0], standardize(x)
        network = BidirectionalINN(
            d,
            x.shape[1],
            d if latent is None else latent,
            flow={"layers": layers, "width": width},
            weights=weights,
            width=pad_to,
            couplings=couplings,
        )
        rows, test = order[split:], order[:split][:2048]
        network.initialize_(u[rows[:4096]])

        def objective(u: Tensor, y: Tensor) -> Tensor:
            if loss == "ml":
                return network.likelihood_loss(u, y)
            terms = network.mmd_losses(u, y)
            return sum(getattr(weights, name) * value for name, value in terms.items()).expand(
                len(u)
            )

        data, held_out = (u[rows], y[rows]), (u[test], y[test])
        training = Training(network, objective, data, held_out, limits, seed)
        history = training.run(progress=progress)
    return BidirectionalPosterior(network, transform, standardize, pairs.names, history)
