"""Scans with something wrong, from the command line: one clear line, the right code, no files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innverse.physics.fourier import as_complex
from innverse.physics.mri import MRI, simulated_sensitivities
from innverse.physics.tomography import Tomography

N, VIEWS, BINS, COILS = 24, 40, 36, 4
DEGREES = np.arange(VIEWS) * 180 / VIEWS


def hdf5(name, parts, attributes=()):
    h5py = pytest.importorskip("h5py")
    with h5py.File(name, "w") as file:
        for key, values in parts.items():
            file[key] = np.asarray(values)
        for key, attribute, value in attributes:
            file[key].attrs[attribute] = value


def sinogram(units="degrees", **changed):
    body = torch.zeros(1, 1, N, N)
    body[..., 6:17, 7:18] = 0.02
    depth = Tomography((1, N, N), DEGREES, BINS, centre=15.0).A(body)[0, 0].numpy()
    rng = np.random.default_rng(0)
    parts = {
        "data": rng.poisson(2e4 * np.exp(-depth))[:, None] + 50.0,
        "data_white": rng.poisson(2e4, (20, 1, BINS)) + 50.0,
        "data_dark": np.full((3, 1, BINS), 50.0),
        "theta": DEGREES,
    } | changed
    known = [("exchange/theta", "units", units)] if units else []
    hdf5("scan.h5", {f"exchange/{k}": v for k, v in parts.items()}, known)
    return parts


def kspace(lines=slice(None), size=(32, 28)):
    h, w = size
    head = torch.zeros(1, 1, h, w)
    head[..., 8:24, 6:20] = 0.8
    k = as_complex(MRI(simulated_sensitivities(COILS, size), torch.ones(h, w)).A(head))[0].numpy()
    k = k + 0.002 * np.random.default_rng(0).normal(size=k.shape)
    mask = np.zeros(w)
    mask[lines] = 1
    hdf5("head.h5", {"kspace": (k * mask)[None].astype(np.complex64)})


def dicom(name, side=16, modality="CT", slope=1.0):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(name), {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.Modality, file.SeriesInstanceUID, file.PatientID = modality, "1.2.3", "P"
    file.Rows = file.Columns = side
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    if slope is not None:
        file.RescaleSlope, file.RescaleIntercept = slope, -1024
    file.PixelData = np.full((side, side), 1100, np.uint16).tobytes()
    pydicom.dcmwrite(name, file, enforce_file_format=True)


def series(**last):
    from pathlib import Path

    Path("series").mkdir()
    for k in range(2):
        dicom(f"series/{k}.dcm", **(last if k else {}))


def array(name, values):
    np.save(name, np.asarray(values))


def tiff(name, values):
    pytest.importorskip("tifffile").imwrite(name, values)


def pages(*sizes):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter("stack.tif") as file:
        for side in sizes:
            file.write(np.full((side, side), 900, np.uint16), contiguous=False)


CT = ["scan.h5", "--physics", "tomography"]
HEAD = ["head.h5", "--physics", "mri"]
GRAIN = ["--physics", "denoising", "--noise", 30]
BAD = {
    "flats of another detector": (
        lambda: sinogram(data_white=np.ones((4, 1, 30))), CT, 4, "does not fit the detector",
    ),
    "darks of another detector": (
        lambda: sinogram(data_dark=np.ones((4, 1, 30))), CT, 4, "does not fit the detector",
    ),
    "a sinogram of another detector": (
        lambda: array("y.npy", np.ones((1, VIEWS, BINS))),
        ["y.npy", *CT[1:], "--angles", VIEWS, "--detectors", 30, "--image-shape", "1x24x24"],
        4, "gives (1, 40, 30)",
    ),
    "a sinogram turned over": (
        lambda: array("y.npy", np.ones((1, BINS, VIEWS))),
        ["y.npy", *CT[1:], "--angles", VIEWS, "--detectors", BINS, "--image-shape", "1x24x24"],
        4, "gives (1, 40, 36)",
    ),
    "angles of another number": (sinogram, [*CT, "--angles", 12], 2, "--angles: 12 for the 40 views"),
    "fewer views than angles": (
        lambda: sinogram(data=np.ones((30, 1, BINS))), CT, 4, "does not fit 40 angles",
    ),
    "radians called nothing": (
        lambda: sinogram(units=None, theta=np.deg2rad(DEGREES)), CT, 4, "look like radians",
    ),
    "radians called degrees": (
        lambda: sinogram(theta=np.deg2rad(DEGREES)), CT, 4, "look like radians",
    ),
    "degrees called radians": (
        lambda: sinogram(units="radians"), CT, 4, "called radians",
    ),
    "an axis beside the detector": (sinogram, [*CT, "--centre", 99], 2, "axis must fall"),
    "negative counts": (
        lambda: sinogram(data=-np.ones((VIEWS, 1, BINS))), CT, 4, "counts are negative",
    ),
    "counts that are no numbers": (
        lambda: sinogram(data=np.full((VIEWS, 1, BINS), np.nan)), CT, 4, "NaN",
    ),
    "flats and darks exchanged": (
        lambda: sinogram(data_white=np.full((3, 1, BINS), 50.0), data_dark=np.full((3, 1, BINS), 2e4)),
        CT, 4, "exchanged",
    ),
    "no flats": (
        lambda: hdf5("scan.h5", {"exchange/data": np.ones((4, 1, 8)), "exchange/theta": np.ones(4)}),
        CT, 4, "open beam",
    ),
    "coils of another size": (
        lambda: (kspace(), array("s.npy", simulated_sensitivities(COILS, (32, 30)))),
        [*HEAD, "--sensitivities", "s.npy"], 4, "do not fit the k-space",
    ),
    "coils of another number": (
        lambda: (kspace(), array("s.npy", simulated_sensitivities(COILS + 1, (32, 28)))),
        [*HEAD, "--sensitivities", "s.npy"], 4, "do not fit the k-space",
    ),
    "coils that are real": (
        lambda: (kspace(), array("s.npy", np.ones((COILS, 32, 28), np.float32))),
        [*HEAD, "--sensitivities", "s.npy"], 4, "must be complex",
    ),
    "coils that are missing": (kspace, [*HEAD, "--sensitivities", "esprit"], 4, "esprit"),
    "no calibration lines": (
        lambda: kspace(slice(0, None, 4)), HEAD, 4, "calibration lines around the middle",
    ),
    "too few calibration lines": (
        lambda: kspace([*range(0, 28, 4), 13, 14, 15]), HEAD, 4, "calibration lines around the middle",
    ),
    "a calibration of nothing": (kspace, [*HEAD, "--calibration", 2], 2, "--calibration"),
    "k-space of nothing": (lambda: kspace([]), HEAD, 4, "nothing but zeros"),
    "a CT slice without rescale": (
        lambda: dicom("a.dcm", slope=None), ["a.dcm", *GRAIN], 4, "RescaleSlope",
    ),
    "a series with one slice without rescale": (
        lambda: series(slope=None), ["series", *GRAIN], 4, "RescaleSlope",
    ),
    "a rescale by 0": (lambda: dicom("a.dcm", slope=0), ["a.dcm", *GRAIN], 4, "give no units"),
    "a series of mixed sizes": (lambda: series(side=18), ["series", *GRAIN], 4, "mixed sizes"),
    "pages of mixed sizes": (lambda: pages(16, 16, 18), ["stack.tif", *GRAIN], 4, "mixed sizes"),
    "negative photons": (
        lambda: tiff("n.tif", np.random.default_rng(0).normal(2, 5, (32, 32)).astype(np.float32)),
        ["n.tif", "--physics", "denoising", "--noise", "counts"], 4, "negative",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_line_and_nothing_written(tmp_path, monkeypatch, run, case):
    make, arguments, code, words = BAD[case]
    monkeypatch.chdir(tmp_path)
    make()
    got, out, err = run(
        "solve", *arguments, "--method", "tv", "--steps", 2, "--out", "r", "--quiet"
    )
    said = err.strip().splitlines()
    assert (got, len(said), out) == (code, 1, "") and words in err, (got, out, err)
    assert not (tmp_path / "r").exists()


def test_an_axis_that_is_wrong_is_doubted(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    sinogram()
    _, _, err = run("solve", *CT, "--centre", 22, "--method", "tv", "--steps", 5, "--out", "r")
    assert "the body turns about bin 15" in err and "give centre" in err


@pytest.mark.parametrize("case", ["a CT slice without rescale", "pages of mixed sizes"])
@pytest.mark.parametrize("verb", ["eval", "logprob", "train"])
def test_other_verbs_refuse_slices_likewise(tmp_path, monkeypatch, run, models, case, verb):
    make, (file, *_), code, words = BAD[case]
    monkeypatch.chdir(tmp_path)
    make()
    given = {
        "eval": ["denoise", "--data", file, "--sigma", 25, "--model", models / "gray"],
        "logprob": [models / "gray", file],
        "train": [file, "--minutes", "0.01", "--out", "r"],
    }[verb]
    got, out, err = run(verb, *given)
    assert got == code and words in err and len(err.strip().splitlines()) == 1 and not out
    assert not (tmp_path / "r").exists()
