"""Would the posterior have produced the data?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import InputError, ShapeError
from ...seeding import drawn_seed, seeded
from .draws import drawn, values


def resimulation_error(
    source, x, simulator: Callable, *, draws: int = 100, generator=None
) -> Tensor:
    """Mean squared distance of simulations at posterior draws to the measurement, (N,).

    ``simulator`` maps theta (B, D) to x (B, ...); without its noise, the error is that of the
    posterior alone. With a ``generator`` its noise follows from it as well: the global generators
    of torch, numpy and Python are seeded by it while the simulator runs, and restored.
    """
    x, samples = _data_and_draws(source, x, draws, generator)
    with seeded(drawn_seed(generator)):
        again = torch.as_tensor(simulator(samples.reshape(-1, *samples.shape[2:])))
    if len(again) != samples.shape[0] * samples.shape[1]:
        raise ShapeError(
            f"the simulator returned {tuple(again.shape)} for {samples[..., 0].numel()} parameters"
        )
    again = again.reshape(len(samples), len(x), -1).double()
    return (again - x.reshape(len(x), -1).double()).square().sum(2).mean(0)


def predictive_check(
    source, x, simulator: Callable, discrepancy: Callable, *, draws: int = 100, generator=None
) -> Tensor:
    """Posterior predictive p-values (N,) (Gelman, Meng & Stern 1996): how often new data are at
    least as discrepant as those seen.

    Near 0 or 1 where model and data disagree. For a right model they gather around 1/2 and are not
    uniform: the data were used to find the posterior.

    Args:
        simulator: one draw of each posterior (N, ...) -> new data of the shape of x; a `physics` of
            `innverse.physics` is one. Its global random numbers follow from the ``generator``.
        discrepancy: (data, draw) -> (N,), such as the squared residual or a property of the data.

    Example:
        >>> from innverse.metrics.calibration import predictive_check
        >>> physics = innverse.physics.Denoising(noise=0.1)
        >>> y = physics(torch.full((3, 1, 8, 8), 0.5))
        >>> draws = y + 0.1 * torch.randn(50, 3, 1, 8, 8)  # of the posterior under a flat prior
        >>> misfit = lambda y, u: (y - physics.A(u)).flatten(1).square().sum(1)
        >>> predictive_check(draws, y, physics, misfit).shape
        torch.Size([3])
    """
    x, samples = _data_and_draws(source, x, draws, generator)
    larger = torch.zeros(len(x), dtype=torch.float64)
    with seeded(drawn_seed(generator)):
        for draw in samples:
            again = torch.as_tensor(simulator(draw))
            if again.shape != x.shape:
                raise ShapeError(
                    f"the simulator returned {tuple(again.shape)}, the data are {tuple(x.shape)}"
                )
            new, seen = (values(lambda data, d=draw: discrepancy(data, d), y) for y in (again, x))
            larger += ((new > seen).double() + 0.5 * (new == seen).double())[:, 0].cpu()
    return larger / len(samples)


def _data_and_draws(source, x, draws: int, generator) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(x)
    samples = drawn(source, x, draws, generator)
    if not samples.numel():
        raise InputError("re-simulation needs draws and measurements: there are none")
    return x, samples
