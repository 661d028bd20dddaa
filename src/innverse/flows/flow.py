"""Flow: a bijection and a standard normal make a density, a sampler and an exact code."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..accelerate import handwritten
from ..accelerate.captured import Graphed
from ..accelerate.constant import kept_with_promise, remember
from ..bijections.base import Bijection
from ..bijections.chain import set_memory
from ..bijections.standardize import Standardize, standardizes
from ..device import runs_ahead
from ..errors import InputError, ShapeError, UsageError
from ..models.pretrained import Pretrained
from ..showing.shown import Shown
from .arguments import (
    as_condition,
    as_count,
    as_data,
    as_sigma,
    as_tensor,
    reference,
    refuse_half,
)
from .base import standard_normal, standard_normal_log_prob
from .conditioned import ConditionedFlow, condition_is_c
from .dequantized import dequantized
from .noise import NoiseLevel
from .padding import (
    is_before_padding,
    pad_map,
    pad_map_of_latent,
    pad_to_multiple,
    padded_size,
    round_up,
    size_of,
)
from .scales import CoarseFlow, coarse_first, coarse_size, from_coarse_first


class Flow(Shown, Pretrained, nn.Module):
    """p(x) = N(f(x); 0, I) |det df/dx|, exactly (Dinh et al. 2014; Kingma & Dhariwal 2018).

    Args:
        bijection: f, from data x to latent z of the same shape.
        shape: of one item, (D,) or (C, H, W). A convolutional flow takes other H and W too.
        noise: (low, high) if the flow is conditioned on a noise level; the condition ``c`` is
            then sigma, a float or a tensor (B,) or (B, 1) within this range, embedded in
            ``noise_width`` features.
        condition: the number k of channels of any other condition (0: none). ``c`` is then (B, k)
            or, one for all items, (k,) or (1, k), in units of its own: `initialize` sets
            ``condition_scale``, a `Standardize` (None takes c as it is).
        condition_net: makes of c what the layers take as their condition.
        maps: of images, whether c may also be a map (B, k, h, w), or (k, h, w) for all items.
        multiple: H and W must divide by this; other sizes are padded by reflection, and a map with
            them.

    Attributes:
        name, config: what `innverse.flows.build` makes the same flow again of; None and empty of a
            flow built by hand, which files describe by its layers.
        symmetries: under which training turned the images at random, so that the density hardly
            tells them apart: any of "mirror" (left-right) and "transpose". `denoise` averages
            over them.
        measurement: of a flow that was trained to answer measurements of pictures: ``physics``, its
            ``options``, ``noise`` [low, high] and ``sigma``, see `innverse.train`; else None.
        x_range, units: of a model of slices with units, the values that it has at 0 and 1 (-1024 to
            3071 "HU"), by which `innverse.restoration.restore` maps files; None of pictures.
        shift: pixels between the places at which `denoise` lays its grid.

    Images live on [0, 1]. All methods are differentiable unless they say otherwise. Data and
    condition may be arrays and of other types: they are taken to the type of the parameters,
    float32 or float64. Batches may be empty.

    Raises (all methods): ShapeError for a shape that does not fit; InputError for integer pixels,
    a noise level outside the range, complex numbers, parameters in half precision; each in one line.

    Example:
        >>> flow = innverse.flows.build("realnvp", (2,))
        >>> x = torch.randn(16, 2)
        >>> flow.log_prob(x).shape, flow.sample(3).shape
        (torch.Size([16]), torch.Size([3, 2]))
        >>> torch.allclose(flow.decode(flow.encode(x)), x, atol=1e-4)
        True
    """

    format = "innverse-flow"

    def __init__(
        self,
        bijection: Bijection,
        shape: tuple[int, ...],
        *,
        noise: tuple[float, float] | None = None,
        noise_width: int = 32,
        condition: int = 0,
        condition_net: nn.Module | None = None,
        maps: bool = True,
        multiple: int = 1,
    ):
        super().__init__()
        if noise is not None and condition:
            raise UsageError("noise and condition: a flow is conditioned on one or on the other")
        self.bijection = bijection
        self.shape = tuple(int(n) for n in shape)
        self.noise = NoiseLevel(*noise, noise_width) if noise is not None else None
        self.condition, self.maps = condition, maps
        self.condition_scale = Standardize(condition) if condition else None
        self.condition_net = condition_net
        self.multiple = multiple
        self.name: str | None = None
        self.config: dict[str, Any] = {}
        self.symmetries: tuple[str, ...] = ()
        self.measurement: dict[str, Any] | None = None
        self.x_range: tuple[float, float] | None = None
        self.units: str = ""
        self.shift: int = 1

    # ---- what it is -------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def noise_range(self) -> tuple[float, float] | None:
        """The (low, high) noise levels it is conditioned on, or None."""
        return None if self.noise is None else (self.noise.low, self.noise.high)

    # ---- density and code -------------------------------------------------------------------

    @condition_is_c
    def log_prob(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        """log p(x | c) in nats of each item; x (B, *shape) -> (B,).

        An image whose sides do not divide by ``multiple`` is padded by reflection first, as is a
        condition that is a map: the value is that of the padded image.
        """
        if graphed := self._graphed(x, "log_prob", lambda: self._log_prob):
            return graphed(self.as_data(x), _as_input(c, x))
        return self._log_prob(x, c)

    def _log_prob(self, x: Tensor, c: Tensor | float | None) -> Tensor:
        z, logdet = self.bijection(*self._given(x, c))
        return standard_normal_log_prob(z) + logdet

    def forward(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        """`log_prob`, so that what goes through a module's call trains and exports the density."""
        return self.log_prob(x, c)

    @condition_is_c
    def bits_per_dim(
        self, x: Tensor, c: Tensor | float | None = None, *, levels: int = 256
    ) -> Tensor:
        """-log2 p(x) per dimension, for data on [0, 1] dequantised from ``levels`` levels.

        Integers 0 .. levels - 1 are dequantised here, x = (v + u) / levels with u uniform (Theis et
        al. 2016), by torch's global generator.
        """
        x = dequantized(as_tensor(x, "x"), levels)
        dims = math.prod(self.padded_shape(self.as_data(x).shape)[1:])
        return math.log2(levels) - self.log_prob(x, c) / (dims * math.log(2))

    @condition_is_c
    def encode(
        self, x: Tensor, c: Tensor | float | None = None, *, levels: int | None = None
    ) -> Tensor:
        """The exact latent z = f(x), of the shape of x (padded to ``multiple`` if need be).

        ``levels`` gives the latents of so many of the coarsest scales only, in a row (B, m).
        """
        z = self.bijection(*self._given(x, c))[0]
        if levels is None:
            return z
        m = coarse_size(self.bijection, tuple(z.shape[1:]), levels)
        return coarse_first(self.bijection, z)[:, :m]

    @condition_is_c
    def decode(
        self,
        z: Tensor,
        c: Tensor | float | None = None,
        *,
        size: tuple[int, int] | None = None,
        levels: int | None = None,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """x = f^-1(z).

        ``size`` = (H, W) is that of the image before its padding, if z is the latent of a padded
        one: the result is cropped to it. A map c is padded like the image it is as large as.
        With ``levels`` z is what `encode` gave with it, (B, m): all finer latents are at their mode,
        0, or drawn at a ``temperature`` above 0.
        """
        if levels is not None:
            z = self._with_fine(z, levels, size, temperature, generator)
        decode = lambda: lambda z, c: self._decode(z, c, size)  # noqa: E731
        if graphed := self._graphed(z, ("decode", size), decode):
            return graphed(self.as_data(z, "z"), _as_input(c, z))
        return self._decode(z, c, size)

    def _decode(self, z: Tensor, c: Tensor | float | None, size) -> Tensor:
        z, c = self._given_latent(z, c, size)
        x = self._invert(z, c)
        return x if size is None else x[..., : size[0], : size[1]]

    @condition_is_c
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        c: Tensor | float | None = None,
        temperature: float = 1.0,
        *,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` draws (n, *shape), without gradient; ``size`` = (H, W) overrides the image size.

        ``n`` may be a shape: (2, 3) gives (2, 3, *shape). ``temperature`` >= 0 scales the latent's
        standard deviation; coordinates of the latent beyond ``truncation`` standard deviations are
        drawn again. c is one condition for all draws, or one for each. Images whose sides do not
        divide by ``multiple`` are cropped from larger draws.
        """
        lead = as_count(n)
        if len(lead) > 1 and isinstance(c, Tensor) and c.shape[: len(lead)] == lead:
            c = c.flatten(0, len(lead) - 1)
        options = {"size": size, "truncation": truncation, "generator": generator}
        with torch.no_grad():
            x = self.draw(math.prod(lead), c, temperature, **options)
        return x.reshape(*lead, *x.shape[1:])

    def draw(
        self,
        count: int,
        c: Tensor | float | None = None,
        temperature: float = 1.0,
        *,
        size: tuple[int, int] | None = None,
        **options,
    ) -> Tensor:
        """`sample` of a number of items with its gradient, that of parameters and condition."""
        item = self.shape
        if len(item) == 3:
            size = item[1:] if size is None else tuple(size)
            item = (item[0], *padded_size(size, self.multiple))
        elif size is not None:
            raise UsageError("size is for images: this flow draws vectors")
        like = torch.empty(()) if (like := self._like()) is None else like
        z = standard_normal((count, *item), temperature, like=like, **options)
        return self.decode(z, c, size=size)

    @condition_is_c
    def interpolate(
        self, a: Tensor, b: Tensor, steps: int = 8, c: Tensor | float | None = None
    ) -> Tensor:
        """Images between a and b (each ``shape``), on the arc between their exact latents.

        Spherical interpolation keeps ||z|| at a typical value; returns (steps, *shape), without
        gradient. c is one condition for both; of two, that of the images moves linearly from that
        of a to that of b.
        """
        if steps < 1:
            raise UsageError(f"steps={steps}: at least 1")
        a, b = (self.as_data(as_tensor(x, "an image")[None]) for x in (a, b))
        if a.shape != b.shape:
            raise ShapeError(
                f"a is {tuple(a.shape[1:])}, b {tuple(b.shape[1:])}: one size is needed"
            )
        with torch.no_grad():
            z = self.encode(torch.cat((a, b)), c)
            u, v = (t.flatten() for t in z)
            cosine = torch.dot(u, v) / (u.norm() * v.norm()).clamp_min(1e-12)
            angle = cosine.clamp(-1, 1).acos().clamp_min(1e-4)
            t = torch.linspace(0, 1, steps, dtype=u.dtype, device=u.device)[:, None]
            arc = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
            size = a.shape[2:] if len(self.shape) == 3 else None
            return self.decode(arc.view(steps, *z.shape[1:]), self._between(c, t), size=size)

    # ---- views ------------------------------------------------------------------------------

    @condition_is_c
    def coarse(self, levels: int, c: Tensor | float | None = None) -> CoarseFlow:
        """A generator of the latents of the ``levels`` coarsest scales, all others at their mode.

        Fewer numbers to search through (``solve(..., method="latent")``), and an image to start from.
        """
        return CoarseFlow(self, levels, c)

    def at(self, c: Tensor | float) -> ConditionedFlow:
        """The flow with its condition fixed: the same methods without ``c``."""
        return ConditionedFlow(self, c)

    @condition_is_c
    def dist(self, c: Tensor | float | None = None):
        """A `torch.distributions.Distribution` over x; its batch shape is that of ``c``.

        One condition, (k,), a map (k, h, w) or a noise level, gives the batch shape (), and
        (..., k) gives (...).
        """
        from .distribution import distribution_of

        return distribution_of(self, c)

    @condition_is_c
    def score(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        """grad_x log p(x | c), without a graph of its own."""
        if not handwritten.applies():  # inside torch.func and torch.compile
            return torch.func.grad(lambda x: self.log_prob(x, c).sum())(self.as_data(x))
        with torch.inference_mode(False), torch.enable_grad():
            x = _leaf(self.as_data(x)).requires_grad_()
            c = _leaf(c) if isinstance(c, Tensor) else c
            return torch.autograd.grad(self.log_prob(x, c).sum(), x)[0]

    def denoise(self, y: Tensor, sigma: Tensor | float, views: int = 1) -> Tensor:
        """The minimum-mean-square estimate of x given y = x + N(0, sigma^2): see `denoise`."""
        from .denoise import denoise

        return denoise(self, y, sigma, views)

    # ---- training ---------------------------------------------------------------------------

    def fit(self, x, c=None, **options):
        """Train by maximum likelihood on rows x; returns the `History`: see `innverse.fit`."""
        from ..fitting import fit

        return fit(self, x, c, **options)

    def set_memory(self, mode: str, anchor_every: int | None = None) -> Self:
        """What back-propagation keeps, "store", "checkpoint", "reversible" or "auto": see `Chain`.

        Returns self. It is a matter of training, and not saved with the flow.
        """
        set_memory(self, mode, anchor_every)
        return self

    # ---- inside -----------------------------------------------------------------------------

    def _card(self):
        from ..showing.model import card

        return card(self)

    def initialize_(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        x = self.as_data(x)
        if self.condition_scale is not None and c is not None:
            self.condition_scale.initialize_(self._condition_as_given(c, len(x), x))
        return self.bijection.initialize_(*self._given(x, c))

    def _graphed(self, x, name, function) -> Graphed | None:
        """``function()(x, c)`` as a CUDA graph, where a solver promises to call it many times."""
        if not isinstance(x, Tensor) or not runs_ahead(x.device):
            return None
        return kept_with_promise(self, name, lambda: Graphed(function()))

    def _given(self, x, c) -> tuple[Tensor, Tensor | None]:
        """Data and condition as the bijection takes them."""
        x = self.as_data(x)
        c = self._condition(c, x)
        if len(self.shape) != 3:
            return x, c
        size = size_of(x)
        if c is not None and c.dim() == 4 and is_before_padding(size_of(c), size, self.multiple):
            raise ShapeError(
                f"the map c is {size_of(c)} and the image {size}: bring c to that "
                "size, or to a multiple or fraction of it"
            )
        return pad_to_multiple(x, self.multiple), pad_map(c, size, self.multiple)

    def _given_latent(self, z, c, size=None) -> tuple[Tensor, Tensor | None]:
        """Latent and condition as the inverse takes them."""
        z = self.as_data(z, "z")
        if len(self.shape) != 3:
            return z, self._condition(c, z)
        if padded_size(size_of(z), self.multiple) != size_of(z):
            raise ShapeError(
                f"z is {tuple(z.shape)}: the sides of a latent are multiples of {self.multiple}"
            )
        c = self._condition(c, z)
        if size is None:
            return z, pad_map_of_latent(c, size_of(z), self.multiple)
        if padded_size(size, self.multiple) != size_of(z):
            raise ShapeError(
                f"size={tuple(size)}: the latent of such an image is not {tuple(z.shape)}"
            )
        return z, pad_map(c, size, self.multiple)

    def _with_fine(self, code, levels: int, size, temperature: float, generator) -> Tensor:
        """The whole latent of a code (B, m) of the coarsest scales."""
        item = self.shape
        if len(item) == 3:
            item = (item[0], *padded_size(item[1:] if size is None else size, self.multiple))
        code = as_data(code, reference(self), images=False, what="z")
        m = coarse_size(self.bijection, item, levels)
        if code.dim() != 2 or code.shape[1] != m:
            raise ShapeError(
                f"with levels={levels} an image of {tuple(item[1:])} has the code (B, {m}), got "
                f"{tuple(code.shape)}"
            )
        fine = code.new_zeros(len(code), math.prod(item) - m)
        if temperature:
            fine = standard_normal(fine.shape, temperature, generator=generator, like=code)
        return from_coarse_first(self.bijection, torch.cat((code, fine), 1), item)

    def _invert(self, z: Tensor, c: Tensor | None) -> Tensor:
        return self.bijection.inverse(z, c)[0]

    def as_data(self, x, what: str = "x") -> Tensor:
        """x as the tensor that is computed with: checked, in the type of the parameters."""
        like, images = self._like(), len(self.shape) == 3
        refuse_half(like)
        wide = lambda: what == "x" and standardizes(self.bijection)  # noqa: E731
        return self._checked(as_data(x, like, images=images, wide=wide, what=what), what)

    def _checked(self, x: Tensor, what: str = "x") -> Tensor:
        fits = x.dim() == len(self.shape) + 1 and x.shape[1] == self.shape[0]
        if not fits or 0 in x.shape[2:]:
            want = ", ".join(map(str, self.shape if len(self.shape) == 1 else self.shape[:1]))
            tail = "" if len(self.shape) == 1 else ", H, W"
            raise ShapeError(f"this flow takes (B, {want}{tail}), got {tuple(x.shape)}")
        return x

    def padded_shape(self, shape: torch.Size) -> torch.Size:
        """That of a batch after padding."""
        return torch.Size((*shape[:2], *(round_up(n, self.multiple) for n in shape[2:])))

    def _like(self) -> Tensor | None:
        """A tensor of the type and on the device that the flow computes in; None: any."""
        return reference(self)

    def _between(self, c: Tensor | float | None, t: Tensor) -> Tensor | float | None:
        """The conditions along a path t (steps, 1) in [0, 1], of which c holds those of the ends."""
        if c is None or isinstance(c, (int, float)):
            return c
        noisy = self.noise is not None
        ends = as_sigma(c, 2, t) if noisy else self._condition_as_given(c, 2, t)
        return torch.lerp(ends[:1], ends[-1:], t.to(ends).view(-1, *[1] * (ends.dim() - 1)))

    def _condition(self, c: Tensor | float | None, x: Tensor) -> Tensor | None:
        """The condition as the layers take it, (B, k) or a map (B, k, h, w); or None."""
        if self.noise is None and (c is None) != (self.condition == 0):
            raise InputError(
                f"this flow {'needs' if c is None else 'takes no'} condition"
                + (f" of {self.condition} channels: pass c" if c is None else ": leave c out")
            )
        if self.noise is not None and c is None:
            raise InputError(
                "this flow is conditioned on the noise level: pass c=sigma, "
                f"between {self.noise.low:g} and {self.noise.high:g}"
            )
        if c is None:
            return None
        like, count = self._like(), len(x)
        like = x if like is None else like
        if (noise := self.noise) is not None:
            make = lambda: noise.embedding(as_sigma(c, count, like), count)  # noqa: E731
        else:
            make = lambda: self._scaled(self._condition_as_given(c, count, like))  # noqa: E731
        constant = not c.requires_grad if isinstance(c, Tensor) else isinstance(c, (int, float))
        if not constant:
            return make()
        # the same object every time, by which layers know what they have made of it
        return remember(self, (c, count, like.dtype, like.device), make)

    def _condition_as_given(self, c: Tensor | float, count: int, like: Tensor) -> Tensor:
        """c as (count, k) or a map; in float64 where it is standardised, which needs its digits."""
        like = like if self.condition_scale is None else like.new_empty((), dtype=torch.float64)
        kinds = {"images": len(self.shape) == 3, "maps": self.maps}
        return as_condition(c, self.condition, count, like, **kinds)

    def _scaled(self, c: Tensor) -> Tensor:
        c = c if self.condition_scale is None else self.condition_scale.standardized(c)
        return c if self.condition_net is None else self.condition_net(c)


def _as_input(c, like: Tensor):
    """A condition whose value is not written into a graph."""
    if isinstance(c, (int, float)):
        return torch.full((1,), float(c), device=like.device)
    return c


def _leaf(t: Tensor) -> Tensor:
    """The values of t, as a tensor that takes part in gradients even in inference mode."""
    return t.detach().clone() if t.is_inference() else t.detach()
