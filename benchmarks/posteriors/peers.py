"""sbi beside us: its NPE for the same time, and its diagnostics on our posteriors."""

from __future__ import annotations

import importlib.util
import time

import torch

from .cells import Setting, seeded


def available() -> bool:
    return importlib.util.find_spec("sbi") is not None


class Npe:
    """sbi's direct posterior with the signature of ours."""

    def __init__(self, posterior):
        self.posterior = posterior

    def sample(self, shape, x, generator=None):
        torch.manual_seed(0 if generator is None else generator.initial_seed())
        return self.posterior.sample(shape, x=x, show_progress_bars=False)


def npe(setting: Setting, name: str, task, n: int, minutes: float) -> Npe:
    """NPE with neural spline flows (its flow in sbibm), trained for ``minutes`` of one core.

    It trains by epochs: a few are timed, and then as many are allowed as fit.
    """
    from sbi.inference import NPE

    low, high = task.bounds
    if bool(low.isfinite().all()):
        from sbi.utils import BoxUniform

        prior = BoxUniform(low, high)
    else:
        prior = torch.distributions.MultivariateNormal(task.prior.mean, task.prior.covariance)
    theta, x = task.pairs(n, seeded(0))
    torch.manual_seed(0)
    inference = NPE(prior, density_estimator="nsf", show_progress_bars=False)
    inference.append_simulations(theta, x)
    options = {"training_batch_size": 200, "stop_after_epochs": 20}
    begun = time.process_time()
    inference.train(max_num_epochs=2, **options)
    each = (time.process_time() - begun) / 120
    epochs = max(2, int(minutes / each))
    estimator = inference.train(max_num_epochs=epochs, resume_training=True, **options)
    used = (time.process_time() - begun) / 60
    setting.cell(
        f"{name}/training",
        lambda: {"minutes": used, "epochs": len(inference.summary["training_loss"])},
    )
    return Npe(inference.build_posterior(estimator))


def diagnose(posterior, theta, x, draws: int):
    """sbi's ranks (N, D), and its expected coverage and the levels of it."""
    from sbi.diagnostics import run_sbc, run_tarp

    options = {"num_posterior_samples": draws, "show_progress_bar": False}
    ranks, _ = run_sbc(theta, x, posterior, **options)
    ecp, levels = run_tarp(theta, x, posterior, **options)
    return ranks, ecp.double(), levels.double()
