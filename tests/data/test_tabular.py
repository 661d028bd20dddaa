"""The benchmark tables, on tiny files of the published layout."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from innverse.data import tabular
from innverse.data.numbers import read_numbers
from innverse.errors import InputError, UsageError


def rng():
    return np.random.default_rng(0)


def everything(table: tabular.Table) -> torch.Tensor:
    return torch.cat((table.train, table.validation, table.test))


@pytest.fixture
def root(tmp_path):
    """The folder that the maf repository unpacks, with 100 rows or so in each file."""
    r = rng()
    for name in ("power", "gas", "hepmass", "miniboone", "BSDS300"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "power/data.npy", r.normal(size=(100, 8)))
    np.save(tmp_path / "miniboone/data.npy", 5 + 3 * r.normal(size=(200, 43)))

    sensors = r.normal(size=(100, 16))
    sensors[:, 8:] = sensors[:, :8] + 0.01 * sensors[:, 8:]  # each of the second eight is a copy
    gas = np.hstack((np.arange(100)[:, None], r.uniform(size=(100, 2)), sensors))
    np.savetxt(
        tmp_path / "gas/ethylene_CO.txt", gas, header="Time (seconds), CO conc (ppm)", comments=""
    )

    for name, n in (("train", 60), ("test", 30)):
        x = r.normal(size=(n, 28))
        x[:, 0] = np.arange(n) % 2
        x[:, 4] = np.arange(n) % 3  # discrete
        lines = ["# label," + ",".join(f"f{i}" for i in range(27))]
        extra = ",500" if name == "test" else ""  # the published test file has it
        lines += [",".join(f"{v:.6e}" for v in row) + extra for row in x]
        (tmp_path / f"hepmass/1000_{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_power_is_shuffled_dequantised_and_standardised(root):
    table = tabular.open_table("power", root)
    assert table.train.shape == (81, 6) and table.train.dtype == torch.float32
    assert table.validation.shape == (9, 6) and table.test.shape == (10, 6)
    seen = torch.cat((table.train, table.validation))
    torch.testing.assert_close(seen.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.std(0, unbiased=False), torch.ones(6), rtol=1e-5, atol=0)
    # the last column gets no noise: it is the original one in another order
    last = np.load(root / "power/data.npy")[:, 7]
    found = everything(table)[:, -1]
    scale = np.polyfit(np.sort(last), found.sort().values.numpy(), 1)
    assert np.abs(np.polyval(scale, np.sort(last)) - found.sort().values.numpy()).max() < 1e-5
    assert not np.allclose(np.argsort(last), found.argsort().numpy())


def test_gas_drops_time_concentrations_and_copies(root):
    table = tabular.open_table("gas", root / "gas")
    assert table.train.shape == (81, 8) and table.test.shape == (10, 8)
    torch.testing.assert_close(everything(table).std(0), torch.ones(8), rtol=1e-5, atol=0)
    correlations = torch.corrcoef(everything(table).T) - torch.eye(8)
    assert correlations.abs().max() < 0.98


def test_hepmass_keeps_signal_and_continuous_columns(root):
    table = tabular.open_table("hepmass", root)
    assert table.train.shape == (27, 26) and table.validation.shape == (3, 26)
    assert table.test.shape == (15, 26)  # half of the rows are signal; one column was discrete
    seen = torch.cat((table.train, table.validation))
    torch.testing.assert_close(seen.mean(0), torch.zeros(26), rtol=0, atol=1e-5)
    by_file = tabular.open_table("hepmass", root / "hepmass/1000_train.csv")
    assert torch.equal(by_file.test, table.test)


def test_miniboone_keeps_the_order(root):
    table = tabular.open_table("miniboone", root / "miniboone/data.npy")
    assert [len(t) for t in (table.train, table.validation, table.test)] == [162, 18, 20]
    x = np.load(root / "miniboone/data.npy")
    expected = (x[180:] - x[:180].mean(0)) / x[:180].std(0)
    torch.testing.assert_close(table.test, torch.from_numpy(expected).float())


def test_bsds300_is_taken_as_it_is(root):
    h5py = pytest.importorskip("h5py")
    x = rng().normal(size=(12, 63)).astype(np.float32)
    with h5py.File(root / "BSDS300/BSDS300.hdf5", "w") as file:
        for name, rows in (("train", x[:6]), ("validation", x[6:8]), ("test", x[8:])):
            file[name] = rows
    table = tabular.open_table("bsds300", root)
    assert torch.equal(everything(table), torch.from_numpy(x))
    with pytest.raises(InputError, match="no data set None; it has: test, train, validation"):
        read_numbers(root / "BSDS300/BSDS300.hdf5")


def test_mistakes_name_the_fault(root, tmp_path):
    with pytest.raises(UsageError, match="no table is called 'iris': choose one of power"):
        tabular.open_table("iris", root)
    with pytest.raises(InputError, match=r"has no BSDS300.hdf5, and no BSDS300/BSDS300.hdf5"):
        tabular.open_table("bsds300", root)
    np.save(root / "power/data.npy", np.zeros((10, 5)))
    with pytest.raises(InputError, match="power has 8 columns in its published file, not 5"):
        tabular.open_table("power", root)


# ---- files --------------------------------------------------------------------------------------


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_never_opened(tmp_path):
    (tmp_path / "ethylene_CO.pickle").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(InputError, match=r"is a pickle.*pandas.read_pickle\('ethylene_CO.pickle'"):
        tabular.open_table("gas", tmp_path)
    disguised = tmp_path / "data.npy"
    np.save(disguised, np.array([_Bomb(), 1], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is a pickle"):
        tabular.open_table("miniboone", disguised)


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,2\n3,4\n", "1,2\n3,4\n", "1 2\n3 4\n", "\ufeffa b\n1 2\n3 4\n", "1\t2\n3\t4"],
)
def test_text_with_and_without_a_header(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_numbers(path), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"a,b\n1,2\n3,x\n", "not a table of numbers"),
        ("x.csv", b"a,b\n1,2\n3,nan\n", "row 1, column 1 is nan"),
        ("x.npy", b"\x93NUMPY\x01\x00", "damaged or not a numpy file"),
        ("x.parquet", b"", r"read from \.npy, \.csv"),
        ("x.h5", b"nothing", "damaged or not HDF5"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_numbers(tmp_path / name)
    with pytest.raises(InputError, match=r"no such file|read from"):
        read_numbers(tmp_path / ("other" + name))
