"""Injective flows: k latents, an exact density on the k-dimensional manifold of what they make.

    z in R^k  --core-->  u in R^k  --W-->  v in R^n  --tail-->  x in R^n

Core and tail are bijections, W has orthonormal columns; v stands with its coarsest scale first. On its
range G = tail W core has the density

    log p(x) = log N(z; 0, I) - log|det dcore/dz| - 1/2 log det(J^T J),    J = dtail(W u)/du

(Kothari et al. 2021, arXiv 2102.10461; Caterini et al. 2021, arXiv 2106.01413).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..accelerate.handwritten import applies
from ..bijections.base import Bijection
from ..bijections.embedding import Embedding
from ..errors import ShapeError, UsageError, warn
from ..gaussian import HALF_LOG_2PI
from ..models.pretrained import Pretrained
from ..models.registry import fits
from ..optim import lbfgs
from ..showing.shown import Shown
from .arguments import as_count, as_data, reference, refuse_half
from .autoregressive import autoregressive
from .base import standard_normal, standard_normal_log_prob
from .couplings import coupling
from .glow import glow, per_level
from .nearest import nearest
from .realnvp_images import realnvp_images
from .registry import register
from .scales import coarse_first, coarse_size, from_coarse_first
from .volume import Volume, gram

_FAR = 3.0  # times the usual distance from the manifold
_ROUNDING = 1e3  # of a way there and back, in units of the last bit
_SEARCH = 50  # steps to the most probable code
_DRAWS = 256  # from which a search may begin too
_SEED = 0
TRAININGS = ("both", "manifold", "density", "joint")


class InjectiveFlow(Shown, Pretrained, nn.Module):
    """A density on a k-dimensional manifold in R^n, with the same verbs as a `Flow`.

    Args:
        core: bijection of vectors (B, k), the normalising direction u -> z.
        embedding: W.
        tail: bijection of items (B, *shape), the normalising direction x -> v.
        shape: of an item, (D,) or (C, H, W); other sizes are not taken.
        spread: weight of the reconstruction in `training_loss`, as a standard deviation.
        training: what `training_loss` is, see there.
        nested: share of the items that are reconstructed from their first latents alone in training,
            a random number of them, so that the first ones say most (nested dropout, Rippel et al.
            2014, arXiv 1402.0915).
        exact_dims: latents up to which the volume is exact; above it is estimated from ``probes``
            random directions, always the same in eval mode.

    Example:
        >>> flow = innverse.flows.build("injective", (3,), latent=2, steps=2, width=16)
        >>> z = torch.randn(4, 2)
        >>> torch.allclose(flow.encode(flow.decode(z)), z, atol=1e-4)
        True
    """

    format = "innverse-flow"
    noise_range = None
    condition = 0
    maps = False
    measurement = None
    multiple = 1
    usual_distance: Tensor

    def __init__(
        self,
        core: Bijection,
        embedding: Embedding,
        tail: Bijection,
        shape: tuple[int, ...],
        spread: float = 0.05,
        training: str = "both",
        nested: float = 0.0,
        exact_dims: int = 256,
        probes: int = 8,
    ):
        super().__init__()
        if training not in TRAININGS:
            raise UsageError(f"training={training!r}: choose one of {', '.join(TRAININGS)}")
        if not spread > 0:
            raise UsageError(f"spread={spread:g}: a distance above 0")
        self.core, self.embedding, self.tail = core, embedding, tail
        self.shape = tuple(int(n) for n in shape)
        if math.prod(self.shape) != embedding.n:
            raise UsageError(f"items of shape {self.shape} do not have {embedding.n} numbers")
        if not 0 <= nested < 1:
            raise UsageError(f"nested={nested:g}: a share from 0 to below 1")
        if nested and training not in ("both", "manifold", "joint"):
            raise UsageError(f"nested={nested:g}: training={training!r} reconstructs nothing")
        self.spread, self.stage, self.nested = spread, training, nested
        self.volume = Volume(exact_dims, probes)
        if training == "density":  # the manifold stays where it is
            tail.requires_grad_(False)
            embedding.requires_grad_(False)
        self.name: str | None = None
        self.config: dict[str, Any] = {}
        self.register_buffer("usual_distance", torch.tensor(math.inf))

    def _card(self):
        from ..showing.model import card

        return card(self)

    @property
    def latent_shape(self) -> tuple[int]:
        return (self.embedding.k,)

    # ---- code -------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """z (B, k) of the projection of x (B, *shape): exact for x on the manifold."""
        return self.core(self._coordinates(self._items(x))[0])[0]

    def decode(self, z: Tensor) -> Tensor:
        """x = G(z); (B, k) -> (B, *shape). Given the first latents only, the others are at 0."""
        refuse_half(reference(self))
        z, k = as_data(z, reference(self), images=False, what="z"), self.embedding.k
        if z.dim() != 2 or not 1 <= z.shape[1] <= k:
            raise ShapeError(f"this flow takes z (B, {k}) or its beginning, got {tuple(z.shape)}")
        return self._made(F.pad(z, (0, k - z.shape[1])))

    def project(self, x: Tensor, steps: int = 0) -> tuple[Tensor, Tensor]:
        """A point of the manifold near x (B, *shape), and its distance from x (B,).

        With ``steps`` = 0 it is G(encode(x)). That left inverse projects orthogonally in the space of
        v; in that of x it does where the tail is an isometry, and is near it where the tail has been
        trained to reconstruct. So many ``steps`` of L-BFGS in u lead from there to the nearest point,
        or from the nearest of 256 draws, where that is nearer: another turn of a roll may be.
        """
        x = self._items(x)
        u = self._coordinates(x)[0]
        if steps:
            u = nearest(self._point, x, self._beginning(x, u), steps)
        on_it = self._point(u)
        return on_it, (x - on_it).flatten(1).norm(dim=1)

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        c: None = None,
        temperature: float = 1.0,
        *,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` draws (n, *shape) on the manifold, without gradient; see `Flow.sample`."""
        if c is not None or size not in (None, self.shape[1:]):
            raise UsageError("an injective flow takes no condition and makes one size only")
        lead = as_count(n)
        like = next(self.parameters())
        options = {"truncation": truncation, "generator": generator, "like": like}
        z = standard_normal((math.prod(lead), self.embedding.k), temperature, **options)
        with torch.no_grad():
            x = self.decode(z)
        return x.reshape(*lead, *x.shape[1:])

    # ---- density ----------------------------------------------------------------------------

    def log_prob(self, x: Tensor, noise: float | None = None, samples: int = 16) -> Tensor:
        """log p in nats (B,) of x (B, *shape).

        Without ``noise``: at G(encode(x)), with respect to the k-dimensional volume of the
        manifold, by k products with the Jacobian; above ``exact_dims`` latents the volume is an
        estimate. x that is far from the manifold is warned of. With ``noise``, a standard deviation:
        of x itself in R^n, as a point of the manifold with N(0, noise^2 I) on it,

            p(x) = int N(z; 0, I) N(x; G(z), noise^2 I) dz,

        by ``samples`` importance-weighted draws, the same at every call, around the most probable z. It
        is exact on a flat manifold, and on a curved one a bound from below, in expectation, that is
        the closer the smaller the noise (Burda et al. 2016).
        """
        x = self._items(x)
        if noise is not None:
            return self._log_prob_with_noise(x, noise, samples)
        u, _, _ = self._coordinates(x)
        self._warn_if_far(x, u)
        z, log_det = self.core(u)
        volume = self.volume(self._point, u, fresh=self.training)
        return standard_normal_log_prob(z) + log_det - volume

    def forward(self, x: Tensor) -> Tensor:
        """`log_prob`."""
        return self.log_prob(x)

    def training_loss(self, x: Tensor) -> Tensor:
        """||x - G(encode(x))||^2 / (2 spread^2) - log p of the code, in nats per number of x.

        ``training`` says of which: "manifold" of the first alone, which trains tail and W; "density" of
        the second alone, on a manifold that stays: the two stages of Brehmer & Cranmer 2020 (arXiv
        2003.13913). "both" runs them side by side, neither knowing of the other. "joint" is the
        likelihood of the manifold with its volume, which moves the manifold too (rectangular flows,
        Caterini et al. 2021); its gradient of the volume is exact up to ``exact_dims`` latents, and
        above estimated by conjugate gradients.
        """
        x = self._items(x)
        u, _, _ = self._coordinates(x)
        loss = x.new_zeros(len(x))
        if self.stage != "density":
            point, whole = (
                self._cut_short(u) if self.nested else (self._point(u), torch.ones_like(loss))
            )
            squares = (x - point).flatten(1).square().sum(1)
            loss = loss + 0.5 * squares / self.spread**2
            self._note_distance(squares, whole)
        if self.stage != "manifold":
            z, log_det = self.core(u if self.stage == "joint" else u.detach())
            loss = loss - standard_normal_log_prob(z) - log_det
        if self.stage == "joint":
            loss = loss + self.volume(self._point, u, value=False, fresh=True)
        return loss.mean() / self.embedding.n

    def code_nats(self, x: Tensor) -> Tensor:
        """-log p of the coordinates u of x (B, *shape), in nats for each of the k: (B,).

        What training the density lowers, without the volume of the manifold.
        """
        z, log_det = self.core(self._coordinates(self._items(x))[0])
        return -(standard_normal_log_prob(z) + log_det) / self.embedding.k

    def _cut_short(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The points of the first latents alone, for a random share of the items; 1 for the others."""
        z = self.core(u)[0]
        whole = torch.rand(len(z), 1, device=z.device) >= self.nested
        keep = torch.randint(1, z.shape[1] + 1, (len(z), 1), device=z.device)
        first = torch.arange(z.shape[1], device=z.device) < keep
        return self._made(torch.where(whole | first, z, 0.0)), whole[:, 0].to(z)

    @torch.no_grad()
    def _note_distance(self, squares: Tensor, whole: Tensor) -> None:
        if self.training:
            old = self.usual_distance
            now = ((squares * whole).sum() / whole.sum()).sqrt()  # NaN where all were cut
            now = torch.where(now.isfinite(), now, old)
            self.usual_distance.copy_(torch.where(old.isfinite(), old.lerp(now, 0.01), now))

    def fit(self, x, c=None, **options):
        """Train on rows x; returns the `History`: see `innverse.fit`."""
        from ..fitting import fit

        return fit(self, x, c, **options)

    # ---- inside -----------------------------------------------------------------------------

    @property
    def items_to_start(self) -> int:
        """How many items `initialize` should be given: enough for k principal components."""
        return 4 * self.embedding.k

    def initialize_(self, x: Tensor, c: None = None) -> Tensor:
        # the tail of images stays the isometry that it begins as: whitened channels would give fine
        # noise the same weight as outlines, and what W projects on would not be near in x
        x = self._items(x)
        v = self.tail(x)[0] if x.dim() == 4 else self.tail.initialize_(x)
        u = self.embedding.initialize_(coarse_first(self.tail, v))
        if len(x) > 2 * self.embedding.k:  # fewer lie on the components they are the source of
            distance = (x - self._point(u)).flatten(1).square().sum(1).mean().sqrt()
            self.usual_distance.copy_(distance)
        return self.core.initialize_(u)

    def as_data(self, x, what: str = "x") -> Tensor:
        """x as the tensor that is computed with."""
        return self._items(x)

    def _items(self, x) -> Tensor:
        refuse_half(like := reference(self))
        x = as_data(x, like, images=len(self.shape) == 3)
        if tuple(x.shape[1:]) != self.shape:
            want = ", ".join(map(str, self.shape))
            raise ShapeError(f"this flow takes (B, {want}), got {tuple(x.shape)}")
        return x

    def _coordinates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u (B, k), v (B, n) and log|det dv/dx| (B,)."""
        v, log_det = self.tail(x)
        v = coarse_first(self.tail, v)
        return self.embedding.left_inverse(v), v, log_det

    def _made(self, z: Tensor) -> Tensor:
        return self._point(self.core.inverse(z)[0])

    def _point(self, u: Tensor) -> Tensor:
        """The point of the manifold with the coordinates u."""
        return self.tail.inverse(from_coarse_first(self.tail, self.embedding(u), self.shape))[0]

    def _log_prob_with_noise(self, x: Tensor, noise: float, samples: int) -> Tensor:
        if not (fits(noise, float) and 0 < noise < math.inf):
            raise UsageError(f"noise={noise!r}: give a standard deviation, a number above 0")
        if not (fits(samples, int) and samples >= 1):
            raise UsageError(f"samples={samples!r}: a whole number, at least 1")
        mode, factor = self._posterior(x.detach(), noise)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        floor = self.embedding.n * (HALF_LOG_2PI + math.log(noise))
        g = torch.Generator().manual_seed(_SEED)
        total = x.new_full((len(x),), -math.inf)
        for _ in range(samples):
            eps = torch.randn(mode.shape[1], generator=g).to(mode).expand_as(mode)
            z = mode + torch.linalg.solve_triangular(factor.mT, eps[..., None], upper=True)[..., 0]
            off = (x - self._made(z)).flatten(1).square().sum(1)
            log_joint = standard_normal_log_prob(z) - 0.5 * off / noise**2 - floor
            total = torch.logaddexp(total, log_joint - standard_normal_log_prob(eps) - log_det)
        return total - math.log(samples)

    @torch.no_grad()
    def _beginning(self, x: Tensor, u: Tensor) -> Tensor:
        """The coordinates u of x, or those of the nearest of some draws, where that is nearer to x."""
        if not applies():  # under torch.func, where the search itself says that it cannot
            return u
        g = torch.Generator().manual_seed(_SEED)
        draws = self.core.inverse(torch.randn(_DRAWS, u.shape[1], generator=g).to(u))[0]
        distances = torch.cdist(x.flatten(1), self._point(draws).flatten(1))
        least, which = distances.min(1)
        nearer = least < (x - self._point(u)).flatten(1).norm(dim=1)
        return torch.where(nearer[:, None], draws[which], u)

    @torch.no_grad()
    def _posterior(self, x: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """Of N(z; 0, I) N(x; G(z), noise^2 I): its mode (B, k), and the Cholesky factor (B, k, k) of
        I + J^T J / noise^2 there, J = dG/dz; NaN for items that are not finite."""

        def energy(z: Tensor, items: Tensor) -> Tensor:
            off = (x[items] - self._made(z)).flatten(1).square().sum(1)
            return 0.5 * z.square().sum(1) + 0.5 * off / noise**2

        begin = self.core(self._beginning(x, self._coordinates(x)[0]))[0]
        mode = lbfgs.minimize(energy, begin, max_iter=_SEARCH).z
        # in float64, where rounding leaves it positive definite at any noise
        precision = gram(self._made, mode, torch.float64) / noise**2
        precision.diagonal(dim1=1, dim2=2).add_(1)
        factor, failed = torch.linalg.cholesky_ex(precision)
        return mode, factor.masked_fill((failed > 0)[:, None, None], math.nan).to(mode)

    def _warn_if_far(self, x: Tensor, u: Tensor) -> None:
        usual = self.usual_distance
        if not applies() or not bool(usual.isfinite()):  # transforms of torch.func know no values
            return
        with torch.no_grad():
            distance = (x - self._point(u)).flatten(1).norm(dim=1)
            rounding = _ROUNDING * torch.finfo(x.dtype).eps * x.flatten(1).norm(dim=1)
        far = int((distance > _FAR * usual + rounding).sum())
        if far:
            warn(
                f"{far} of {len(x)} items are more than {_FAR:g} times as far from the manifold as "
                "those of training: their log_prob is that of another point, their projection"
            )


@register(axes=(1, 3))
def injective(
    shape: tuple[int, ...],
    *,
    latent: int | None = None,
    steps: int = 4,
    width: int = 128,
    depth: int = 2,
    transform: str = "spline",
    levels: int | None = None,
    tail_steps: int | tuple[int, ...] = 4,
    hidden: int | tuple[int, ...] = 48,
    coarse: int = 0,
    learned: bool = True,
    spread: float = 0.05,
    training: str = "both",
    nested: float = 0.0,
) -> InjectiveFlow:
    """An explicit low-dimensional code with an exact density on its manifold.

    Args:
        shape: (D,) or (C, H, W).
        latent: k, the numbers of a code; by default an eighth of those of an item, 2 to 64.
        steps, width, depth, transform: of the core, couplings of k numbers, see `coupling`.
        levels, tail_steps, hidden: of the tail: a multi-scale `glow` of images with ``hidden``
            channels, both also by level, finest first, by default of 3 levels or as often as the sides
            can be halved (never: a `realnvp` of one scale); of vectors, ``levels * tail_steps`` affine
            couplings of ``hidden`` features.
        coarse: W makes the latents of so many of the tail's coarsest scales, and the finer ones are
            at their mode; 0: of all. It has k columns of as many numbers.
        learned: W is learned; else it pads with zeros, the coarsest latents first.
        spread: the distance from the manifold that counts as much as one nat, per number of x.
        training: what `innverse train` and ``fit`` minimise, "both", "manifold", "density" or
            "joint": see `InjectiveFlow.training_loss`.
        nested: share of the items in training whose codes are cut short, which puts the latents in the
            order of what they say; 0: none.
    """
    n = math.prod(shape)
    if n < 2:
        raise UsageError(f"items of shape {shape} have no manifold of fewer numbers")
    latent = max(2, min(64, n // 8)) if latent is None else latent
    if not 1 <= latent <= n:
        raise UsageError(f"latent={latent}: from 1 to {n}, the numbers of an item")
    halved = next(k for k in (3, 2, 1, 0) if len(shape) < 3 or not any(s % 2**k for s in shape[1:]))
    levels = halved if levels is None else levels
    if len(shape) == 3 and any(s % 2**levels for s in shape[1:]):
        raise UsageError(
            f"levels={levels}: sides of {shape[1:]} halve {halved} times at most: nothing is padded"
        )
    form = {"transform": transform, "layers": steps, "width": width, "depth": depth, "mix": "lu"}
    core = (coupling if latent > 1 else autoregressive)((latent,), **form).bijection
    if len(shape) == 3 and levels:
        tail = glow(shape, levels=levels, steps=tail_steps, hidden=hidden, activation="silu",
                    squeeze="haar", mix="swap").bijection  # fmt: skip
    elif isinstance(hidden, (tuple, list)):
        raise UsageError(f"hidden={hidden}: one number, since items of {shape} have no levels")
    elif len(shape) == 3:
        tail = realnvp_images(shape, levels=1, hidden=hidden).bijection
    else:
        layers = sum(per_level(tail_steps, levels, "tail_steps"))
        tail = coupling(shape, layers=layers, width=hidden, mix="lu").bijection
    among = coarse_size(tail, shape, coarse) if coarse else n
    if latent > among:
        raise UsageError(f"latent={latent}: coarse={coarse} scales have {among} numbers")
    embedding = Embedding(latent, n, learned, among)
    return InjectiveFlow(core, embedding, tail, shape, spread, training, nested)
