from __future__ import annotations

import numpy as np
import pytest

from innverse import flows, generators
from innverse.compare import Contestant, recipes
from innverse.data import ImageSource
from innverse.errors import InputError
from innverse.train import load_config

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
        assert config.shape[0] == shape[0] and config.shape[1] % 8 == 0
    assert max(sizes.values()) < 2.5 * min(sizes.values()), sizes
    assert settings["VAE"]["model.latent"] == settings["GAN"]["model.latent"] < np.prod(shape) / 7


def test_small_images_are_refused():
    with pytest.raises(InputError, match="too small"):
        recipes.recipes("x", None, source(9, 1, 6, 20))


def test_what_is_held_out_was_not_trained_on(tmp_path):
    images = recipes.source_of("digits", None)
    kept = recipes.held_out(images)
    assert len(kept) == 200 and len(set(kept.names)) == 200
    from innverse.train.sources import Data

    config = load_config(None, recipes.recipes("digits", None, images)["INN"])
    assert set(Data(config)._train.names).isdisjoint(kept.names)


def test_three_models_are_trained_for_the_time_given(tmp_path):
    images = recipes.source_of("digits", None)
    said = []
    folders = recipes.train_three(
        recipes.recipes("digits", None, images), tmp_path, 1e-4, quiet=True, say=said.append
    )
    trained = [Contestant.load(str(folder)) for folder in folders]
    assert [c.label for c in trained] == ["INN", "VAE", "GAN"]
    assert [c.training["steps"] for c in trained] == [20, 20, 20]  # never fewer
    assert len(said) == 3 and "20 steps" in said[0]
