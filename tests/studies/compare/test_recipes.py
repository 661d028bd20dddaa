from __future__ import annotations

import numpy as np
import pytest

from innverse import flows, generators
from innverse.data import ImageSource, fit_all, open_images
from innverse.errors import InputError
from innverse.studies.compare import Contestant, recipes
from innverse.train import load_config
from innverse.train.sources import TrainingImages

pytest.importorskip("sklearn")


def source(*shape):
    return ImageSource([str(i) for i in range(shape[0])], np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64)])
def test_the_three_are_of_one_size(shape):
    settings = recipes.recipes("x", None, source(9, *shape))
    assert list(settings) == ["INN", "VAE", "GAN"]
    sizes = {}
    for label, given in settings.items():
        config = load_config(None, given)
        room = flows if label == "INN" else generators
        model = room.build(config.model.name, config.shape, **config.model.options)
        sizes[label] = model.n_parameters
        assert config.shape == shape
    assert max(sizes.values()) < 2.5 * min(sizes.values()), sizes
    assert settings["VAE"]["model.latent"] == settings["GAN"]["model.latent"] < np.prod(shape) / 7


def test_images_of_one_size_stay_where_they_are(tmp_path):
    data, subset, images = recipes.prepare("digits", None, tmp_path)
    assert (data, subset, images.size) == ("digits", None, (8, 8)) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("h", "w", "side"), [(20, 31, 20), (40, 45, 40), (100, 90, 64)])
def test_others_are_fitted_whole(tmp_path, h, w, side):
    pictures = np.random.default_rng(0).integers(0, 256, (3, h, w, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pictures)
    data, _, images = recipes.prepare(str(tmp_path / "x.npy"), None, tmp_path / "out")
    assert data.endswith("images.npy") and images.size == (side, side) and images.channels == 3
    expected = fit_all(open_images(tmp_path / "x.npy"), (side, side))
    assert images.stack().equal(expected)


def test_small_images_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 6, 20), np.uint8))
    with pytest.raises(InputError, match="too small"):
        recipes.prepare(str(tmp_path / "x.npy"), None, tmp_path)


def test_what_is_held_out_was_not_trained_on(tmp_path):
    data, subset, images = recipes.prepare("digits", None, tmp_path)
    kept = recipes.held_out(images)
    assert len(kept) == 200 and len(set(kept.names)) == 200
    config = load_config(None, recipes.recipes(data, subset, images)["INN"])
    assert set(TrainingImages(config).train.names).isdisjoint(kept.names)


def test_three_models_are_trained_for_the_time_given(tmp_path):
    said, settings = [], recipes.recipes(*recipes.prepare("digits", None, tmp_path))
    folders = recipes.train_three(settings, tmp_path, 1e-4, quiet=True, say=said.append)
    trained = [Contestant.load(str(folder)) for folder in folders]
    assert [c.label for c in trained] == ["INN", "VAE", "GAN"]
    assert [c.training["steps"] for c in trained] == [20, 20, 20]  # never fewer
    assert len(said) == 3 and "20 steps" in said[0]
