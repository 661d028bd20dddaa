"""`innverse train` on a table: a folder like that of images, resumed and lengthened."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import innverse
from innverse.cli import train as command
from innverse.cli.logprob import logprob
from innverse.errors import InputError, UsageError
from innverse.train import read_metrics

OPTIONS = {"model": "realnvp", "device": "cpu", "quiet": True}
TINY = ["model.layers=2", "model.width=8", "train.threads=1"]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Columns of very different units in table.csv, table.npy and table.npz."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(300, 3)) * [1e6, 1.0, 1e-6] + [1e9, 0, 0]
    lines = [",".join(map(repr, row)) for row in x.tolist()]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    np.save("table.npy", x)
    np.savez("table.npz", rows=x)
    return x


@pytest.mark.parametrize("kind", ["csv", "npy", "npz"])
def test_every_kind_of_table_gives_the_same_model(rows, tmp_path, kind, capsys):
    assert command.train(tmp_path / f"table.{kind}", steps=30, set=TINY, **OPTIONS) == 0
    assert capsys.readouterr().out.startswith("runs/realnvp/model")
    out = tmp_path / "runs" / "realnvp"
    assert {p.name for p in out.iterdir()} >= {
        "checkpoint",
        "config.json",
        "metrics.jsonl",
        "model",
    }
    metrics = read_metrics(out / "metrics.jsonl")
    assert metrics[-1]["kind"] == "eval" and metrics[-1]["step"] >= 30
    flow = innverse.load(out / "model")
    # normal columns: -log p is their entropy, whatever the units
    entropy = 1.5 * np.log(2 * np.pi * np.e)
    nll = -flow.log_prob(torch.from_numpy(rows)).mean().item()
    assert nll == pytest.approx(entropy, abs=0.4)
    assert "# model" in (out / "model" / "README.md").read_text()
    assert logprob(str(out / "model"), [f"table.{kind}"], json=True, quiet=True) == 0
    got = [row["log_prob"] for row in json.loads(capsys.readouterr().out)["results"]]
    assert np.mean(got) == pytest.approx(-nll, abs=1e-3)


def test_condition_columns(rows, tmp_path):
    chosen = ['data.condition=["a"]', 'data.columns=["b", "c"]', *TINY]
    assert command.train(tmp_path / "table.csv", steps=9, set=chosen, **OPTIONS) == 0
    flow = innverse.load("runs/realnvp/model")
    x = torch.from_numpy(rows)
    assert flow.log_prob(x[:, 1:], x[:, :1]).isfinite().all()
    rest = ['data.condition=["a"]', *TINY]
    assert (
        command.train(tmp_path / "table.csv", steps=9, out=tmp_path / "b", set=rest, **OPTIONS) == 0
    )
    assert innverse.load(tmp_path / "b" / "model").shape == (2,)


def test_a_finished_training_is_lengthened(rows, tmp_path, capsys):
    def steps(n):
        options = OPTIONS | {"quiet": False}
        code = command.train(tmp_path / "table.csv", steps=n, json=True, set=TINY, **options)
        printed = capsys.readouterr()
        assert code == 0
        return json.loads(printed.out)["step"], printed.err

    first, said = steps(16)
    assert 16 <= first < 32 and "goes on" in said
    assert steps(16)[0] == first  # nothing is repeated
    before = read_metrics("runs/realnvp/metrics.jsonl")
    more, said = steps(48)
    assert more >= 48 and f"continuing after step {first}" in said
    assert read_metrics("runs/realnvp/metrics.jsonl")[: len(before)] == before


def test_mistakes_in_one_line(rows, tmp_path):
    table = tmp_path / "table.csv"
    with pytest.raises(UsageError, match="unknown key train.ema.*valid: train.steps"):
        command.train(table, set=["train.ema=0.9"], **OPTIONS)
    with pytest.raises(InputError, match="no column 'd'"):
        command.train(table, set=['data.columns=["d"]'], **OPTIONS)
    with pytest.raises(UsageError, match="tables are learned by"):
        command.train(table, **OPTIONS | {"model": "gan"})
    with pytest.raises(InputError, match="No such file"):
        command.train(tmp_path / "none.csv", **OPTIONS)
    with pytest.raises(UsageError, match="name one array"):
        np.savez("two.npz", a=rows, b=rows)
        command.train(tmp_path / "two.npz", **OPTIONS)
    table.write_text("a,b\n1,2\n3,nan\n")
    with pytest.raises(InputError, match="column|NaN"):
        command.train(table, **OPTIONS)
