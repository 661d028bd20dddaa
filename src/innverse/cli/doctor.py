"""``innverse doctor``: does this installation work, and how is it set up?"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .. import __version__
from .options import Json, print_json


@dataclass
class Finding:
    """One line: ``ok`` is None for facts that can be neither right nor wrong."""

    what: str
    value: str
    ok: bool | None = None


def doctor(*, json: Json = False) -> int:
    """Check that this installation works; exit code 1 if something is broken.

    innverse doctor
    innverse doctor --json

    Shows versions, processor, threads and GPU, verifies the shipped models against
    their checksums, and tests a small flow (round trip, log-determinant against
    autodiff, gradient in reversible memory) and the adjoints of all operators.
    """
    findings = [Finding("innverse", __version__), *_python(), *_attempt("torch", _torch)]
    if findings[-1].ok is not False:
        for what, check in _CHECKS.items():
            findings += _attempt(what, check)
    broken = [f for f in findings if f.ok is False]
    if json:
        print_json({"ok": not broken, "checks": [vars(f) for f in findings]})
    else:
        width = max(len(f.what) for f in findings)
        for f in findings:
            mark = {True: "ok  ", False: "BAD ", None: "    "}[f.ok]
            print(f"{mark}{f.what:<{width}}  {f.value}")
        print("\n" + (f"{len(broken)} broken" if broken else "all is well"))
    return 1 if broken else 0


def _attempt(what: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """The findings of a check; one that raises is broken."""
    try:
        return check()
    except Exception as error:
        text = str(error).splitlines()
        return [Finding(what, f"{type(error).__name__}: {text[0] if text else ''}", False)]


def _python() -> list[Finding]:
    extras = {
        "scikit-image": "skimage", "matplotlib": "matplotlib", "scipy": "scipy", "h5py": "h5py",
        "tifffile": "tifffile", "pydicom": "pydicom", "nibabel": "nibabel",
        "PyWavelets": "pywt", "scikit-learn": "sklearn", "huggingface_hub": "huggingface_hub",
    }  # fmt: skip
    have = [name for name, module in extras.items() if importlib.util.find_spec(module)]
    lack = [name for name in extras if name not in have]
    return [
        Finding("python", f"{platform.python_version()} ({sys.executable})", None),
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("extras", ", ".join(have) + (f"; without {', '.join(lack)}" if lack else "")),
    ]


def _torch() -> list[Finding]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return [
        Finding("torch", f"{torch.__version__} ({build})", True),
        Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} processors"),
        Finding("processor", _processor()),
    ]


def _processor() -> str:
    import torch

    level = torch.backends.cpu.get_cpu_capability()
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line.partition(":") for line in file]
    except OSError:
        return level
    entries = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(entries.get("flags", "").split())
    names = {"avx512f": "avx512", "avx512_bf16": "bf16", "amx_tile": "amx"}
    found = ", ".join(f"{name} {'yes' if flag in flags else 'no'}" for flag, name in names.items())
    return f"{entries.get('model name', platform.processor())}, {level} ({found})"


def _allocator() -> list[Finding]:
    from ..train.allocator import keep_buffers

    text = "glibc, kept buffers" if keep_buffers() else "the system's own"
    preload = os.environ.get("LD_PRELOAD")
    return [Finding("allocator", text + (f", LD_PRELOAD={preload}" if preload else ""))]


def _gpu() -> list[Finding]:
    import torch

    if not torch.cuda.is_available():
        return [Finding("GPU", "none")]
    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    value = float((torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum())
    return [Finding("GPU", ", ".join(names), value == 512)]


def _compiler() -> list[Finding]:
    """Whether steps on the GPU are compiled: a region is, and its gradient."""
    import torch

    from ..accelerate.regions import region, repeated_work, why_not

    if not torch.cuda.is_available():
        return []

    @region
    def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x * y).sin()

    x = torch.linspace(0, 1, 2**15, device="cuda", requires_grad=True)
    with repeated_work():
        (g,) = torch.autograd.grad(product(x, x.detach()).sum(), x)
    error = float((g - x * x.square().cos()).abs().max().detach())
    if (why := why_not()) is not None:
        return [Finding("compiled regions", f"not used ({why}); training runs slower")]
    return [Finding("compiled regions", f"error {error:.1e}", error < 1e-4)]


def _models() -> list[Finding]:
    from ..zoo import load, missing, names

    def of(name: str) -> list[Finding]:
        size = load(name).n_parameters
        return [Finding(f"model {name}", f"{size:,} parameters, checksum right", True)]

    found = [f for name in names() for f in _attempt(f"model {name}", partial(of, name))]
    found += [Finding(f"model {n}", f"not installed: {how}") for n, how in missing().items()]
    return found or [Finding("models", "none shipped; give --prior FOLDER to solve")]


def _flow() -> list[Finding]:
    import torch

    from ..bijections import set_memory
    from ..flows import build

    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = build("glow", (1, 4, 4), levels=2, steps=2, hidden=8).double()
        for p in flow.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    z, logdet = flow.bijection(x)
    trip = float((flow.decode(z) - x).abs().max().detach())
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.encode(v), x[:1])
    truth = torch.linalg.slogdet(jacobian.reshape(16, 16))[1]
    gap = float((logdet[0] - truth).abs().detach())

    def gradients(memory: str) -> tuple[torch.Tensor, ...]:
        set_memory(flow, memory)
        return tuple(torch.autograd.grad(flow.log_prob(x).sum(), list(flow.parameters())))

    pairs = zip(gradients("store"), gradients("reversible"))
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    seconds = time.perf_counter() - started
    return [
        Finding("round trip of a flow", f"error {trip:.1e}", trip < 1e-9),
        Finding("log-determinant", f"error {gap:.1e} against autodiff", gap < 1e-9),
        Finding("reversible gradient", f"error {worst:.1e} ({seconds:.2f} s)", worst < 1e-6),
    ]


def _operators() -> list[Finding]:
    from ..physics import build, check_adjoint, names

    shape = (1, 16, 16)
    worst = max(check_adjoint(build(name, shape), (2, *shape), tol=1e-4) for name in names())
    return [Finding("adjoints of operators", f"error {worst:.1e}, {len(names())} operators", True)]


def _kernels() -> list[Finding]:
    from ..accelerate.native import Unavailable, load

    names = ("perceptron", "affine", "spline")
    try:
        for name in names:
            load(name)
    except Unavailable as why:
        return [Finding("C++ kernels", f"not used ({why}); couplings run slower")]
    return [Finding("C++ kernels", ", ".join(names), True)]


_CHECKS: dict[str, Callable[[], list[Finding]]] = {
    "allocator": _allocator,
    "C++ kernels": _kernels,
    "GPU": _gpu,
    "compiled regions": _compiler,
    "models": _models,
    "flow": _flow,
    "operators": _operators,
}
