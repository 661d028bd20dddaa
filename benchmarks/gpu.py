"""Is everything right on a GPU, and how fast is it there, beside other libraries?

    python benchmarks/gpu.py [--device cpu] [--quick] [--out FILE] [--only checks parity]

Needs no network, and no more than 8 minutes of an H100: what would begin later is left out and said.
Every layer, flow, generator and solver is compared with float64 on the CPU, and so are the regions
that the compiler makes kernels of; training by CUDA graphs with training step by step. Then come whole
uses (a prior trained, a picture restored, a posterior sampled) and training steps of the flows of the
other benchmarks, with peers where they are installed. --device cpu checks the script itself. The last
line counts the checks; exit code 1 if one failed.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import glows
import harness
import torch
import vector_flows
from torch.utils._python_dispatch import TorchDispatchMode

import innverse
from innverse import generators, nets, physics
from innverse.accelerate import captured, regions
from innverse.accelerate.captured import Captured
from innverse.accelerate.constant import constant_parameters
from innverse.data import ImageSource
from innverse.metrics.chains import effective_size
from innverse.train import Trainer, load_config
from innverse.train import sources as training_sources
from innverse.train.losses import Objective
from innverse.train.sources import TrainingImages

ROOT = Path(__file__).parents[1]
SECONDS = 450  # after which nothing new begins
SLACK = 2e-4  # of float32 against float64, relative to the largest number
ROUGH = 2e-2  # of networks whose convolutions keep 10 bits, as they do by default


class Run:
    """What was found: checks, and rows of the tables."""

    def __init__(self, device: str, quick: bool):
        self.device, self.quick = torch.device(device), quick
        self.cuda = self.device.type == "cuda"
        self.begin = time.perf_counter()
        self.good, self.bad, self.rows = 0, [], []

    def check(self, name: str, found: Callable[[], float], limit: float) -> None:
        """``found()`` is an error, which must not exceed ``limit``."""
        if self.late:
            return print(f"     {name}: left out, out of time", flush=True)
        try:
            error = float(found())
            words = f"{error:.1e} (limit {limit:.0e})"
        except Exception as problem:  # of any kind: the count at the end must come
            error, words = math.inf, f"{type(problem).__name__}: {_line(problem)}"
        if error <= limit:
            self.good += 1
        else:
            self.bad.append(name)
        print(f"{'ok  ' if error <= limit else 'FAIL'} {name}: {words}", flush=True)

    def row(self, what: str, who: str, measure: Callable[[], dict]) -> None:
        """A line of a table; what a library cannot do is said in it."""
        row = {"what": what, "who": who}
        try:
            row |= {"left out": "out of time"} if self.late else measure()
        except ModuleNotFoundError as missing:
            row["left out"] = f"{missing.name} is not installed"
        except Exception as problem:
            row["error"] = f"{type(problem).__name__}: {_line(problem)}"
            if who.startswith("innverse"):
                self.bad.append(f"{what}, {who}")
        self.rows.append(row)
        numbers = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("     " + ", ".join([*numbers]), flush=True)
        if self.cuda:
            torch.cuda.empty_cache()

    @property
    def late(self) -> bool:
        return time.perf_counter() - self.begin > SECONDS

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def milliseconds(self, step: Callable[[], object]) -> float:
        """The median of calls that were waited for; the first four are not counted."""
        times: list[float] = []
        for _ in range(4 if self.cuda else 1):
            step()
        until = time.perf_counter() + (0.2 if self.quick else 1.0)
        while len(times) < 3 or (time.perf_counter() < until and len(times) < 50):
            self.wait()
            start = time.perf_counter()
            step()
            self.wait()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)


def _line(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:160]


def off(found, right) -> float:
    """The largest error relative to the largest number; infinite where one is not finite."""
    found, right = found.detach().cpu().double(), right.detach().double()
    error = ((found - right).abs().max() / right.abs().max().clamp_min(0.1)).item()
    return error if math.isfinite(error) else math.inf


# ---- checks --------------------------------------------------------------------------------------


def checks(run: Run) -> None:
    """Everything against float64 on the CPU."""
    tests = str(ROOT / "tests")
    sys.path[:0] = [tests, f"{tests}/bijections", f"{tests}/flows"]
    import every
    import registry

    with exact():
        for name in _some(run, registry.LAYERS):
            make = registry.LAYERS[name]
            run.check(f"layer {name}", lambda make=make: layer_error(run, make), SLACK)
        for name in _some(run, every.EVERY):
            run.check(f"flow {name}", lambda name=name: flow_error(run, every, name), SLACK)
        for name in generators.names():
            run.check(f"generator {name}", lambda name=name: generator_error(run, name), SLACK)
        print(f"     regions: {regions.why_not() or 'compiled'}", flush=True)
        for name, make in REGIONS.items():
            run.check(f"regions of {name}", lambda make=make: region_error(run, make), 10 * SLACK)
    for name in _some(run, every.EVERY):
        run.check(f"round trip {name}", lambda name=name: trip_error(run, every, name), ROUGH)
    for name in QUICK if run.quick else SOLVES:
        run.check(f"solve {name}", lambda name=name: solve_error(run, name), 0.2)


def _some(run: Run, names: Iterable[str]) -> list[str]:
    """All of them, or six in a quick run."""
    names = [*names]
    return names[:: max(1, len(names) // 5)] if run.quick else names


def away(module: torch.nn.Module) -> torch.nn.Module:
    """Away from its initial values, where many layers are the identity."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=g))
    return module.eval()


def layer_error(run: Run, make) -> float:
    """Of z, log|det| and the gradient of their sum by x."""
    torch.manual_seed(0)
    layer, x, *c = make()
    c = c[0] if c else None
    away(layer)

    def everything(layer, x, c):
        x = x.detach().requires_grad_()
        z, log_det = layer(x, c)
        (g,) = torch.autograd.grad(z.sin().sum() + log_det.sum(), x)
        return z, log_det, g

    wide = lambda t: None if t is None else t.double()  # noqa: E731
    there = lambda t: None if t is None else t.to(run.device)  # noqa: E731
    right = everything(copy.deepcopy(layer).double(), wide(x), wide(c))
    found = everything(copy.deepcopy(layer).to(run.device), there(x), there(c))
    assert all(t.device.type == run.device.type for t in found), "a result on another device"
    return max(off(a, b) for a, b in zip(found, right, strict=True))


def flow_error(run: Run, every, name: str) -> float:
    """Of log p and its gradient, eagerly and as a graph."""
    flow = every.build(name)
    x = every.items(flow)
    exact = copy.deepcopy(flow).double()
    flow = flow.to(run.device)
    given = x.double().requires_grad_()
    log_p = exact.log_prob(given)
    right = log_p, torch.autograd.grad(log_p.sum(), given)[0]
    errors = []
    with constant_parameters():
        for _ in range(4):
            there = x.to(run.device).requires_grad_()
            found = flow.log_prob(there)
            found = found, torch.autograd.grad(found.sum(), there)[0]
            errors += [off(a, b) for a, b in zip(found, right, strict=True)]
    return max(errors)


def trip_error(run: Run, every, name: str) -> float:
    """Of there and back, in the precision of products that users have."""
    flow = every.build(name).to(run.device)
    x = every.items(flow)
    with torch.no_grad():
        assert flow.sample(2).device.type == run.device.type, "samples on another device"
        if name.startswith("flow_matching"):  # its inverse is the solution of an equation
            return 0.0
        return off(flow.decode(flow.encode(x.to(run.device))), x)


def a_glow() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """With all that a region serves, and images large enough for them."""
    options = {"levels": 2, "steps": 2, "hidden": 32, "how": "film", "activation": "silu"}
    flow = innverse.flows.build(
        "glow", (1, 32, 32), noise=(0.01, 0.4), squeeze="haar", mix="swap", **options
    )
    return flow, glows.textures(64, torch.Generator().manual_seed(0))[:, :1], torch.full((64,), 0.1)


def a_spline() -> tuple[torch.nn.Module, torch.Tensor, None]:
    flow = innverse.flows.build("nsf", (64,), layers=2, width=32)
    return flow, torch.randn(1024, 64, generator=torch.Generator().manual_seed(0)), None


REGIONS = {"glow": a_glow, "splines": a_spline}


def region_error(run: Run, make: Callable) -> float:
    """Of the loss and the gradients of all parameters, with score matching where there is noise."""
    torch.manual_seed(0)
    flow, x, sigma = make()
    away(flow)

    def everything(flow, x, sigma) -> tuple[torch.Tensor, ...]:
        if sigma is None:
            loss = -flow.log_prob(x).mean()
        else:
            noise = torch.linspace(-1, 1, x.numel(), dtype=x.dtype, device=x.device).view_as(x)
            loss, *_ = Objective(flow)((255 * x.clamp(0, 1)).byte(), noise, sigma, 0.5)
        found = torch.autograd.grad(loss, [*flow.parameters()], allow_unused=True)
        return loss, *(g for g in found if g is not None)

    wide = lambda t: None if t is None else t.double()  # noqa: E731
    there = lambda t: None if t is None else t.to(run.device)  # noqa: E731
    right = everything(copy.deepcopy(flow).double(), wide(x), wide(sigma))
    with regions.repeated_work():
        found = everything(flow.to(run.device), there(x), there(sigma))
    assert not run.cuda or regions.why_not() is None, f"not compiled: {regions.why_not()}"
    return max(off(a, b) for a, b in zip(found, right, strict=True))


def recovery(run: Run) -> None:
    """Last, since what is not put right would spoil the rest."""
    if run.cuda:
        run.check("after a record that failed", lambda: failed_record(run), 0.0)


def failed_record(run: Run) -> float:
    """Random numbers, and other records, after a record that failed."""
    recorder, x = captured.CudaRecorder(run.device), torch.ones(4, device=run.device)
    with contextlib.suppress(RuntimeError):
        recorder.record(lambda: torch.rand(4, device=run.device) + x.sum().item())
        raise AssertionError("what waits was recorded")
    torch.manual_seed(0)
    drawn = torch.rand(4, device=run.device)
    torch.manual_seed(0)
    again = Captured(lambda x: x + torch.rand(4, device=run.device))
    for _ in range(4):
        torch.manual_seed(0)
        found = again(x)
    assert again._programs._known, "records are not tried any more"
    return off(found, (x + drawn).cpu())


def generator_error(run: Run, name: str) -> float:
    torch.manual_seed(0)
    model = away(generators.build(name, (3, 16, 16), latent=3, width=8))
    z = torch.randn(2, 3)
    right = copy.deepcopy(model).double().decode(z.double())
    return off(model.to(run.device).decode(z.to(run.device)), right)


def picture(size: int) -> torch.Tensor:
    """A smooth picture with an edge, (1, 1, size, size)."""
    t = torch.linspace(-1, 1, size)
    disc = (t.square() + t[:, None].square() < 0.5).float()
    return (0.3 + 0.2 * t.sin() + 0.3 * disc).expand(1, 1, size, size).contiguous()


def mask(size: int) -> torch.Tensor:
    return (torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(1)) > 0.5).float()


def operators(size: int) -> dict[str, Callable]:
    return {
        "denoising": lambda: physics.Denoising(),
        "inpainting": lambda: physics.Inpainting(mask(size)),
        "blur": lambda: physics.Blur(torch.ones(5, 5) / 25),
        "compressed sensing": lambda: physics.CompressedSensing(size * size // 3, (1, size, size)),
        "downsampling": lambda: physics.Downsampling(2),
        "fourier": lambda: physics.SubsampledFourier(mask(size)),
    }


# the noise that pnp adds differs from device to device, as its random numbers do
SOLVES = {f"pnp, {name}": {"churn": 0.0} for name in operators(8)} | {
    "map, inpainting": {"steps": 40},
    "latent, inpainting": {"steps": 40},
    "constrained, inpainting": {"steps": 40},
    "tv, inpainting": {},
    "lasso, inpainting": {},
    "deep_decoder, inpainting": {"steps": 60},
    "posterior, inpainting": {"draws": 40, "warmup": 20, "steps": 5},
}
QUICK = {
    "pnp, inpainting": {"steps": 3, "churn": 0.0},
    "map, inpainting": {"steps": 4, "sigma": 0.02, "start": "data"},
    "latent, inpainting": {"steps": 3, "sigma": 0.02},
    "tv, inpainting": {},
}


def solve_error(run: Run, name: str) -> float:
    """How many dB it is off the CPU in float64; posterior draws differ, and may be 1 dB worse."""
    method, operator = name.split(", ")
    size, options = (16, QUICK[name]) if run.quick else (32, SOLVES[name])
    prior, clean, reached = innverse.load("natural-gray"), picture(size), []
    for device, kind in ((torch.device("cpu"), torch.float64), (run.device, torch.float32)):
        there = operators(size)[operator]()
        there = (there.double() if kind == torch.float64 else there).to(device)
        y = there.A(clean.to(device, kind))
        g = torch.Generator().manual_seed(3)
        wide = torch.complex128 if y.is_complex() else torch.float64
        y = y + 0.02 * torch.randn(y.shape, dtype=wide, generator=g).to(y)
        model = copy.deepcopy(prior).to(device, kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = innverse.solve(y, there, model, method=method, noise=0.02, **options)
        assert found.x.device.type == device.type, f"x on {found.x.device}"
        reached.append(psnr(found.x, clean))
    lost = reached[0] - reached[1]
    return max(0.0, lost - 1) if method == "posterior" else abs(lost)


def psnr(x: torch.Tensor, clean: torch.Tensor) -> float:
    return -10 * math.log10((x.detach().cpu().double() - clean.cpu()).square().mean().item())


# ---- parity --------------------------------------------------------------------------------------


def parity(run: Run) -> None:
    """Graphs train as step-by-step training does: the same losses, and bit for bit after a resume."""
    steps = 6 if run.quick else 50
    changes = {
        "data.crop": 16 if run.quick else 64,
        "train.steps": steps,
        "train.batch_size": 8,
        "model.levels": 2,
        "model.steps": 2,
    }
    noisy = {
        "model.noise": [0.01, 0.4],
        "train.score_matching": 1.0,
        "train.score_matching_from": 0.5,
    }
    with exact(), _pictures():
        for name, more in (("plain", {}), ("score matching", noisy)):
            config = load_config(
                None, {"data.path": "pictures", "model.hidden": 16} | changes | more
            )
            eager = losses(run, config, steps, capture=False)
            graphs = losses(run, config, steps, capture=True)
            run.check(f"training {name}", lambda a=eager, b=graphs: off(b, a), 1e-5)
            again = losses(run, config, steps, capture=True, stop=steps // 2)
            run.check(f"resumed {name}", lambda a=graphs, b=again: off(b, a), 1e-5 * run.cuda)


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Kernels that round alike every time."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    # containers of NVIDIA may switch TF32 on for products, too
    before = cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = before


@contextlib.contextmanager
def _pictures(n: int = 64, size: int = 96) -> Iterator[None]:
    """Trainers find textures wherever they look for images."""
    usual = training_sources.open_images

    def made(path, *, channels=None, **_):
        c, g = channels or 3, torch.Generator().manual_seed(0)
        textures = glows.textures(n, g, shape=(3, size, size))[:, :c]
        return ImageSource(
            [f"{k}" for k in range(n)], (255 * textures).clamp(0, 255).byte().numpy()
        )

    training_sources.open_images = made
    try:
        yield
    finally:
        training_sources.open_images = usual


def trainer_of(run: Run, config) -> Trainer:
    data = TrainingImages(config)
    return Trainer(data.config, data, device=run.device)


def losses(run: Run, config, steps: int, *, capture: bool, stop: int = 0) -> torch.Tensor:
    """Of every step; with ``stop`` another trainer goes on from a checkpoint of that step."""
    os.environ["INNVERSE_CAPTURE"] = str(int(capture))
    try:
        trainer = trainer_of(run, config)
        trainer.initialize()
        rows = []
        for k in range(steps):
            if stop and k == stop:
                saved = trainer.checkpoint()
                trainer = trainer_of(run, config)
                trainer.restore(saved)
            rows += trainer.read([trainer.step()])
        return torch.tensor([row["loss"] for row in rows], dtype=torch.float64)
    finally:
        del os.environ["INNVERSE_CAPTURE"]


# ---- training steps ------------------------------------------------------------------------------


def steps(run: Run) -> None:
    """Training steps of one flow in each library, eagerly and, where that can be, as a graph."""
    bandwidth = memory_bandwidth(run)
    run.rows.append({"what": "memory bandwidth", "who": "", "GB/s": bandwidth / 1e9})
    sizes = (2,) if run.quick else (32, 512)
    for batch in sizes:
        for name, kind in glows.LIBRARIES.items():
            options = (1, 8) if run.quick else (8, 128)

            def glow(kind=kind, name=name, batch=batch, options=options):
                model = kind(3, *options).to(run.device)
                x = glows.textures(batch, torch.Generator().manual_seed(0)).to(run.device)
                model.prepare(x)
                if name == "innverse" and run.cuda:  # as its trainer does
                    model.to(memory_format=torch.channels_last)
                return model, model.log_prob, x

            compare(run, f"Glow 3x32x32, batch {batch}", name, glow, bandwidth)
    for kind, layers, widths in (("affine", 12, (512, 65536)), ("spline", 12, (512, 16384))):
        for batch in (16,) if run.quick else widths:
            for name, make in vector_flows.TORCH.items():

                def vectors(make=make, kind=kind, layers=layers, batch=batch):
                    n, width = (2, 16) if run.quick else (layers, 256)
                    model, log_prob, _ = make(kind, 64, n, width)
                    model.to(run.device)
                    x = torch.randn(batch, 64, generator=torch.Generator().manual_seed(1))
                    with torch.no_grad():
                        log_prob(x.to(run.device))
                    return model, log_prob, x.to(run.device)

                compare(run, f"{kind} D=64, batch {batch}", name, vectors, bandwidth)


def compare(run: Run, what: str, who: str, make: Callable, bandwidth: float) -> None:
    """Rows of one library: a step as it is, as a graph, and what it asks of the device."""
    own = who == "innverse"
    ways = (False, True) if run.cuda else (False,)
    precisions = ("fp32", "bf16") if own and run.cuda and "Glow" in what else ("fp32",)
    for precision in precisions:
        for graph in ways[precision == "bf16" :]:
            label = f"{who}{' bf16' * (precision == 'bf16')}{', graph' * graph}"
            run.row(what, label, lambda g=graph, p=precision: step_of(run, make, g, p, bandwidth))


def step_of(run: Run, make: Callable, graph: bool, precision: str, bandwidth: float) -> dict:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    model, log_prob, x = make()
    if precision == "bf16":
        nets.set_precision(model, "bf16")
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True, capturable=run.cuda)

    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = -log_prob(x).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    once = Captured(step) if graph else step
    found = {"ms": run.milliseconds(lambda: once(x))}
    if graph:
        known = [*once._programs._known.values()]
        assert known and known[0].replay is not None, "cannot be captured"
    moved = bytes_moved(model, lambda: log_prob(x))
    found |= counted(run, lambda: once(x))
    return found | {"share of the memory bound": moved / bandwidth / (found["ms"] / 1e3)}


def bytes_moved(model: torch.nn.Module, forward: Callable) -> float:
    """What a step must at least move: results of linear layers and convolutions, written and read once
    on the way forward, and so with their gradients on the way back."""
    total, hooks = 0, []

    def seen(module, given, result) -> None:
        nonlocal total
        total += 4 * result.numel() * result.element_size()

    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            hooks.append(module.register_forward_hook(seen))
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return float(total)


def memory_bandwidth(run: Run) -> float:
    """Bytes a second of a copy, read and written."""
    x = torch.empty(2**20 if run.quick else 2**28, device=run.device)
    y = torch.empty_like(x)
    return 2 * x.numel() * x.element_size() / (run.milliseconds(lambda: y.copy_(x)) / 1e3)


def counted(run: Run, step: Callable) -> dict[str, int]:
    """The kernels of a step. Without a GPU, operations stand for them: as they are, and with those of
    a region counted as one."""
    if run.cuda:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as found:
            step()
            run.wait()
        found = sum(event.device_type.name == "CUDA" for event in found.events())
        return {"kernels": found} if found else {}  # where the profiler may not look
    with Operations() as plain:
        step()
    usual = regions._on, regions._lacking, regions._LEAST, regions._compile
    with regions.repeated_work(), Operations() as few:
        few.take_regions()
        try:
            step()
        finally:
            regions._on, regions._lacking, regions._LEAST, regions._compile = usual
            regions._of.cache_clear()
    return {"operations": plain.count, "operations with regions": few.count}


class Operations(TorchDispatchMode):
    """Counts what is asked of the device; views are free."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not (func.is_view or func.namespace == "prim")
        return func(*args, **(kwargs or {}))

    def take_regions(self) -> None:
        """From now on a region counts as one."""

        def one(function, name):
            def run(*tensors):
                before = self.count
                found = function(*tensors)
                self.count = before + 1
                return found

            return run

        regions._on, regions._lacking, regions._LEAST = (lambda device: True), (lambda: None), 1
        regions._compile = one


# ---- whole uses ----------------------------------------------------------------------------------


def uses(run: Run) -> None:
    """A prior trained, a picture restored, a posterior sampled."""
    for term in ("likelihood", "score matching"):
        run.row("training of configs/natural-gray-gpu.toml", term, lambda t=term: crops(run, t))
    large, small = (32, 16) if run.quick else (256, 64)
    half = "half of the pixels"
    run.row(f"pnp, {large}x{large}, {half}", "innverse", lambda: restored(run, large))
    run.row(f"posterior, {small}x{small}, {half}", "innverse", lambda: sampled(run, small))


def crops(run: Run, term: str) -> dict:
    changes = {"train.score_matching_from": float(term == "likelihood")}
    if run.quick:
        changes |= {"train.batch_size": 2, "model.hidden": 8, "model.steps": 1, "data.crop": 16}
    with _pictures(64, 128):
        config = load_config(ROOT / "configs" / "natural-gray-gpu.toml", changes)
        trainer = trainer_of(run, config)
        trainer.initialize()
        n, batch = (2 if run.quick else 40), config.train.batch_size
        trainer.read([trainer.step() for _ in range(1 if run.quick else 8)])
        run.wait()
        start = time.perf_counter()
        trainer.read([trainer.step() for _ in range(n)])
        run.wait()
        seconds = (time.perf_counter() - start) / n
        asked = counted(run, trainer.step)
    return {"ms": 1e3 * seconds, "crops/s": batch / seconds} | asked


def restored(run: Run, size: int) -> dict:
    prior = innverse.load("natural-gray").to(run.device)
    operator, x = physics.Inpainting(mask(size)).to(run.device), picture(size).to(run.device)
    y = operator.A(
        x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    )
    times = []
    for _ in range(1 if run.quick else 3):
        run.wait()
        start = time.perf_counter()
        options = {"steps": 4} if run.quick else {}
        found = innverse.solve(y, operator, prior, method="pnp", noise=0.02, **options)
        run.wait()
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "first": times[0], "dB": psnr(found.x, x)}


def sampled(run: Run, size: int) -> dict:
    prior = innverse.load("natural-gray").to(run.device)
    operator, x = physics.Inpainting(mask(size)).to(run.device), picture(size).to(run.device)
    y = operator.A(
        x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    )
    options = {"draws": 16, "warmup": 4, "steps": 2} if run.quick else {"draws": 2000, "chains": 8}
    run.wait()
    start = time.perf_counter()
    found = innverse.solve(y, operator, prior, method="posterior", noise=0.02, **options)
    run.wait()
    seconds = time.perf_counter() - start
    draws = found.samples[:, 0].flatten(1)[:, :: max(1, size * size // 64)]
    sizes = effective_size(draws.unflatten(0, (options.get("chains", 4), -1)))
    effective = float(sizes.median())
    return {
        "seconds": seconds,
        "effective": effective,
        "seconds for 1000": 1e3 * seconds / effective,
    }


# ---- the whole -----------------------------------------------------------------------------------

PARTS = {"checks": checks, "parity": parity, "uses": uses, "steps": steps, "recovery": recovery}


def main() -> int:
    parser = harness.Arguments(__doc__, out=False)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", dest="file", type=Path, help="JSON of all that was measured")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS])
    args = parser.parse_args()
    run = Run(args.device, args.quick)
    info = harness.machine(
        ("torch", "FrEIA", "normflows", "nflows", "zuko"), torch.get_num_threads()
    )
    info["device"] = torch.cuda.get_device_name() if run.cuda else info["processor"]
    print(f"{info['device']}, torch {info['torch']}, Python {info['python']}", flush=True)
    for name in args.only:
        print(f"\n{name}", flush=True)
        try:
            PARTS[name](run)
        except Exception as problem:  # the count at the end must come
            traceback.print_exc()
            run.bad.append(f"{name} ({type(problem).__name__})")
    if args.file is not None:
        results = {"machine": info, "checks": run.good, "failed": run.bad, "rows": run.rows}
        harness.write_atomically(args.file, results)
    seconds = time.perf_counter() - run.begin
    failed = f", {len(run.bad)} FAILED: {'; '.join(run.bad)}" if run.bad else ""
    print(f"\n{run.good} of {run.good + len(run.bad)} checks passed in {seconds:.0f} s{failed}")
    return int(bool(run.bad))


if __name__ == "__main__":
    sys.exit(main())
