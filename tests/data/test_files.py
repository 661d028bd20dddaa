"""Files of scientists: values, range and metadata go in and come out; bad files are one line."""

from __future__ import annotations

import struct
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.data import open_images, read_array, read_stack, split, write_image, write_stack
from innverse.data.files import dicom_series, is_stack, stack_files
from innverse.data.formats import matlab
from innverse.data.scan_files import read_kspace
from innverse.data.stack import from_slices, to_slices
from innverse.errors import InnverseError, InputError, UsageError

COUNTS = np.random.default_rng(0).integers(0, 4000, (5, 12, 16)).astype(np.uint16)
HU = COUNTS.astype(np.int16) - 1024


def dicom(path, hu=None, slope: float | None = 1.0, **more):
    """A CT slice as a scanner writes it: 12 bits, slope and intercept."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    hu = HU[0] if hu is None else hu
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.Modality, file.PatientID, file.SeriesInstanceUID = "CT", "P1", "1.2.3"
    file.Rows, file.Columns = hu.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelSpacing = [0.7, 0.7]
    if slope is not None:
        file.RescaleSlope, file.RescaleIntercept = slope, -1024
    file.PixelData = (hu + 1024).astype("<u2").tobytes()
    for name, value in more.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return pydicom


def series(folder, n=5, **more):
    folder.mkdir(exist_ok=True)
    for k in range(n):
        place = {"ImagePositionPatient": [0, 0, -float(k)]}
        dicom(folder / f"IM{k}", HU[k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], **place, **more)
    return folder


def make(kind: str, path):
    """A file of each format with `COUNTS` or `HU`, and what is read of it."""
    path = path / {"ome": "a.ome.tif", "imagej": "ij.tif"}.get(kind, f"a.{kind}")
    if kind in ("tif", "imagej"):
        tifffile = pytest.importorskip("tifffile")
        how = {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}} if kind == "imagej" else {
            "metadata": None, "description": "my sample"}  # fmt: skip
        tifffile.imwrite(path, COUNTS, resolution=(100, 200), **how)
        return path, COUNTS
    if kind == "h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["scan/image"], file["scan/angles"] = HU, np.arange(5.0)
            file["scan/image"].attrs["units"] = "HU"
            file["scan"].attrs["voltage"] = 120.0
        return path, HU
    if kind == "mat":
        pytest.importorskip("scipy.io").savemat(
            path, {"image": np.moveaxis(HU, 0, -1), "k": np.eye(3)}
        )
        return path, HU
    if kind in ("nii", "nii.gz"):
        nibabel = pytest.importorskip("nibabel")
        image = nibabel.Nifti1Image(HU.T[:, ::-1], np.diag([0.7, 0.7, 2.0, 1.0]))
        image.header.set_slope_inter(0.5, 10)
        image.to_filename(path)
        return path, 0.5 * HU + 10
    if kind == "npz":
        np.savez(path, hu=HU, patient=np.arange(5))
        return path, HU
    if kind == "npy":
        np.save(path, HU)
        return path, HU
    series(path.with_name("series"))
    return path.with_name("series"), HU[::-1]  # sorted along the body


KINDS = ["tif", "imagej", "h5", "mat", "nii", "nii.gz", "npz", "npy", "dicom"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_go_in_and_come_out_as_they_were(kind, tmp_path):
    path, values = make(kind, tmp_path)
    stack = read_stack(path)
    np.testing.assert_array_equal(stack.values, values[:, None])
    written = write_stack(tmp_path / "out" / "result", stack, stack.values.astype(np.float32))
    again = read_stack(written)
    np.testing.assert_array_equal(again.values, stack.values)
    assert again.values.dtype == stack.values.dtype and again.x_range == stack.x_range
    assert written.name == "result" + "".join(path.suffixes)


def test_pages_that_were_written_one_by_one_are_all_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in COUNTS:
            file.write(page, contiguous=False)
    stack = read_stack(tmp_path / "pages.tif")
    np.testing.assert_array_equal(stack.values[:, 0], COUNTS)
    written = write_stack(tmp_path / "out", stack, stack.values.astype(float))
    np.testing.assert_array_equal(tifffile.imread(written), COUNTS)


def test_a_tiff_whose_lowest_value_is_white_is_read_the_right_way_round_and_stays_one(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "film.tif", 65535 - COUNTS, photometric="miniswhite")
    stack = read_stack(tmp_path / "film.tif")
    np.testing.assert_array_equal(stack.values[:, 0], COUNTS)
    written = write_stack(tmp_path / "out", stack, stack.values.astype(float))
    np.testing.assert_array_equal(tifffile.imread(written), 65535 - COUNTS)
    np.testing.assert_array_equal(read_stack(written).values[:, 0], COUNTS)
    spread = np.full(stack.values.shape, 3.0)
    assert (tifffile.imread(write_stack(tmp_path / "std", stack, spread, spread=True)) == 3).all()


def test_colours_in_planes_of_their_own_are_one_picture(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    how = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "planes.tif", COUNTS[:3], **how)
    stack = read_stack(tmp_path / "planes.tif")
    np.testing.assert_array_equal(stack.values, COUNTS[None, :3])
    written = write_stack(tmp_path / "out", stack, stack.values.astype(float))
    np.testing.assert_array_equal(read_stack(written).values, stack.values)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_three_slices_of_a_quantity_are_no_colours(dtype, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    how = {"photometric": "rgb", "planarconfig": "separate"}  # what it calls any three slices
    tifffile.imwrite(tmp_path / "three.tif", HU[:3].astype(dtype), **how)
    pytest.importorskip("scipy.io").savemat(
        tmp_path / "three.mat", {"image": np.moveaxis(HU[:3].astype(dtype), 0, -1)}
    )
    for name in ("three.tif", "three.mat"):
        stack = read_stack(tmp_path / name)
        np.testing.assert_array_equal(stack.values, HU[:3, None])
        written = write_stack(tmp_path / "out", stack, stack.values.astype(float))
        np.testing.assert_array_equal(read_array(written), read_array(tmp_path / name))


def test_three_channels_of_imagej_are_slices(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    cells = COUNTS[None, :3].repeat(2, 0)
    tifffile.imwrite(tmp_path / "cells.tif", cells, imagej=True, metadata={"axes": "ZCYX"})
    stack = read_stack(tmp_path / "cells.tif")
    np.testing.assert_array_equal(stack.values, cells.reshape(6, 1, *COUNTS.shape[1:]))
    written = write_stack(tmp_path / "out", stack, stack.values.astype(float))
    np.testing.assert_array_equal(tifffile.imread(written), cells)


@pytest.mark.parametrize("values", [COUNTS[0], COUNTS[0].astype(np.float32) / 4000])
def test_pages_that_are_packed_by_lzw_are_read(values, tmp_path):
    pytest.importorskip("tifffile")
    PIL.Image.fromarray(values).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    stack = read_stack(tmp_path / "lzw.tif")
    assert stack.values.dtype == values.dtype
    np.testing.assert_array_equal(stack.values[0, 0], values)


def test_small_numbers_are_a_quantity_and_no_black_picture(tmp_path):
    np.save(tmp_path / "mu.npy", (1e-5 * COUNTS).astype(np.float32))
    stack = read_stack(tmp_path / "mu.npy")
    assert not stack.white and stack.x_range[1] == pytest.approx(1e-5 * COUNTS.max())
    np.save(tmp_path / "black.npy", np.zeros((2, 8, 8)))
    assert read_stack(tmp_path / "black.npy").x_range == (0, 1)


def test_an_ome_file_keeps_the_size_of_its_pixels(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    about = {"axes": "ZYX", "PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "um", "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", COUNTS, metadata=about)
    stack = read_stack(tmp_path / "a.ome.tif")
    half = write_stack(tmp_path / "half", stack, stack.values[..., ::2].astype(float))
    with tifffile.TiffFile(half) as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert file.series[0].axes == "ZYX"
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.6, "um")
    assert pixels["PhysicalSizeZ"] == 2.0 and pixels["SizeZ"] == len(COUNTS)


@pytest.mark.parametrize("kind", KINDS)
def test_deviations_keep_their_digits(kind, tmp_path):
    stack = read_stack(make(kind, tmp_path)[0])
    spread = np.random.default_rng(1).gamma(2, 3, stack.values.shape).astype(np.float32)
    again = read_stack(write_stack(tmp_path / "out" / "std", stack, spread, spread=True))
    np.testing.assert_allclose(again.values, spread, atol=spread.max() / 60000)


def test_what_a_tiff_says_of_itself_is_kept(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    stack = read_stack(make("tif", tmp_path)[0])
    small = write_stack(tmp_path / "small", stack, stack.values[..., ::2, ::2].astype(float))
    with tifffile.TiffFile(small) as file:
        page = file.pages[0]
        assert page.description == "my sample" and page.get_resolution() == (50, 100)
    stack = read_stack(make("imagej", tmp_path)[0])
    with tifffile.TiffFile(write_stack(tmp_path / "ij", stack, stack.values + 0.0)) as file:
        assert file.imagej_metadata["unit"] == "um" and file.imagej_metadata["slices"] == 5


def test_attributes_of_hdf5_are_kept(tmp_path):
    h5py = pytest.importorskip("h5py")
    stack = read_stack(make("h5", tmp_path)[0])
    assert stack.units == "HU"
    with h5py.File(write_stack(tmp_path / "r", stack, stack.values + 0.0)) as file:
        assert file["scan/image"].attrs["units"] == "HU" and file["scan"].attrs["voltage"] == 120


@pytest.mark.parametrize("units", [b"HU", np.bytes_("HU"), np.array([b"HU"]), "HU"])
def test_units_are_read_whichever_way_they_are_held(units, tmp_path):
    with pytest.importorskip("h5py").File(tmp_path / "a.h5", "w") as file:
        file["image"] = HU
        file["image"].attrs["units"] = units
    assert read_stack(tmp_path / "a.h5").units == "HU"


def test_the_place_of_a_volume_is_kept_when_its_pixels_grow(tmp_path):
    """The corner of the field of view, half a pixel before the first centre, stays."""
    nibabel = pytest.importorskip("nibabel")
    path, _ = make("nii", tmp_path)
    stack, before = read_stack(path), nibabel.load(path).affine
    after = nibabel.load(
        write_stack(tmp_path / "r", stack, stack.values[..., ::2, ::2] + 0.0)
    ).affine
    corner = np.array([-0.5, -0.5, 0, 1])
    np.testing.assert_allclose(after @ corner, before @ corner, atol=1e-6)
    np.testing.assert_allclose(after[:2, :2], 2 * before[:2, :2], atol=1e-6)


def test_a_written_series_is_a_new_one_of_the_same_patient(tmp_path):
    pydicom = dicom(tmp_path / "IM9")
    folder = series(tmp_path / "series")
    stack = read_stack(folder)
    assert stack.units == "HU" and stack.x_range == (-1024, 3071) and not stack.white
    assert stack.names == ("IM4", "IM3", "IM2", "IM1", "IM0") and set(stack.groups) == {"P1"}
    out = write_stack(tmp_path / "result", stack, stack.values[..., ::2, ::2] + 0.4)
    old, new = (pydicom.dcmread(place / "IM2") for place in (folder, out))
    assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID != old.SOPInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID and new.PatientID == old.PatientID
    assert [float(v) for v in new.PixelSpacing] == [1.4, 1.4]
    place = [float(v) for v in new.ImagePositionPatient]
    assert place == pytest.approx([0.35, 0.35, -2])  # the corner stays, half a pixel before it
    assert new.ImageType[0] == "DERIVED"
    assert len(dicom_series([*out.iterdir()])) == 1


def test_padding_around_the_field_of_view_is_air(tmp_path):
    hu = HU[0].copy()
    dicom(tmp_path / "a.dcm", hu, PixelRepresentation=1, BitsStored=16, HighBit=15)
    hu[0, :4] = -3024
    dicom(tmp_path / "b.dcm", hu, PixelRepresentation=1, BitsStored=16, HighBit=15)
    stack = read_stack(tmp_path / "b.dcm")
    assert (stack.values[0, 0, 0, :4] == -1024).all() and "padding" in stack.notes[0]
    assert read_stack(tmp_path / "a.dcm").notes == ()


def frames(path, scales, of_all=None, **more):
    """A file of as many frames of 1000 as there are (slope, intercept), or one of all."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(slope, intercept):
        scale, outer = Dataset(), Dataset()
        scale.RescaleSlope, scale.RescaleIntercept = slope, intercept
        outer.PixelValueTransformationSequence = Sequence([scale])
        return outer

    more["PerFrameFunctionalGroupsSequence"] = Sequence([group(*s) for s in scales])
    if of_all:
        more["SharedFunctionalGroupsSequence"] = Sequence([group(*of_all)])
    stored = np.full((2, 12, 16), 1000, "<u2").tobytes()
    dicom(path, slope=None, NumberOfFrames=2, PixelData=stored, **more)


def test_frames_have_scales_of_their_own(tmp_path):
    frames(tmp_path / "a.dcm", [(1, -1024), (2, -1000)])
    frames(tmp_path / "pet.dcm", [(1, 0), (3, 0)], Modality="PT")
    stack = read_stack(tmp_path / "a.dcm")
    assert (stack.values[0] == -24).all() and (stack.values[1] == 1000).all()
    assert read_stack(tmp_path / "pet.dcm").values.max() == 3000
    again = read_stack(write_stack(tmp_path / "r", stack, stack.values + 2))
    np.testing.assert_array_equal(again.values, stack.values + 2)
    frames(tmp_path / "b.dcm", [], of_all=(1, -1024))
    for name in ("a.dcm", "b.dcm"):
        stack = read_stack(tmp_path / name)
        assert stack.values[0, 0, 0, 0] == -24
        spread = np.full(stack.values.shape, 3.37)
        again = read_stack(write_stack(tmp_path / "std", stack, spread, spread=True))
        np.testing.assert_allclose(again.values, spread, atol=1e-4)


def test_what_scales_a_file_cannot_be_overlooked(tmp_path):
    pydicom = dicom(tmp_path / "mr.dcm", slope=2.5, Modality="MR")
    file = pydicom.dcmread(tmp_path / "mr.dcm")
    del file.RescaleIntercept
    file.save_as(tmp_path / "mr.dcm")
    np.testing.assert_array_equal(read_stack(tmp_path / "mr.dcm").values[0, 0], 2.5 * COUNTS[0])
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], b"\0\0\1\0"
    dicom(tmp_path / "t.dcm", slope=None, Modality="MR", ModalityLUTSequence=[table])
    with pytest.raises(InputError, match="table of values"):
        read_stack(tmp_path / "t.dcm")


def test_an_x_ray_whose_lowest_value_is_white_is_turned_and_stays_one(tmp_path):
    pydicom = dicom(
        tmp_path / "x.dcm", slope=None, Modality="DX", PhotometricInterpretation="MONOCHROME1"
    )
    stack = read_stack(tmp_path / "x.dcm")
    np.testing.assert_array_equal(stack.values[0, 0], 4095 - COUNTS[0])
    written = write_stack(tmp_path / "r", stack, stack.values.astype(float))
    np.testing.assert_array_equal(pydicom.dcmread(written).pixel_array, COUNTS[0])
    spread = write_stack(tmp_path / "std", stack, np.full(stack.values.shape, 3.5), spread=True)
    np.testing.assert_allclose(read_stack(spread).values, 3.5, atol=1e-4)


def test_bytes_in_the_other_order_are_read_and_written(tmp_path):
    pydicom = dicom(tmp_path / "a.dcm")
    file = pydicom.dcmread(tmp_path / "a.dcm")
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    file.PixelData = COUNTS[0].astype(">u2").tobytes()
    pydicom.dcmwrite(tmp_path / "b.dcm", file, implicit_vr=False, little_endian=False)
    stack = read_stack(tmp_path / "b.dcm")
    np.testing.assert_array_equal(stack.values[0, 0], HU[0])
    again = read_stack(write_stack(tmp_path / "r", stack, stack.values + 1))
    np.testing.assert_array_equal(again.values[0, 0], HU[0] + 1)


def test_other_modalities_need_no_rescale(tmp_path):
    dicom(tmp_path / "mr.dcm", slope=None, Modality="MR")
    stack = read_stack(tmp_path / "mr.dcm")
    assert stack.x_range == (0, float(COUNTS[0].max())) and not stack.white


def test_version_7_3_of_matlab(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "k.mat"
    z = np.arange(60.0).reshape(3, 4, 5)
    with h5py.File(path, "w", userblock_size=512) as file:
        pairs = np.zeros(z.T.shape, [("real", "f8"), ("imag", "f8")])  # as MATLAB writes them
        pairs["real"] = pairs["imag"] = z.T
        file["kspace"] = pairs
        file["image"] = np.moveaxis(HU, 0, -1).T
    np.testing.assert_array_equal(read_array(f"{path}:kspace"), z + 1j * z)
    stack = read_stack(f"{path}:image")
    np.testing.assert_array_equal(stack.values, HU[:, None])
    again = read_stack(write_stack(tmp_path / "r", stack, stack.values + 0.0))
    np.testing.assert_array_equal(again.values, stack.values)
    assert (tmp_path / "r.mat").read_bytes()[:10] == b"MATLAB 7.3"
    with pytest.raises(InputError, match="complex"):
        read_stack(f"{path}:kspace")


def test_the_arrays_of_a_cell_are_named_as_in_matlab(tmp_path):
    h5py = pytest.importorskip("h5py")
    kernels = [np.full((9, 9 + k), k + 1.0) for k in range(3)]
    cell = np.empty((1, 3), object)
    cell[0] = kernels
    pytest.importorskip("scipy.io").savemat(tmp_path / "old.mat", {"kernels": cell})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        places = [file.create_dataset(f"#refs#/{k}", data=x.T) for k, x in enumerate(kernels)]
        cells = file.create_dataset("kernels", (3, 1), h5py.ref_dtype)
        cells[:, 0] = [place.ref for place in places]
    for name in ("old", "new"):
        for k, x in enumerate(kernels, 1):
            np.testing.assert_array_equal(read_array(f"{tmp_path / name}.mat:kernels{{{k}}}"), x)
        with pytest.raises(InputError, match="kernels\\{1\\} 9x9"):
            read_array(f"{tmp_path / name}.mat")


def test_all_arrays_of_a_file_and_of_cells_in_its_cells(tmp_path):
    """Texts, structures and what is empty are no arrays, whatever the version."""
    h5py, scipy_io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    a, b, c = (np.arange(n * 3.0).reshape(n, 3) for n in (2, 4, 5))
    inner, outer = np.empty((1, 1), object), np.empty((2, 1), object)
    inner[0, 0] = c
    outer[:, 0] = [b, inner]
    known = {"a": a, "z": outer, "text": "kernel", "s": {"x": 1.0}}
    scipy_io.savemat(tmp_path / "old.mat", known)
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["a"] = a.T
        file["text"] = np.array([[107], [101]], np.uint16)
        file["text"].attrs["MATLAB_class"] = np.bytes_("char")
        file["nothing"] = np.zeros(2, np.uint64)
        file["nothing"].attrs["MATLAB_empty"] = np.uint8(1)
        file["#refs#/b"], file["#refs#/c"] = b.T, c.T
        cell = file.create_dataset("#refs#/d", (1, 1), h5py.ref_dtype)
        cell[0, 0] = file["#refs#/c"].ref
        cells = file.create_dataset("z", (1, 2), h5py.ref_dtype)
        cells[0] = [file["#refs#/b"].ref, cell.ref]
    for name in ("old.mat", "new.mat"):
        found = matlab.arrays(tmp_path / name)
        assert [*found] == ["a", "z{1}", "z{2}{1}"]
        for values, right in zip(found.values(), (a, b, c), strict=True):
            np.testing.assert_array_equal(values, right)


def test_links_to_other_files_are_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kspace"] = np.ones((1, 2, 8, 8), np.complex64)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("secret.h5", "kspace")
    with pytest.raises(InputError, match="kspace lies in other files"):
        read_kspace(tmp_path / "scan.h5")


def test_a_scan_that_would_fill_the_memory_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("kspace", (900, 8, 512, 512), np.complex64, chunks=(1, 8, 512, 512))
    with pytest.raises(InputError, match="fill the memory"):
        read_kspace(tmp_path / "scan.h5")


@pytest.mark.parametrize(
    "shape", [(9, 8), (4, 9, 8), (9, 8, 3), (4, 9, 8, 1), (4, 9, 8, 3), (4, 3, 9, 8), (2, 4, 9, 8)]
)
def test_axes_are_put_back(shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    slices = to_slices(array, "x")
    assert slices.shape[-2:] == (9, 8) and slices.shape[1] == (3 if 3 in shape else 1)
    np.testing.assert_array_equal(from_slices(slices, shape), array)


def test_names_choose_among_arrays(tmp_path):
    path, _ = make("npz", tmp_path)
    assert read_array(f"{path}:patient").shape == (5,) and read_array(path).shape == HU.shape
    np.savez(tmp_path / "two.npz", a=HU, b=HU)
    for bad, words in [
        (f"{path}:nothing", "no array 'nothing'"),
        (tmp_path / "two.npz", "several arrays"),
    ]:
        with pytest.raises(InputError, match=words):
            read_stack(bad)


# ---- what is wrong is said in one line ------------------------------------------------------------


def mixed(folder):
    dicom(folder / "a", HU[0])
    dicom(folder / "b", HU[0][:6])
    return folder


def mixed_tiff(folder):
    with pytest.importorskip("tifffile").TiffWriter(folder / "x.tif") as file:
        for page in (COUNTS[0], COUNTS[0][:6]):
            file.write(page, contiguous=False)
    return folder / "x.tif"


def no_scale(folder):
    dicom(folder / "x.dcm", slope=None)
    return folder / "x.dcm"


def nan(folder):
    np.save(folder / "x.npy", np.full((2, 8, 8), np.nan))
    return folder / "x.npy"


def pickled(folder):
    np.savez(folder / "x.npz", image=np.array([{}], dtype=object))
    return folder / "x.npz"


def cell(folder):
    pytest.importorskip("scipy.io").savemat(
        folder / "x.mat", {"c": np.array([{}, "a"], dtype=object)}
    )
    return folder / "x.mat"


def elsewhere(folder):
    """An HDF5 whose data set reads another file."""
    h5py = pytest.importorskip("h5py")
    (folder / "secret").write_bytes(bytes(64))
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("image", (8, 8), "u1", external=[(str(folder / "secret"), 0, 64)])
    return folder / "x.h5"


def bomb(folder):
    """A megabyte of chunks that declares to be a terabyte."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("image", (1 << 20, 1024, 1024), "u1", chunks=(1, 1024, 1024))
    return folder / "x.h5"


def garbage(suffix):
    def write(folder):
        (folder / f"x{suffix}").write_bytes(b"\x93garbage" * 100)
        return folder / f"x{suffix}"

    write.__name__ = f"garbage{suffix}"
    return write


@pytest.mark.parametrize(
    ("make_bad", "words"),
    [
        (mixed, "mixed sizes"), (mixed_tiff, "mixed sizes"), (no_scale, "RescaleSlope"),
        (nan, "NaN"), (pickled, "pickle|no array of pictures"), (cell, "no array of pictures"),
        (elsewhere, "other files"), (bomb, "fill the memory"), (garbage(".tif"), "no TIFF"),
        (garbage(".dcm"), "no DICOM"), (garbage(".nii"), "no NIfTI"), (garbage(".h5"), "not HDF5"),
        (garbage(".mat"), "no MATLAB"), (garbage(".npy"), "numpy"),
        (garbage(".xyz"), "format of files"),
        (lambda folder: folder / "none.h5", "No such file"),
    ],
)  # fmt: skip
def test_bad_files(make_bad, words, tmp_path):
    if "dcm" in getattr(make_bad, "__name__", ""):
        pytest.importorskip("pydicom")
    if "nii" in getattr(make_bad, "__name__", ""):
        pytest.importorskip("nibabel")
    with pytest.raises(InnverseError, match=words) as error:
        read_stack(make_bad(tmp_path))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_compressed_matlab_file_may_not_fill_the_memory(tmp_path):
    pytest.importorskip("scipy")
    n = 1 << 31
    name = struct.pack("<II8s", 1, 5, b"image")
    parts = struct.pack("<IIIIII", 6, 8, 9, 0, 5, 8) + struct.pack("<ii", 1 << 16, 1 << 15) + name
    inner = struct.pack("<II", 14, len(parts) + 8) + parts + struct.pack("<II", 2, n - 1)
    packed = zlib.compress(inner)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (tmp_path / "x.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(InputError, match="fill the memory|damaged"):
        read_stack(tmp_path / "x.mat")


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    for module, suffix in [
        ("pydicom", ".dcm"),
        ("nibabel", ".nii"),
        ("h5py", ".h5"),
        ("tifffile", ".tif"),
    ]:
        (tmp_path / f"x{suffix}").write_bytes(bytes(600))
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InnverseError, match=r"innverse\[io\]") as error:
            read_stack(tmp_path / f"x{suffix}")
        assert not isinstance(error.value, InputError)


# ---- as images for training -----------------------------------------------------------------------


def test_slices_are_numbers_between_the_ends_of_their_range(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    np.save(folder / "a.npy", HU)
    np.save(folder / "b.npy", HU[:2, :8, :8] - 200)
    source = open_images(folder, deep=True)
    low, high = source.x_range
    assert (low, high) == (min(HU.min(), HU[:2, :8, :8].min() - 200), HU.max())
    assert len(source) == 7 and source.size is None and source.array(0).dtype == np.uint16
    values = low + source.array(0) / 65535 * (high - low)
    np.testing.assert_allclose(values[0], HU[0], atol=(high - low) / 65535)
    shallow = open_images(folder)
    np.testing.assert_allclose(shallow.array(0) / 255, source.array(0) / 65535, atol=0.5 / 255)


def test_slices_are_read_as_a_model_was_trained(tmp_path):
    dicom(tmp_path / "a.dcm")
    model = SimpleNamespace(shape=(1, 8, 8), x_range=(-2000.0, 4000.0), units="HU")
    source = open_images(tmp_path, like=model, deep=True)
    assert source.x_range == model.x_range and source.units == "HU"
    np.testing.assert_allclose(source.unit(0)[0], (HU[0] + 2000.0) / 6000, atol=1e-5)
    with pytest.raises(InputError, match="values in HU, the model knows 1/mm"):
        open_images(tmp_path, like=SimpleNamespace(shape=(1, 8, 8), x_range=(0, 1), units="1/mm"))
    write_image(tmp_path / "photo.png", torch.rand(3, 8, 8))  # has black and white of its own
    assert open_images(tmp_path / "photo.png", like=model).x_range is None


def test_a_given_range_clips_and_says_so(tmp_path):
    np.save(tmp_path / "x.npy", HU)
    source = open_images(tmp_path / "x.npy", deep=True, x_range=(-1000, 1000))
    assert source.x_range == (-1000, 1000) and "clipped" in source.notes[0]
    assert source.array(0).max() == 65535 and source.array(0).min() == 0
    far = np.tile(HU, (1, 8, 8))
    far[0, 0, 0] = 32000
    np.save(tmp_path / "y.npy", far)
    assert "--range" in open_images(tmp_path / "y.npy", deep=True).notes[0]


def test_pictures_stay_pictures(tmp_path):
    gray = (COUNTS // 16).astype(np.uint8)
    np.save(tmp_path / "x.npy", gray)
    source = open_images(tmp_path / "x.npy", deep=True)
    assert source.array(0).dtype == np.uint8 and source.x_range is None
    with pytest.raises(UsageError, match="leave out the range"):
        open_images(tmp_path / "x.npy", deep=True, x_range=(0, 1))
    with pytest.raises(InputError, match="uint8"):
        np.save(tmp_path / "y.npy", HU)
        open_images(tmp_path / "y.npy")


def test_slices_of_an_object_are_held_out_together(tmp_path):
    for k in range(4):
        np.save(tmp_path / f"volume{k}.npy", HU + k)
    train, held = split(open_images(tmp_path, deep=True), 3)
    assert len(held) == 5 and len({name.split("[")[0] for name in held.names}) == 1
    assert not set(held.groups) & set(train.groups)
    train, held = split(open_images(tmp_path / "volume0.npy", deep=True), 2)
    assert held.names == ["volume0.npy[0003]", "volume0.npy[0004]"]


def test_which_files_of_a_folder_are_stacks(tmp_path):
    np.save(tmp_path / "mask.npy", HU)
    assert [name for name, _ in stack_files(tmp_path)] == ["mask.npy"]
    write_image(tmp_path / "photo.png", torch.zeros(1, 4, 4))
    assert not [*stack_files(tmp_path)]  # a mask beside a photograph
    assert not is_stack(tmp_path / "photo.png")
    dicom(tmp_path / "scan")
    assert [name for name, _ in stack_files(tmp_path)] == ["scan"]
