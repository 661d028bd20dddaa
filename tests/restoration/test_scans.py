"""Files of scanners: written here as scanners write them, read, reconstructed, and judged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from innverse import restore
from innverse.data.scan_files import read_kspace, read_sinogram
from innverse.errors import InnverseError
from innverse.physics.fourier import as_complex, fft, ifft
from innverse.physics.mri import MRI, NamedMRI, simulated_sensitivities
from innverse.physics.tomography import NamedTomography, Tomography

h5py = pytest.importorskip("h5py")
N, CENTRE = 24, 15.0


def body() -> torch.Tensor:
    x = torch.zeros(1, 1, N, N)
    x[..., 6:17, 7:18] = 0.02
    x[..., 9:13, 10:14] = 0.04
    return x


@pytest.fixture
def sinogram(tmp_path):
    def make(name="scan.h5", views=40, flats=40, units="degrees", **changed):
        degrees = np.arange(views) * 180 / views
        depth = Tomography((1, N, N), degrees, 36, centre=CENTRE).A(body())[0, 0]
        generator = torch.Generator().manual_seed(0)

        def photons(rate):
            return torch.poisson(rate, generator=generator)[:, None] * 2 + 50

        open_beam = torch.full((flats, 36), 2e4)
        parts = {
            "data": photons(2e4 * torch.exp(-depth)),
            "data_white": photons(open_beam),
            "data_dark": torch.full((3, 1, 36), 50.0),
            "theta": degrees if units == "degrees" else np.deg2rad(degrees),
        } | changed
        with h5py.File(tmp_path / name, "w") as file:
            for key, values in parts.items():
                if values is not None:
                    file[f"exchange/{key}"] = np.asarray(values)
            if parts["theta"] is not None:
                file["exchange/theta"].attrs["units"] = units
        return tmp_path / name

    return make


def test_a_sinogram_is_read_with_its_axis_of_rotation_and_its_noise(sinogram):
    scan = NamedTomography(every=2).scan(sinogram())
    assert scan.y.shape == (1, 1, 20, 36)
    assert scan.physics.geometry.centre == pytest.approx(CENTRE, abs=0.2)
    assert float(scan.physics.noise.photons.mean()) == pytest.approx(2e4, rel=0.2)
    clean = scan.physics.A(torch.nn.functional.pad(body(), (6, 6, 6, 6)) / scan.unit)
    off = (scan.y - clean) / scan.physics.noise.std(clean)
    assert float(off.square().mean()) == pytest.approx(1, abs=0.35)
    full = torch.nn.functional.pad(body(), (6, 6, 6, 6)) / scan.unit
    assert (scan.full - full).abs().mean() < 0.05


def test_bins_are_counted_together_and_radians_read(sinogram):
    file = read_sinogram(sinogram(units="radians"))
    assert file.angles[1] == pytest.approx(4.5)
    scan = NamedTomography(binning=2, centre=CENTRE).scan(sinogram())
    assert scan.y.shape == (1, 1, 40, 18) and scan.full is None
    assert scan.physics.geometry.centre == pytest.approx((CENTRE + 0.5) / 2 - 0.5)
    assert float(scan.physics.noise.photons.mean()) == pytest.approx(4e4, rel=0.2)


def test_a_sinogram_in_one_command(sinogram, tmp_path):
    (found,) = restore(
        sinogram(),
        "tomography",
        every=2,
        method="tv",
        steps=30,
        beside=["lasso"],
        out=tmp_path / "out",
    )
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["result"]["psnr"] > 20 and told["degraded"]["psnr"] > 15
    assert told["beside"]["lasso"]["psnr"] > 10 and (tmp_path / "out" / "panel.png").exists()
    assert np.allclose(np.load(tmp_path / "out" / "result.npy"), told["unit"] * found.image.numpy())
    assert any("axis of rotation" in note for note in told["notes"])


@pytest.mark.parametrize("units", [np.bytes_("rad"), np.array([b"radians"]), "Radians"])
def test_units_of_angles_are_read_whichever_way_they_are_held(sinogram, units):
    path = sinogram(units="radians")
    with h5py.File(path, "r+") as file:
        del file["exchange/theta"].attrs["units"]
        file["exchange/theta"].attrs["units"] = units
    assert read_sinogram(path).angles[1] == pytest.approx(4.5)


def test_flats_may_be_one_frame_or_all_the_same(sinogram):
    flat = np.full((20, 1, 36), 2e4 + 50)
    for frames in (flat, flat[0], flat[:1]):
        scan = NamedTomography().scan(sinogram(data_white=frames))
        assert float(scan.physics.noise.photons.mean()) == pytest.approx(2e4)
        assert "a count is taken for a photon" in scan.notes[0]


def test_angles_may_be_told_and_lengths_are_those_of_the_file(sinogram):
    path = sinogram()
    with h5py.File(path, "r+") as file:
        del file["exchange/theta"]
    told = NamedTomography(angles=40).scan(path)
    assert torch.equal(told.y, NamedTomography().scan(sinogram()).y)
    fan = NamedTomography(source=60.0, detector=20.0, binning=2).scan(sinogram())
    assert (fan.physics.geometry.source, fan.physics.geometry.detector) == (30, 10)


@pytest.mark.parametrize(
    ("options", "changed", "words"),
    [
        ({}, {"theta": None}, "no exchange/theta: give angles"),
        ({}, {"theta": np.full(40, np.nan)}, "NaN or Inf"),
        ({"binning": 50}, {}, "the detector has 36 bins"),
        ({}, {"data_white": None}, "no frames of the open beam"),
        ({}, {"data_white": np.ones((4, 1, 30))}, "does not fit the detector"),
        ({}, {"data": -np.ones((40, 1, 36))}, "are negative"),
        ({}, {"data": np.ones((30, 1, 36))}, "does not fit 40 angles"),
        ({"angles": 12}, {}, "12 for the 40 views"),
        ({"slice": 1}, {}, "has 1 slices, counted from 0"),
        ({"centre": 99.0}, {}, "axis must fall"),
    ],
)
def test_what_is_wrong_with_a_sinogram_is_said_in_one_line(sinogram, options, changed, words):
    path = sinogram(**changed)
    with pytest.raises(InnverseError, match=words) as caught:
        NamedTomography(**options).scan(path)
    assert "\n" not in str(caught.value)


COILS, H, W = 5, 32, 28


def measured(lines=slice(None)) -> np.ndarray:
    """k-space (coils, H, W) of a head with a phase."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, H), torch.linspace(-1, 1, W), indexing="ij")
    head = ((x / 0.7) ** 2 + (y / 0.8) ** 2 < 1).float() * (0.6 + 0.3 * (x * y > 0))
    s = simulated_sensitivities(COILS, (H, W)) * torch.polar(torch.ones(H, W), 0.8 * y)
    k = as_complex(MRI(s, torch.ones(H, W)).A(head[None, None]))[0]
    noise = torch.randn(k.shape, dtype=k.dtype, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(W)
    mask[lines] = 1
    return ((k + 0.01 * noise) * mask * 40).numpy()


def write_kspace(path, k, **more) -> None:
    with h5py.File(path, "w") as file:
        file["kspace"] = k[None]
        for name, values in more.items():
            file[name] = values


def test_k_space_is_read_thinned_and_solved_in_one_command(tmp_path):
    write_kspace(tmp_path / "head.h5", measured())
    scan = NamedMRI(every=2, calibration=12).scan(tmp_path / "head.h5")
    assert scan.physics.mask[0, 0].any(0).sum() == 20 and scan.physics.coils == COILS
    assert scan.notes == ["20 of 28 lines are used, of 28 measured"]
    (found,) = restore(
        tmp_path / "head.h5",
        "mri",
        every=2,
        calibration=12,
        method="tv",
        steps=60,
        out=tmp_path / "o",
    )
    told = found.summary
    assert told["result"]["psnr"] > told["degraded"]["psnr"] + 3
    assert told["result"]["ssim"] > told["degraded"]["ssim"]


def test_one_scan_in_four_layouts(tmp_path):
    k = measured()
    write_kspace(tmp_path / "a.h5", k)
    assert np.allclose(read_kspace(tmp_path / "a.h5").values, k[None])
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "b.mat", {"DATA": np.moveaxis(k, 0, -1), "TE": 3.0})
    assert np.allclose(read_kspace(tmp_path / "b.mat").values, k[None])
    pair = np.dtype([("real", "f8"), ("imag", "f8")])
    flat = np.moveaxis(k, 0, -1).T  # as version 7.3 lays a matrix out
    with h5py.File(tmp_path / "c.mat", "w") as file:
        parts = np.empty(flat.shape, pair)
        parts["real"], parts["imag"] = flat.real, flat.imag
        file["DATA"] = parts
    assert np.allclose(read_kspace(tmp_path / "c.mat").values, k[None])
    write_ismrmrd(tmp_path / "d.h5", k)
    assert np.allclose(read_kspace(tmp_path / "d.h5").values, k[None], atol=1e-4)


def test_one_of_several_arrays_is_called_kspace_or_named(tmp_path):
    k = measured()
    parts = {"kspace": np.moveaxis(k, 0, -1), "maps": 2 * np.moveaxis(k, 0, -1), "one": k[0]}
    pytest.importorskip("scipy.io").savemat(tmp_path / "a.mat", parts)
    write_kspace(tmp_path / "a.h5", k, other=2 * k[None])
    np.save(tmp_path / "a.npy", k)
    for name, factor in (("a.mat", 1), ("a.mat:maps", 2), ("a.h5:other", 2), ("a.npy", 1)):
        assert np.allclose(read_kspace(tmp_path / name).values, factor * k[None]), name
    assert np.allclose(read_kspace(tmp_path / "a.mat:one").values, k[None, :1])
    for name in ("a.mat:maps", "a.npy"):
        (found,) = restore(tmp_path / name, "mri", method="tv", steps=2)
        assert found.image.shape == (2, H, W)
    with pytest.raises(InnverseError, match="behind it is 2x32x28, not 1x8x8"):
        restore(tmp_path / "a.npy", "mri", method="tv", image_shape=(1, 8, 8))


def test_a_mask_that_is_not_that_of_the_k_space_is_doubted(tmp_path):
    right = np.zeros((H, W), np.float32)
    right[:, 10:18] = 1
    for k in (measured(slice(10, 18))[:1], measured()[:1]):
        np.save(tmp_path / "k.npy", k / 40)
        for mask, doubted in ((right, k[0, 0, 0] != 0), (None, True)):
            (found,) = restore(
                tmp_path / "k.npy", "fourier", mask=mask, method="tv", steps=2, noise=0.01,
                image_shape=(1, H, W),
            )  # fmt: skip
            assert any("mask is not that" in note for note in found.notes) == doubted


def test_lines_of_ismrmrd_lie_where_the_middle_is_said_to_be(tmp_path):
    k = measured(slice(4, None))
    write_ismrmrd(tmp_path / "part.h5", k, first=4, middle=W // 2 - 4)
    assert np.allclose(read_kspace(tmp_path / "part.h5").values, k[None], atol=1e-4)


def test_what_tells_pictures_apart_in_ismrmrd_is_not_averaged(tmp_path):
    k = measured()
    write_ismrmrd(tmp_path / "two.h5", k, index="repetition")
    values = read_kspace(tmp_path / "two.h5").values
    assert np.allclose(values, np.stack((k, 2 * k)), atol=1e-4)


@pytest.mark.parametrize(
    ("more", "words"),
    [({"index": "kspace_encode_step_2"}, "three directions"), ({"flags": 1 << 21}, "backwards")],
)
def test_other_scans_of_ismrmrd_are_refused(tmp_path, more, words):
    write_ismrmrd(tmp_path / "a.h5", measured(), **more)
    with pytest.raises(InnverseError, match=words):
        read_kspace(tmp_path / "a.h5")


def test_what_is_read_out_beyond_the_picture_is_cut_off(tmp_path):
    k = torch.from_numpy(measured(slice(2, 26)))
    image = torch.zeros(COILS, 2 * H, W, dtype=k.dtype)
    image[:, H // 2 : H // 2 + H] = ifft(k)
    write_kspace(tmp_path / "wide.h5", fft(image).numpy(), reconstruction_rss=np.zeros((1, H, W)))
    scan = NamedMRI(calibration=12).scan(tmp_path / "wide.h5")
    assert scan.physics.image_shape == (2, H, W)
    assert torch.allclose(scan.unit * as_complex(scan.y)[0], k, atol=1e-4)


def test_sensitivities_may_be_given(tmp_path):
    write_kspace(tmp_path / "head.h5", measured())
    s = simulated_sensitivities(COILS, (H, W))
    np.save(tmp_path / "s.npy", s.numpy())
    scan = NamedMRI(sensitivities=str(tmp_path / "s.npy")).scan(tmp_path / "head.h5")
    assert torch.allclose(torch.view_as_complex(scan.physics.sensitivities), s)
    for wrong in (s[:-1], s[:, 1:]):
        with pytest.raises(InnverseError, match="do not fit the k-space"):
            NamedMRI(sensitivities=wrong).scan(tmp_path / "head.h5")


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (lambda: measured(slice(0, None, 4)), "calibration lines around the middle"),
        (lambda: np.fft.ifftshift(measured(), (-2, -1)), "lie in the corners"),
        (lambda: 0 * measured(), "nothing but zeros"),
        (lambda: measured().real, "must be complex"),
    ],
)
def test_what_is_wrong_with_k_space_is_said_in_one_line(tmp_path, k, words):
    write_kspace(tmp_path / "head.h5", k())
    with pytest.raises(InnverseError, match=words) as caught:
        NamedMRI().scan(tmp_path / "head.h5")
    assert "\n" not in str(caught.value)


def test_files_of_other_kinds_are_refused_in_one_line(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["volume"] = np.zeros((4, 4))
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "text.mat").write_text("no MATLAB file, nor anything like one")
    for read, name, words in (
        (read_kspace, "other.h5", "it has volume"),
        (read_sinogram, "other.h5", "it has volume"),
        (read_sinogram, "text.h5", "not HDF5"),
        (read_kspace, "text.mat", "no MATLAB file"),
        (read_kspace, "missing.h5", "No such file"),
    ):
        with pytest.raises(InnverseError, match=words) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


_XML = """<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{h}</x><y>{w}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>{h}</x><y>{w}</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>
<center>{middle}</center></kspace_encoding_step_1></encodingLimits>
<trajectory>{kind}</trajectory></encoding></ismrmrdHeader>"""


def write_ismrmrd(
    path, k, kind="cartesian", first=0, middle=W // 2, index="slice", flags=0
) -> None:
    """The parts of the layout that hold lines: every one measured twice, and a scan of noise alone.

    Steps count from the line ``first`` on; with an ``index`` the second time is another picture, of
    twice the values.
    """
    names = ["kspace_encode_step_1", *dict.fromkeys(("slice", index))]
    head = np.dtype(
        [("flags", "u8"), ("number_of_samples", "u2"), ("active_channels", "u2"),
         ("center_sample", "u2"), ("idx", np.dtype([(name, "u2") for name in names]))]
    )  # fmt: skip
    line = np.dtype([("head", head), ("data", h5py.vlen_dtype(np.float32))])
    once = range(W - first)
    steps = [*once, *once, 0]
    rows = np.empty(len(steps), line)
    for i, step in enumerate(steps):
        noise, other = i == len(steps) - 1, index != "slice" and i >= len(once)
        at = (step, *(other if name == index else 0 for name in names[1:]))
        rows[i]["head"] = (1 << 18 if noise else flags, H, COILS, H // 2, at)
        values = np.ascontiguousarray(k[:, :, first + step], np.complex64).ravel()
        rows[i]["data"] = values.view(np.float32) * (99 if noise else 1 + other)
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("data", data=rows, dtype=line)
        xml = _XML.format(h=H, w=W, kind=kind, middle=middle, last=len(once) - 1)
        group["xml"] = [xml.encode()]
