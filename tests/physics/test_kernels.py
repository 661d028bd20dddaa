"""Point spread functions: made by a seed, and read from the files in which they are kept."""

from __future__ import annotations

import sys

import numpy as np
import PIL.Image
import pytest
import torch

from innverse import physics as P
from innverse.errors import InnverseError, InputError, UsageError


def _matrices():
    g = np.random.default_rng(0)
    return [g.random((5, 7)), g.random((4, 4)), g.random((9, 3))]


def _unit(k):
    return torch.tensor(k / k.sum(), dtype=torch.float32)


def _v5(path, cell=True):
    scipy = pytest.importorskip("scipy.io")
    kernels = np.empty((1, 3), object)
    for i, k in enumerate(_matrices()):
        kernels[0, i] = k
    scipy.savemat(path, {"kernels": kernels, "sigma": 2.55, "name": "some"})


def _v73(path):
    """As MATLAB writes a cell array: references to matrices whose axes are the other way round."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        inside = file.create_group("#refs#")
        empty = inside.create_dataset("a", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        refs = [inside.create_dataset(f"k{i}", data=k.T).ref for i, k in enumerate(_matrices())]
        cell = file.create_dataset("kernels", (3, 1), dtype=h5py.ref_dtype)
        for i, ref in enumerate(refs):
            cell[i, 0] = ref
        file.create_dataset("sigma", data=np.array([[2.55]]))


@pytest.mark.parametrize("write", [_v5, _v73])
def test_matlabs_lists_of_kernels(tmp_path, write):
    file = tmp_path / "kernels.mat"
    write(file)
    found = P.read_kernels(file)
    assert len(found) == 3
    for k, right in zip(found, _matrices(), strict=True):
        torch.testing.assert_close(k, _unit(right))
    second = P.build("blur", (1, 16, 16), kernel=str(file), kernel_index=2)
    torch.testing.assert_close(second.kernel[0, 0], _unit(_matrices()[1]))
    with pytest.raises(UsageError, match=r"holds 3 kernels \(5x7, 4x4, 9x3\): choose one with"):
        P.build("blur", (1, 16, 16), kernel=str(file))
    for index in (0, 4):
        with pytest.raises(UsageError, match="kernel_index=") as e:
            P.build("blur", (1, 16, 16), kernel=str(file), kernel_index=index)
        assert "\n" not in str(e.value)


def test_arrays_and_pictures(tmp_path):
    a, b, _ = _matrices()
    np.save(tmp_path / "one.npy", a)
    np.save(tmp_path / "stack.npy", np.stack([b, b.T]))
    np.savez(tmp_path / "some.npz", first=a, second=b)
    PIL.Image.fromarray((255 * b).astype(np.uint8)).save(tmp_path / "picture.png")
    torch.testing.assert_close(P.read_kernels(tmp_path / "one.npy")[0], _unit(a))
    torch.testing.assert_close(P.read_kernels(tmp_path / "stack.npy")[1], _unit(b.T))
    torch.testing.assert_close(P.read_kernels(tmp_path / "some.npz")[1], _unit(b))
    found = P.read_kernels(tmp_path / "picture.png")[0]
    torch.testing.assert_close(found, _unit((255 * b).astype(np.uint8).astype(float)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [3, 16, 25])
def test_camera_shake_is_of_unit_sum_within_its_square_and_centred(seed, size):
    kernel = P.shake_kernel(seed, size).double()
    assert kernel.shape == (size, size) and bool((kernel >= 0).all())
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(kernel, P.shake_kernel(seed, size).double())
    assert not torch.equal(kernel, P.shake_kernel(seed + 10, size).double())
    t = torch.arange(size, dtype=torch.float64) - size // 2
    assert abs(float(kernel.sum(1) @ t)) < 0.05 and abs(float(kernel.sum(0) @ t)) < 0.05
    text = P.build("blur", (1, 32, 32), kernel=f"shake:{seed}").kernel[0, 0]
    assert torch.equal(text, P.shake_kernel(seed))


def _broken(tmp_path):
    (tmp_path / "broken.mat").write_bytes(b"no MATLAB at all" * 20)
    return tmp_path / "broken.mat"


def _negative(tmp_path):
    np.save(tmp_path / "negative.npy", -np.ones((3, 3)))
    return tmp_path / "negative.npy"


def _no_matrix(tmp_path):
    scipy = pytest.importorskip("scipy.io")
    scipy.savemat(tmp_path / "text.mat", {"name": "some", "sigma": 1.0})
    return tmp_path / "text.mat"


def _five_axes(tmp_path):
    np.save(tmp_path / "five.npy", np.ones((2, 2, 2, 2, 2)))
    return tmp_path / "five.npy"


@pytest.mark.parametrize(
    "make", [_broken, _negative, _no_matrix, _five_axes, lambda path: path / "missing.mat"]
)
def test_unusable_files_are_bad_input_in_one_line(tmp_path, make):
    with pytest.raises(InputError) as e:
        P.read_kernels(make(tmp_path))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.shake_kernel(0, 2),
        lambda: P.build("blur", (1, 8, 8), kernel="shake:x"),
        lambda: P.build("blur", (1, 8, 8), kernel="shake:1:2:3"),
        lambda: P.build("blur", (1, 8, 8), kernel="gaussian:2", kernel_index=1),
        lambda: P.build("blur", (1, 8, 8), kernel=torch.ones(3, 3), kernel_index=1),
    ],
)
def test_descriptions_that_make_no_sense_are_one_line(make):
    with pytest.raises(InnverseError) as e:
        make()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("write", "library"), [(_v5, "scipy.io"), (_v73, "h5py")])
def test_a_missing_library_is_named(tmp_path, monkeypatch, write, library):
    write(tmp_path / "kernels.mat")
    monkeypatch.setitem(sys.modules, library, None)
    name = library.partition(".")[0]
    with pytest.raises(InnverseError, match=rf"kernels\.mat needs {name}: pip install"):
        P.read_kernels(tmp_path / "kernels.mat")


def test_the_command_line_spells_the_index(tmp_path, cli):
    np.savez(tmp_path / "k.npz", a=np.ones((1, 3)), b=np.ones((5, 1)))
    PIL.Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "dot.png")
    done = cli("solve", str(tmp_path / "dot.png"), "--physics", "blur", "--kernel",
               str(tmp_path / "k.npz"), "--method", "tv", "--simulate", "--out", "r")  # fmt: skip
    assert done.returncode == 2
    assert "holds 2 kernels (1x3, 5x1): choose one with --kernel-index, 1 to 2" in done.stderr
