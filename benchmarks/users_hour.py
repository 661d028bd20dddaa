"""From 40 DICOM slices to a reconstruction with an error bar: every command of docs/own_data.md, timed.

    python benchmarks/users_hour.py ct_slices_hu.npz [--minutes 30] [--threads 2] [--work FOLDER]

The file has ``hu`` (N, 512, 512) in Hounsfield units and ``patient`` (N,). 40 slices of the patients
for training (`innverse.studies.ct_slices`), 256x256 and 12 bits, are written as a scanner writes them,
and one slice of a patient for tests with noise of 30 HU. The first command trains a prior for
--minutes, the second removes the noise, the third draws from the posterior of the clean slice. Told are
the seconds of each as a whole process, decibels where 0 to 1 is -1000 to 2000 HU, and how much of the
slice lies in the intervals of 90 %. Training continues where --work has some of it. Needs the extra
[io].
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

SLICES, SIDE, NOISE = 40, 256, 30.0


def dicom(file: Path, hu, patient: int, place: int) -> None:
    """A slice (H, W) in Hounsfield units: 12 bits, slope and intercept."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    found = FileDataset(str(file), {}, file_meta=meta, preamble=bytes(128))
    found.SOPClassUID, found.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    found.Modality, found.PatientID = "CT", f"P{patient}"
    found.SeriesInstanceUID = f"1.2.826.0.1.{patient}"
    found.Rows, found.Columns = hu.shape
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 12, 11, 0
    found.PixelSpacing, found.ImageOrientationPatient = [1.4, 1.4], [1, 0, 0, 0, 1, 0]
    found.ImagePositionPatient = [0, 0, -float(place)]
    found.RescaleSlope, found.RescaleIntercept = 1.0, -1024.0
    counts = (hu.round() + 1024).clip(0, 4095)
    found.PixelData = counts.astype("<u2").tobytes()
    found.save_as(file, enforce_file_format=True)


def prepare(archive: Path, work: Path):
    """Write the slices; the clean one of the test (1, SIDE, SIDE) in [0, 1]."""
    import numpy as np
    import torch

    from innverse.data.npy import load_numpy
    from innverse.studies.ct_slices import HOUNSFIELD, ct_slices, part_of_patient

    low, high = HOUNSFIELD
    of = [p for p in load_numpy(archive, "patient") if part_of_patient(int(p)) == "train"]
    for name in ("slices", "scan"):
        (work / name).mkdir(parents=True, exist_ok=True)
    for k, x in enumerate(ct_slices(archive, "train", SIDE)[:SLICES]):
        dicom(
            work / "slices" / f"IM{k:03d}.dcm", (low + (high - low) * x[0]).numpy(), int(of[k]), k
        )
    x = ct_slices(archive, "test", SIDE)[0]
    noise = NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    dicom(work / "scan" / "IM000.dcm", np.asarray(low + (high - low) * x[0] + noise[0]), 0, 0)
    return x


def judged(x, work: Path) -> dict:
    """Decibels of what the commands wrote, and how much of x the intervals of 90 % hold."""
    import torch

    from innverse.data import read_stack
    from innverse.metrics import psnr
    from innverse.studies.ct_slices import HOUNSFIELD

    def read(path: Path):
        """(1, 1, H, W) on [0, 1] = `HOUNSFIELD`."""
        hu = torch.as_tensor(read_stack(path).values.astype("float32"))
        return (hu - HOUNSFIELD[0]) / (HOUNSFIELD[1] - HOUNSFIELD[0])

    paths = {
        "noisy": "scan/IM000.dcm",
        "clean": "clean/result.dcm",
        "posterior mean": "sure/result.dcm",
    }
    found = {name: read(work / path) for name, path in paths.items()}
    low, high = (read(work / "sure" / name)[0] for name in ("low.dcm", "high.dcm"))
    return {
        "psnr": {name: float(psnr(v, x[None])) for name, v in found.items()},
        "within 90 %": float(((low <= x) & (x <= high)).double().mean()),
    }


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--work", type=Path, help="folder of files (default: a temporary one)")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp())
    minutes = 0.05 if args.quick else args.minutes
    x = prepare(args.archive.resolve(), work)
    solve = ["solve", "scan", "--prior", "runs/slices", "--physics", "denoising", "--noise", "30"]
    few = ["--draws", "8", "--chains", "2", "--warmup", "4", "--steps", "2"] if args.quick else []
    commands = [
        ["train", "slices", "--minutes", f"{minutes:g}"],
        [*solve, "--out", "clean"],
        [*solve, "--method", "posterior", "--of", "clean", "--out", "sure", *few],
    ]
    threads = str(args.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    rows = []
    for command in commands:
        started = time.perf_counter()
        code = subprocess.run(
            [sys.executable, "-m", "innverse", *command], cwd=work, env=environment
        ).returncode
        rows.append(
            {
                "command": " ".join(["innverse", *command]),
                "seconds": time.perf_counter() - started,
                "exit_code": code,  # 3: chains have not met
                "peak_gb_so_far": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
            }
        )
        print(rows[-1], flush=True)
        if code not in (0, 3):
            sys.exit(code)
    result = {"rows": rows} | judged(x, work)
    print(result)
    machine = harness.machine(("torch", "innverse"), args.threads)
    out = args.out or harness.RESULTS
    out.mkdir(parents=True, exist_ok=True)
    harness.write_atomically(out / "users_hour.json", {"machine": machine} | result)


if __name__ == "__main__":
    main()
