"""Parquet files; CSV and npz are read through the command line in tests/cli."""

from __future__ import annotations

import sys

import pytest
import torch

from innverse.amortized.tables import read_array
from innverse.errors import InnverseError, InputError


@pytest.mark.parametrize(
    ("prefix", "columns"),
    [("x", ["x", "x0", "x_speed", "x[2]"]), ("x_", ["x_speed"]), ("xs", ["xs"])],
)
def test_a_prefix_takes_numbered_and_named_columns(tmp_path, prefix, columns):
    header = ["x", "x0", "x_speed", "x[2]", "xs", "ax"]
    path = tmp_path / "a.csv"
    path.write_text(",".join(header) + "\n1,2,3,4,5,6\n")
    values, names = read_array(path, prefix, "x")
    assert names == columns
    assert values.tolist() == [[1.0 + header.index(name) for name in columns]]
    with pytest.raises(InputError, match="no column 'speed'"):
        read_array(path, "speed", "x")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InnverseError, match=r"innverse\[parquet\]"):
        read_array(tmp_path / "a.parquet", None, "theta")


def test_parquet_of_numbers_and_of_vectors(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "theta_0": [1.0, 2.0, None],
        "theta_1": [3, 4, 5],
        "x": [[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]],
        "note": ["a", "b", "c"],
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    theta, names = read_array(path, None, "theta")
    assert names == ["theta_0", "theta_1"] and theta[:, 1].tolist() == [3, 4, 5]
    assert theta[2, 0].isnan()
    x, names = read_array(path, None, "x")
    assert names == ["x[0]", "x[1]"]
    assert torch.equal(x, torch.tensor(columns["x"]))
    with pytest.raises(InputError, match="no numbers"):
        read_array(path, ["note"], "x")
    with pytest.raises(InputError, match="no column 'y'"):
        read_array(path, ["y"], "x")
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="cannot read"):
        read_array(path, None, "x")
    with pytest.raises(InputError, match="cannot read"):
        read_array(tmp_path / "none.parquet", None, "x")
