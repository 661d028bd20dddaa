from __future__ import annotations

from pathlib import Path

import pytest

from innverse.errors import InputError, UsageError
from innverse.train.config import load_config, parse_setting
from innverse.train.model import build_model

CONFIGS = Path(__file__).parents[2] / "configs"


def write(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_a_file_and_flags(tmp_path):
    path = write(
        tmp_path,
        '[data]\npath = "digits"\nheld_out = 0.1\n[model]\nname = "glow"\nhidden = 32\n'
        "noise = [0.01, 0.4]\n[train]\nlr = 1e-3\nsteps = 7\n",
    )
    config = load_config(path, {"train.lr": 2e-4, "train.steps": None, "model.levels": 2})
    assert config.train.lr == 2e-4 and config.train.steps == 7
    assert config.model.options == {"hidden": 32, "levels": 2}
    assert config.model.noise == (0.01, 0.4)
    assert config.data.held_out == 0.1
    assert config.fitted(3, None).shape == (3, 64, 64)


def test_the_configurations_of_the_repository_are_right():
    if not CONFIGS.exists():
        pytest.skip("they are not here")
    for path in sorted(CONFIGS.glob("*.toml")):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "ms", "with_score"),
    [("natural-gray", 50, 166), ("natural-color", 57, 190), ("faces64", 45, 150)],
)
def test_priors_for_a_gpu_take_ten_minutes_a_third_of_it_for_the_score(name, ms, with_score):
    """By the times of a step that stand in the files."""
    path = CONFIGS / f"{name}-gpu.toml"
    if not path.exists():
        pytest.skip("they are not here")
    config, text = load_config(path), path.read_text()
    assert f"{ms} ms" in text and f"{with_score} ms" in text
    steps, begin = config.train.steps, config.train.score_matching_from
    first, last = 1e-3 * steps * begin * ms, 1e-3 * steps * (1 - begin) * with_score
    assert 540 < first + last < 600 and last / (first + last) > 1 / 3
    assert 1e6 < build_model(config.fitted(config.data.channels, None)).n_parameters < 6e6


def test_channels_and_crop_come_from_the_images():
    config = load_config(None, {"data.path": "digits"})
    assert config.fitted(1, (28, 28)).shape == (1, 28, 28)
    assert config.fitted(3, (178, 218)).shape == config.fitted(3, None).shape == (3, 64, 64)
    given = load_config(None, {"data.path": "digits", "data.channels": 3, "data.crop": 16})
    assert given.fitted(1, (28, 28)).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[train]\nlerning_rate = 1\n", ["train.lerning_rate", "valid:", "train.lr"]),
        ("[train]\nbatchsize = 4\n", ["train.batchsize", "did you mean train.batch_size?"]),
        ("[trian]\nlr = 1\n", ["unknown key trian", "did you mean train?"]),
        ("[data]\nlr = 1e-3\n", ["data.lr", "it belongs under [train]"]),
        ("lr = 1\n", ["unknown key lr", "write it under [train]"]),
        ('[train]\nsteps = "many"\n', ["train.steps", "integer", "'many'"]),
        ("[train]\nlr = -1\n", ["train.lr", "greater than 0"]),
        ('[train]\nprecision = "fp8"\n', ["train.precision", "bf16"]),
        ("[model]\nnoise = [0.4, 0.1]\n", ["model.noise", "lo <= hi"]),
        ("[train]\nscore_matching = 1\n", ["score_matching needs model.noise"]),
    ],
)
def test_a_fault_is_one_line_with_key_file_and_remedy(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as error:
        load_config(path, {"data.path": "digits"} if "[data]" not in text else None)
    lines = [line for line in str(error.value).splitlines() if "data.path" not in line]
    assert len(lines) == 1
    for part in [*parts, str(path)]:
        assert part in lines[0]


def test_several_faults_give_a_line_each(tmp_path):
    path = write(tmp_path, '[data]\npath = "x"\n[train]\nlrr = 1\nsteps = "a"\n')
    with pytest.raises(UsageError) as error:
        load_config(path)
    assert len(str(error.value).splitlines()) == 2


def test_no_data_no_file_no_toml(tmp_path):
    with pytest.raises(UsageError, match=r"data.path is missing"):
        load_config(write(tmp_path, "[train]\nsteps = 1\n"))
    with pytest.raises(InputError, match="No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_config(write(tmp_path, "[train\n"))
    with pytest.raises(UsageError, match="not a text file"):
        binary = tmp_path / "binary.toml"
        binary.write_bytes(b"\xff\xfe\x00")
        load_config(binary)


def test_settings_from_the_command_line():
    assert parse_setting("train.ema=0.9") == ("train.ema", 0.9)
    assert parse_setting("model.noise=[0.01, 0.2]") == ("model.noise", [0.01, 0.2])
    assert parse_setting("model.squeeze = haar") == ("model.squeeze", "haar")
    with pytest.raises(UsageError, match=r"table\.key=value"):
        parse_setting("ema=0.9")


def test_a_model_option_that_does_not_exist_is_a_usage_error(settings):
    from innverse.train.model import build_model

    with pytest.raises(UsageError, match="hiden"):
        build_model(settings(model_hiden=3))
    with pytest.raises(UsageError, match="glow"):
        build_model(settings(model_levels="two"))
