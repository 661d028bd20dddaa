"""How many evaluations plug and play needs: PSNR against evaluations and processor seconds.

    python benchmarks/plug_and_play.py [--data natural_train.tar] [--quick] [--out FOLDER]

Two ways in turns, in one process with one thread: the method "pnp", and the loop as published, with a
constant share of noise and no momentum, on the same denoiser and the same levels. In both the last step
averages four views, and the data have the last word. Crops of 64x64 pixels of photographs that were
held out when natural-gray was trained, none of a test set (without --data: of those that the
demonstration is tuned on); then one picture of 256x256. Seconds are of the processor, so that other
processes hardly change them; those of innverse include checks, code and density of the result.
"""

from __future__ import annotations

import json
import time
import warnings

import harness

PACKAGES = ("torch", "innverse")
PLAIN, OURS = "plain loop", "innverse"
STEPS = {PLAIN: (20, 45), OURS: (20, 30)}
USUAL = {PLAIN: 45, OURS: 30}
QUICK = {PLAIN: 3, OURS: 2}
CROPS, VIEWS = 8, 4
PICTURES = ("half of the pixels", "blur 1.6, noise .01", "x2, noise .01")


def operators(side: int) -> dict:
    """Name to operator, with its noise."""
    import torch

    from innverse.physics import Inpainting, build
    from innverse.studies.demo.problems import writing

    shape, g = (1, side, side), torch.Generator().manual_seed(0)
    return {
        "half of the pixels": Inpainting.random(shape, 0.5, g),
        "a fifth of the pixels": Inpainting.random(shape, 0.2, g),
        "half, noise .03": Inpainting.random(shape, 0.5, g, noise=0.03),
        "text and scratches": Inpainting(writing(256, 256, g)[:side, :side], image_shape=shape),
        "blur 1.6, noise .01": build("blur", shape, kernel="gaussian:1.6", sigma=0.01),
        "motion blur, noise .01": build("blur", shape, kernel="motion:9:30", sigma=0.01),
        "x2, noise .01": build("downsampling", shape, factor=2, filter="gaussian", sigma=0.01),
        "MRI of 4 coils, noise .01": build("mri", shape, acceleration=3, coils=4, sigma=0.01),
    }


def crops(data: str | None, side: int):
    """(N, 1, side, side), one of each picture."""
    import torch

    from innverse.data import open_images, split
    from innverse.studies.demo.problems import TUNING_PHOTOGRAPHS
    from innverse.studies.pictures import photograph

    if data is None:
        pictures = [photograph(name, 1) for name in TUNING_PHOTOGRAPHS]
    else:
        held_out = split(open_images(data, channels=1), 24)[1]
        pictures = [torch.as_tensor(held_out[i]).float() / 255 for i in range(CROPS)]
    found = []
    for i, x in enumerate(pictures):
        g = torch.Generator().manual_seed(i)
        top, left = (int(torch.randint(n - side + 1, (), generator=g)) for n in x.shape[-2:])
        found.append(x[:, top : top + side, left : left + side])
    return torch.stack(found)


def solve(way: str, y, operator, prior, steps: int):
    import innverse

    if way == OURS:
        return innverse.solve(y, operator, prior, "pnp", steps=steps, views=VIEWS).x
    return plain_loop(y, operator, prior, steps)


def plain_loop(y, operator, prior, steps: int, churn: float = 0.5, strength: float = 0.25):
    """Half-quadratic splitting with noise before each denoising (DiffPIR, arXiv 2305.08995)."""
    import torch

    from innverse.accelerate.constant import constant_parameters
    from innverse.flows.denoise import denoise
    from innverse.solvers.pnp import _agree_with_data, _as_near_as_the_noise
    from innverse.solvers.problem import Problem

    problem = Problem.build(y, operator, prior)
    noise = float(problem.noise_level()[0])
    last, generator = max(noise, prior.noise_range[0]), torch.Generator().manual_seed(0)
    first = max(last, 0.3)
    x = problem.first_guess(first * strength**-0.5)
    v, aty = x, problem.physics.A_adjoint(problem.y)

    def meet_data(v, level):
        rho = torch.full((len(v),), strength * (noise / level) ** 2)
        return problem.physics.solve_normal(aty + rho.view(-1, 1, 1, 1) * v, rho, x0=v)

    with torch.no_grad(), constant_parameters():
        for k in range(steps):
            level = first * (last / first) ** (k / (steps - 1))
            x = meet_data(v, level) if k else x
            final = k == steps - 1
            if not final:
                x = x + churn * level * torch.randn(x[:1].shape, generator=generator)
            v = denoise(prior, x, level, range(VIEWS) if final else (k % 8,)).clamp(0, 1)
        ends = torch.full((len(v),), noise), torch.full((len(v),), level), strength
        return _as_near_as_the_noise(problem, _agree_with_data(problem, v, *ends), *ends)


def row(x, name: str, operator, prior, way: str, steps: int) -> dict:
    """One solve of all of x."""
    import torch

    from innverse.metrics import psnr

    y = operator(x, torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        started = time.process_time()
        found = solve(way, y, operator, prior, steps)
        seconds = time.process_time() - started
    return {
        "task": name,
        "side": x.shape[-1],
        "way": way,
        "steps": steps,
        "evaluations": steps - 1 + VIEWS,
        "seconds": seconds / len(x),
        "psnr": psnr(found, x).tolist(),
    }


def curve(rows: list[dict], usual: dict[str, int]) -> list[list[str]]:
    """Over all tasks and crops, by way and steps: against the plain loop at its usual number."""
    best = {r["task"]: r["psnr"] for r in rows if (r["way"], r["steps"]) == (PLAIN, usual[PLAIN])}
    lines = []
    for way, steps in dict.fromkeys((r["way"], r["steps"]) for r in rows):
        mine = [r for r in rows if (r["way"], r["steps"]) == (way, steps)]
        gain = [a - b for r in mine for a, b in zip(r["psnr"], best[r["task"]], strict=True)]
        means = [sum(r["psnr"]) / len(r["psnr"]) for r in mine]
        lines.append(
            [
                f"{way}, {steps} steps",
                f"{mine[0]['evaluations']}",
                f"{sum(r['seconds'] for r in mine) / len(mine):.2f}",
                f"{sum(means) / len(means):.2f}",
                f"{sum(gain) / len(gain):+.2f}",
                f"{min(gain):+.2f}",
            ]
        )
    return lines


def by_task(rows: list[dict], usual: dict[str, int]) -> list[list[str]]:
    """Both ways at their usual number of steps."""
    lines = []
    for name in dict.fromkeys(r["task"] for r in rows):
        plain, ours = (
            next(r for r in rows if (r["task"], r["way"], r["steps"]) == (name, w, usual[w]))
            for w in (PLAIN, OURS)
        )
        gain = [a - b for a, b in zip(ours["psnr"], plain["psnr"], strict=True)]
        means = [sum(r["psnr"]) / len(gain) for r in (plain, ours)]
        lines.append(
            [name]
            + [f"{m:.2f}" for m in means]
            + [f"{min(gain):+.2f}", f"{max(gain):+.2f}"]
            + [f"{r['seconds']:.2f}" for r in (plain, ours)]
            + [f"{plain['seconds'] / ours['seconds']:.1f}"]
        )
    return lines


def main() -> None:
    parser = harness.Arguments(__doc__)
    parser.add_argument("--data", help="natural_train.tar; default: photographs in scikit-image")
    args = parser.parse_args()
    import innverse
    from innverse.studies.pictures import crop, photograph

    harness.use(1)
    prior = innverse.load("natural-gray")
    side, large = (16, 32) if args.quick else (64, 256)
    usual = QUICK if args.quick else USUAL
    once = {way: (steps,) for way, steps in usual.items()}
    x = crops(args.data, side)
    whole = crop(photograph("camera", 1), (0, 0, 512, 512), large)[None]
    tasks = PICTURES if args.quick else tuple(operators(side))
    parts = [(x, tasks, once if args.quick else STEPS), (whole, PICTURES, once)]
    info, file = harness.machine(PACKAGES, 1), (args.out or harness.RESULTS) / "plug_and_play.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}
    rows = earlier["rows"] if earlier.get("machine") == info else []
    for pictures, tasks, ladder in parts:
        for name in tasks:
            size = pictures.shape[-1]
            operator, warm = operators(size)[name], False
            for cell in [(name, size, way, n) for way, each in ladder.items() for n in each]:
                if cell in [(r["task"], r["side"], r["way"], r["steps"]) for r in rows]:
                    continue
                if not warm:  # first calls of kernels are no part of a solve
                    row(pictures[:1], name, operator, prior, OURS, 2)
                    warm = True
                rows.append(row(pictures, name, operator, prior, *cell[2:]))
                print(rows[-1], flush=True)
                harness.write_atomically(file, {"machine": info, "rows": rows})
    small, large = ([r for r in rows if r["side"] == part[0].shape[-1]] for part in parts)
    header = ["task", "plain, dB", "innverse, dB", "worst crop", "best crop"]
    header += ["plain, s", "innverse, s", "times faster"]
    text = "\n".join(
        [
            "# Plug and play\n",
            f"{info['processor']}, 1 thread; torch {info['torch']}, innverse {info['innverse']}.",
            "Processor seconds, both ways in turns in one process.\n",
            f"## The curve: {len(x)} crops of {side}x{side}, {len(parts[0][1])} tasks\n",
            f"Gains over the plain loop with {usual[PLAIN]} steps; the worst is that of one crop.\n",
            harness.table(
                ["", "evaluations", "seconds a crop", "PSNR, dB", "gain, mean", "gain, worst"],
                curve(small, usual),
            ),
            f"\n## By task: plain with {usual[PLAIN]} steps, innverse with {usual[OURS]}\n",
            harness.table(header, by_task(small, usual)),
            f"\n## One picture of {whole.shape[-1]}x{whole.shape[-1]}\n",
            harness.table(header, by_task(large, usual)) + "\n",
        ]
    )
    print(text)
    harness.write("plug_and_play", text, {"machine": info, "rows": rows}, args.out)


if __name__ == "__main__":
    main()
