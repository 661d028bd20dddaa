"""The problems of the demonstration, without running a network to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from innverse.solvers.reconstruction import Reconstruction
from innverse.studies.demo import PROBLEMS, make_scene, results_json
from innverse.studies.demo.page import make_table, verdict
from innverse.studies.demo.problems import TUNING_PHOTOGRAPHS, writing
from innverse.studies.demo.run import Outcome, Score

pytest.importorskip("skimage")


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.key)
def test_scenes_are_degraded_photographs_that_a_seed_repeats(problem):
    scene = make_scene(problem, 1, seed=3, scale=4)
    assert scene.truth.shape == (1, 1, problem.side // 4, problem.side // 4)
    assert scene.truth.min() >= 0 and scene.truth.max() <= 1 and scene.truth.std() > 0.05
    assert scene.degraded.shape == scene.truth.shape
    assert (scene.degraded - scene.truth).abs().mean() > 5e-3
    again = make_scene(problem, 1, seed=3, scale=4)
    assert torch.equal(scene.y, again.y)
    other = make_scene(problem, 1, seed=4, scale=4)
    assert not torch.equal(scene.y, other.y)


def test_total_variation_was_tuned_on_other_photographs():
    assert not {p.photograph for p in PROBLEMS} & set(TUNING_PHOTOGRAPHS)
    assert len({p.photograph for p in PROBLEMS}) == len(PROBLEMS)


def test_writing_hides_a_part_of_the_picture():
    mask = writing(128, 128, torch.Generator().manual_seed(0))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert 0.6 < mask.mean() < 0.95


def outcome(problem, tv_psnr, inn_psnr):
    x = torch.zeros(1, 1, 8, 8)
    found = Reconstruction(
        x, None, None, torch.zeros(1), torch.ones(1, dtype=bool), ["converged"], torch.ones(1),
        "pnp",
    )  # fmt: skip
    scene = replace_scene(problem)
    return Outcome(
        scene, x, found, Score(10.0, 0.1), Score(tv_psnr, 0.8, 1.0), Score(inn_psnr, 0.9, 2.0)
    )


def replace_scene(problem):
    return make_scene(replace(problem, side=32), scale=4)


def test_the_verdict_is_computed_both_ways():
    won = [outcome(p, 28.0, 30.0) for p in PROBLEMS]
    assert "beats total variation on all 4" in verdict(won) and "2.00 dB" in verdict(won)
    assert "on the one problem, by 2.00 dB" in verdict(won[:1])
    lost = [*won[:3], outcome(PROBLEMS[3], 30.0, 29.5)]
    text = verdict(lost)
    assert "does NOT beat" in text and PROBLEMS[3].name in text and "-0.50 dB" in text
    assert "3 of 4" in text
    assert "-0.50" in make_table(lost).markdown()


def test_results_have_the_names_that_other_tools_read():
    (problem,) = results_json([outcome(PROBLEMS[0], 28.0, 30.0)])["problems"]
    assert problem == {
        "name": PROBLEMS[0].name,
        "degraded": {"psnr": 10.0, "ssim": 0.1},
        "tv": {"psnr": 28.0, "ssim": 0.8, "seconds": 1.0},
        "inn": {"psnr": 30.0, "ssim": 0.9, "seconds": 2.0, "method": "pnp"},
    }
