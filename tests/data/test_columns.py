"""CSV, npz and parquet: the right columns, all of their digits."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from innverse.data.columns import read_columns
from innverse.errors import InnverseError, InputError


@pytest.mark.parametrize(
    ("prefix", "columns"),
    [("x", ["x", "x0", "x_speed", "x[2]"]), ("x_", ["x_speed"]), ("xs", ["xs"])],
)
def test_a_prefix_takes_numbered_and_named_columns(tmp_path, prefix, columns):
    header = ["x", "x0", "x_speed", "x[2]", "xs", "ax"]
    path = tmp_path / "a.csv"
    path.write_text(",".join(header) + "\n1,2,3,4,5,6\n")
    values, names = read_columns(path, prefix, "x")
    assert names == columns
    assert values.tolist() == [[1.0 + header.index(name) for name in columns]]
    with pytest.raises(InputError, match="no column 'speed'"):
        read_columns(path, "speed", "x")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InnverseError, match=r"innverse\[parquet\]"):
        read_columns(tmp_path / "a.parquet", None, "theta")


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
    theta, names = read_columns(path, None, "theta")
    assert names == ["theta_0", "theta_1"] and theta[:, 1].tolist() == [3, 4, 5]
    assert theta[2, 0].isnan()
    x, names = read_columns(path, None, "x")
    assert names == ["x[0]", "x[1]"]
    assert x.dtype == torch.float64 and x.tolist() == columns["x"]
    with pytest.raises(InputError, match="no numbers"):
        read_columns(path, ["note"], "x")
    with pytest.raises(InputError, match="no column 'y'"):
        read_columns(path, ["y"], "x")
    parquet.write_table(pyarrow.table({"x": [2**53 + 1]}), path)
    with pytest.raises(InputError, match="beyond 2"):
        read_columns(path, None, "x")
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="cannot read"):
        read_columns(path, None, "x")
    with pytest.raises(InputError, match="cannot read"):
        read_columns(tmp_path / "none.parquet", None, "x")


def test_no_digit_of_a_table_is_lost(tmp_path):
    values = [1e9 + 0.123456, 16777217.0, 0.1, 2.0**53, -5e-324]
    (tmp_path / "a.csv").write_text("x\n" + "\n".join(map(repr, values)) + "\n")
    found, _ = read_columns(tmp_path / "a.csv", None, "x")
    assert found.dtype == torch.float64 and found[:, 0].tolist() == values
    np.savez(tmp_path / "a.npz", x=np.array(values), k=np.array([2**24 + 1]), big=[2**53 + 1])
    assert read_columns(tmp_path / "a.npz", None, "x")[0].tolist() == values
    assert read_columns(tmp_path / "a.npz", "k", "x")[0].tolist() == [2**24 + 1]
    with pytest.raises(InputError, match="beyond 2"):
        read_columns(tmp_path / "a.npz", "big", "x")
    (tmp_path / "a.csv").write_text("x\n1\n9007199254740993\n")
    with pytest.raises(InputError, match="line 3, x: float64 cannot hold all digits of 90071992"):
        read_columns(tmp_path / "a.csv", None, "x")


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("theta,note,x,x,note\n1,2,3,4,5\n")
    assert read_columns(path, None, "theta")[0].tolist() == [[1.0]]  # others may be doubled
    for which in ("x", ["x"]):
        with pytest.raises(InputError, match="columns 3 and 4 are both called 'x'"):
            read_columns(path, which, "x")
    with pytest.raises(InputError, match="asked for 2 times"):
        read_columns(path, ["theta", "theta"], "x")


def test_many_columns_are_found_by_their_names(tmp_path):
    """In any order; each name is looked up once (a list of 4000 was searched 4000 times)."""
    names = [f"x{k}" for k in range(4000)]
    path = tmp_path / "a.csv"
    path.write_text(",".join(names) + "\n" + ",".join(map(str, range(4000))) + "\n")
    values, found = read_columns(path, names[::-1], "x")
    assert found == names[::-1] and values[0].tolist() == list(range(3999, -1, -1))
