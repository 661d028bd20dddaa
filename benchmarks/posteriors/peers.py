"""sbi beside us: its NPE for the same time, its speed, and its diagnostics on our posteriors."""

from __future__ import annotations

import importlib.util
import time
from functools import cached_property

import torch

from .cells import Setting, seeded


def available() -> bool:
    return importlib.util.find_spec("sbi") is not None


class Npe:
    """sbi's direct posterior with the signature of ours, trained when it is first asked for draws."""

    def __init__(self, train):
        self._train = train

    @cached_property
    def posterior(self):
        return self._train()

    def sample(self, shape, x, generator=None):
        torch.manual_seed(0 if generator is None else generator.initial_seed())
        return self.posterior.sample(shape, x=x, show_progress_bars=False)


class _Silent:
    """A tracker that writes nothing: sbi's own would leave a folder of logs."""

    log_dir = None

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def npe(setting: Setting, name: str, task, n: int, minutes: float) -> Npe:
    """NPE with neural spline flows (its flow in sbibm), trained by its own rules until ``minutes`` of
    processor time are over or it has converged."""

    def train():
        inference = _inference(task, *task.pairs(n, seeded(0)))
        started, converged = time.process_time(), inference._converged

        def minutes_used() -> float:
            return (time.process_time() - started) / 60

        # resuming epoch by epoch would not do: its count of fruitless epochs goes up with every call
        def converged_or_over(epoch: int, stop_after_epochs: int) -> bool:
            return converged(epoch, 0 if minutes_used() > minutes else stop_after_epochs)

        inference._converged = converged_or_over
        estimator = inference.train()
        facts = {"minutes": minutes_used(), "epochs": inference.summary["epochs_trained"][-1]}
        setting.cell(f"{name}/training", lambda: facts)
        return inference.build_posterior(estimator)

    return Npe(train)


def npe_trial(task, theta, x, sizes: tuple[int, ...]):
    """One epoch of sbi's own training loop, and its draws, as a `steps.Trial`."""
    from sbi.neural_nets import posterior_nn

    from .steps import Trial

    layers, width, bins, batch, draws = sizes
    options = {"hidden_features": width, "num_transforms": layers, "num_bins": bins}
    inference = _inference(task, theta, x, posterior_nn("nsf", **options))
    estimator = inference.train(training_batch_size=batch, max_num_epochs=1)
    done = [2]

    def epoch():
        inference.train(
            training_batch_size=batch,
            max_num_epochs=done[0],
            resume_training=True,
            stop_after_epochs=1_000_000,  # resuming counts as a fruitless epoch
        )
        done[0] += 1

    def sample():
        with torch.no_grad():
            return estimator.sample((draws,), x[:1])

    parameters = sum(p.numel() for p in estimator.parameters())
    return Trial(epoch, len(theta) * 9 // 10 // batch, sample, parameters)


def diagnose(posterior, theta, x, draws: int):
    """sbi's ranks (N, D), and its expected coverage and the levels of it."""
    from sbi.diagnostics import run_sbc, run_tarp

    options = {"num_posterior_samples": draws, "show_progress_bar": False}
    ranks, _ = run_sbc(theta, x, posterior, **options)
    ecp, levels = run_tarp(theta, x, posterior, **options)
    return ranks, ecp.double(), levels.double()


def _inference(task, theta, x, density_estimator="nsf"):
    from sbi.inference import NPE
    from sbi.utils import BoxUniform

    low, high = task.bounds
    if bool(low.isfinite().all() and high.isfinite().all()):
        prior = BoxUniform(low, high)
    else:
        prior = torch.distributions.MultivariateNormal(task.prior.mean, task.prior.covariance)
    torch.manual_seed(0)
    options = {"show_progress_bars": False, "tracker": _Silent()}
    inference = NPE(prior, density_estimator=density_estimator, **options)
    return inference.append_simulations(theta, x)
