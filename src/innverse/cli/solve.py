"""``innverse solve``: images from degraded measurements, for one file or a folder of them."""

# annotations are values here, not texts: cyclopts makes flags of them

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..catalog import METHODS, OPERATORS
from ..errors import UsageError
from ..options import OptionError
from ..progress import Progress
from .entry import complain
from .flags import flags_of, spelled
from .options import (
    Cluster,
    Device,
    Json,
    Quiet,
    Seed,
    check_writable,
    note,
    on_cluster,
    parse_range,
    print_json,
    start,
)

_SLICES = 12  # of a stack that the table shows


def command() -> Callable[..., int]:
    """The verb, with a flag for each option that operators and methods declare by now."""
    how = "; ".join(f"{name}: {METHODS.declared(name).summary(short=True)}" for name in METHODS)
    methods = Literal[("auto", *METHODS)]  # ty: ignore[invalid-type-form]  # made at run time
    help_ = f"auto chooses by operator, gaps, size, noise and prior, and says why. {how}."
    kind = flags_of()

    def solve(
        files: Annotated[list[str], Parameter(negative=())],
        /,
        *,
        physics: Annotated[str, Parameter(help=f"One of {', '.join(OPERATORS)}.")],
        out: Path,
        method: Annotated[methods, Parameter(help=help_)] = "auto",
        flags: Annotated[kind, Parameter(name="*")] = kind(),  # ty: ignore[invalid-type-form]
        simulate: bool = False,
        noise: str | None = None,
        range_: Annotated[str | None, Parameter(name="--range")] = None,
        image_shape: str | None = None,
        prior: str | None = None,
        beside: str | None = None,
        seed: Seed = 0,
        device: Device = "auto",
        cluster: Cluster = None,
        json: Json = False,
        quiet: Quiet = False,
    ) -> int:
        """Reconstruct images from degraded measurements with an invertible prior.

        innverse solve photo.png --physics inpainting --mask mask.png --out result
        innverse solve grainy.jpg --physics denoising --noise 25/255 --out result
        innverse solve scan/ --prior runs/own --physics denoising --noise 30 --out r
        innverse solve small/ --physics downsampling --factor 2 --out large
        innverse solve clean.png --simulate --physics blur --kernel motion:15:30 --out r
        innverse solve scan.h5 --physics tomography --every 2 --beside tv --out slice
        innverse solve kspace.h5 --physics mri --every 2 --beside tv --out head
        innverse solve photos/ --physics denoising --noise auto --out clean --cluster local:4

        Stacks of TIFF, DICOM, NIfTI, HDF5 (file.h5:name), .mat and .npz are solved slice by slice
        and come back in their format and units, with std and the ends of 90 % intervals.

        Each picture gives result.png, panel.png (side by side) and result.json: in --out,
        or for several files in a folder of their name below it; --method posterior also
        report.html with the error bar beside the picture, std.png, interval.png, draws.png,
        draws.gif and draws.npz. Exit code 3 if a result did not converge, 4 if a file could
        not be used.

        Parameters
        ----------
        files
            Pictures of any size and kind, folders of them, .npy measurements, or of tomography and mri
            the files of scanners (HDF5, MATLAB).
        out
            Folder for the results.
        simulate
            The files are clean: degrade them first, and report PSNR and SSIM.
        noise
            Standard deviation of the noise, images being 0 to 1 (or of --range, or in the units
            that slices have): 0.05 or 25/255; auto estimates it from the file, counts takes its
            values for photons. [default: none]
        range_
            LOW:HIGH, the values that stand for black and white in .npy measurements and float TIFFs
            that are not from 0 to 1: 0:255 or -1000:1000. The result is saved with them as
            result.npy. [default: of slices with units what the prior was trained on, or their own]
        image_shape
            CxHxW of the image behind a .npy measurement.
        prior
            Model by name or folder. [default: natural-color or natural-gray]
        beside
            Methods to compare with, commas between: tv or tv,map. Their pictures stand in the panel.
        """
        given = asdict(flags)
        settings: dict[str, Any] = {
            "method": method,
            "simulate": simulate,
            "noise": noise,
            "x_range": None if range_ is None else parse_range(range_),
            "image_shape": None if image_shape is None else _shape(image_shape),
            "prior": prior,
            "seed": seed,
            "beside": [] if beside is None else beside.split(","),
        }
        check_writable(out)
        # workers choose among devices of their own
        settings["device"] = start(device) if cluster is None else device
        from ..restoration import restore

        inputs = files[0] if len(files) == 1 else files
        try:
            with on_cluster(cluster, quiet), Progress("solving", quiet=quiet) as progress:
                results = restore(
                    inputs, physics, out=out, progress=progress, keep_failures=True,
                    **settings, **given,
                )  # fmt: skip
        except OptionError as error:
            raise spelled(error) from None
        except KeyboardInterrupt:
            if cluster is not None:
                note("what is finished is kept: the same command continues", quiet)
            raise
        return _report(results, json, quiet)

    return solve


def __getattr__(name: str) -> Any:
    if name == "solve":  # made anew: operators and methods may have been registered since
        return command()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _report(results: list, json: bool, quiet: bool) -> int:
    """Say what was found; returns the exit code."""
    done = [r for r in results if r.error is None]
    failed = [r for r in results if r.error is not None]
    reasons = [" ".join(str(r.error).split()) for r in failed]
    if json:
        shown = [{k: v for k, v in r.summary.items() if k != "trace"} for r in done]
        failures = [
            {"file": r.source, "reason": why} for r, why in zip(failed, reasons, strict=True)
        ]
        print_json({"results": shown, "failures": failures})
    elif done:
        shown = _first([r.summary for r in done])
        _table(shown).print()
        if len(shown) < len(done):
            note(f"and {len(done) - len(shown)} slices more: see result.json", quiet)
    said = set()  # once of a stack
    for r in done:
        for text in (*r.summary["input"].get("notes", ()), *r.notes):
            if (r.summary["folder"], text) not in said:
                note(f"{r.source}: {text}", quiet)
            said.add((r.summary["folder"], text))
    for r in done:
        if not r.converged:
            words = r.status.replace("max_iter", "not converged: all --steps were used")
            complain(f"{r.source}: {words}")
    if failed and len(results) > 1:
        complain(f"{len(failed)} of {len(results)} files failed:")
    for why in reasons:
        complain(why)
    return 4 if failed else 3 if not all(r.converged for r in done) else 0


def _first(summaries: list[dict]) -> list[dict]:
    """Of a stack no more slices than a screen holds."""
    count: Counter[str] = Counter()
    found = []
    for s in summaries:
        count[s["folder"]] += 1
        if count[s["folder"]] <= _SLICES:
            found.append(s)
    return found


def _table(summaries: list[dict]):
    from ..report import Table

    judged = summaries[0]["result"] is not None
    beside = [*summaries[0].get("beside", ())]
    quality = ["degraded dB", "result dB", "SSIM"] if judged else []
    quality += [f"{name} dB" for name in beside if judged]
    drawn = "posterior" in summaries[0]
    sure = ["std", "R-hat", "draws", *(["90 % holds"] if judged else [])] if drawn else []
    table = Table(["file", "size", *quality, *sure, "misfit", "s", "written to"])
    for s in summaries:
        _, h, w = s["size"]
        numbers = []
        if judged:
            ssim = s["result"]["ssim"]
            numbers = [s["degraded"]["psnr"], s["result"]["psnr"]]
            numbers.append(None if ssim is None else f"{ssim:.3f}")
            numbers += [s["beside"][name]["psnr"] for name in beside]
        if drawn:
            numbers += _error_bar(s["posterior"])
        table.add(
            Path(s["file"]).name, f"{w}x{h}", *numbers, f"{s['residual']:.1e}", s["seconds"],
            s["folder"],
        )  # fmt: skip
    return table


def _error_bar(told: dict) -> list:
    """Its size and whether to believe it: the median of the standard deviation, R-hat of 99 % of the
    pixels, effective draws, and the share of the true pixels within intervals of 90 %."""
    r_hat, size = told.get("r_hat"), told.get("ess_bulk")
    cells: list = [
        f"{told['std']['median']:.2g}",
        None if r_hat is None else f"{r_hat['99 %']:.2f}",
        told["draws"] if size is None else round(size["median"]),
    ]
    if "coverage" in told:
        held = told["coverage"].get("u", told["coverage"]["x"])["90 %"]
        cells.append(f"{100 * held:.0f} %")
    return cells


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) == 3 and all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
        c, h, w = map(int, parts)
        if c in (1, 3):
            return c, h, w
    raise UsageError(f"--image-shape {text}: give CHANNELSxHEIGHTxWIDTH, such as 1x64x64")
