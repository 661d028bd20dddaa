"""The package as an installed thing: light imports, clean dependencies, a complete wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import innverse
from innverse import zoo
from innverse.errors import UsageError

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = ("torch", "numpy", "PIL", "scipy", "skimage", "matplotlib", "h5py")
MB = 2**20


def _run(code: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _loaded(code: str, names: tuple[str, ...]) -> set[str]:
    """Which of the packages are loaded after ``code`` in a fresh interpreter."""
    last = _run(f"import sys\n{code}\nprint(*sorted(set({names!r}) & set(sys.modules)))")
    return set(last.splitlines()[-1].split())


def _imported_packages(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


# ---- imports ------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing_heavy():
    assert _loaded("import innverse", HEAVY) == set()


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_does_not_load_torch(flag):
    code = f"""
from innverse.cli import main
sys.argv = ["innverse", {flag!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code"""
    assert "torch" not in _loaded(code, HEAVY)


def test_version_on_the_command_line(cli):
    assert cli("--version").stdout.strip().endswith(innverse.__version__)


def test_no_file_imports_torchvision():
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    assert [str(f) for f in files if "torchvision" in _imported_packages(f)] == []


def test_every_import_is_declared():
    declared = {Requirement(line).name.lower() for line in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    declared |= {Requirement(line).name.lower() for lines in extras.values() for line in lines}
    distribution = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"}
    distribution |= {"pywt": "pywavelets", "starlette": "fastapi"}  # which is made of it
    known = sys.stdlib_module_names | {"innverse"}
    used = {(n, f.name) for f in SOURCES for n in _imported_packages(f) if n not in known}
    assert [u for u in used if distribution.get(u[0], u[0]).lower() not in declared] == []


def test_public_names_can_be_loaded():
    for name in innverse.__all__:
        assert getattr(innverse, name) is not None


# ---- metadata -----------------------------------------------------------------------------------


def test_version_has_one_source():
    assert "version" not in PROJECT
    assert metadata.version("innverse") == innverse.__version__
    assert f"\nversion: {innverse.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    page = ROOT / "docs" / "about" / "cite.md"  # not in the sdist
    assert not page.exists() or f"{{{innverse.__version__}}}" in page.read_text()


def test_addresses_are_the_same_wherever_they_stand():
    urls = PROJECT["urls"]
    assert all(url.startswith("https://") for url in urls.values())
    assert f'url: "{urls["Homepage"]}"' in (ROOT / "CITATION.cff").read_text()


def _development() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    parts = (extras[name] for name in ("cluster", "demo", "docs", "io", "science", "web", "dev"))
    return sum(parts, PROJECT["dependencies"])


def test_requirements_of_every_extra_are_installed_or_optional():
    """What .venv promises (dev and what it names) is there, in a version that the extra admits."""
    for requirement in map(Requirement, _development()):
        if requirement.name != "innverse":
            assert requirement.specifier.contains(metadata.version(requirement.name)), requirement


def test_extras_name_only_extras_that_exist():
    for lines in PROJECT["optional-dependencies"].values():
        for requirement in map(Requirement, lines):
            if requirement.name == "innverse":
                assert requirement.extras <= set(PROJECT["optional-dependencies"])


LOCKS = ["requirements/dev.lock", "requirements/serve.lock", "benchmarks/peers.lock"]


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_bring_neither_torch_nor_cuda(lock):
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)
    unwanted = re.compile(r"(nvidia|cuda)-.*|torch|torchvision|torchaudio|triton")
    assert len(names) >= 40
    assert [n for n in names if unwanted.fullmatch(n.lower())] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_the_hashes_of_its_files(lock):
    pins = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text())[1:]
    assert [p.split()[0] for p in pins if not re.search(r"--hash=sha256:[0-9a-f]{64}", p)] == []
    assert "--require-hashes" in (ROOT / "setup.sh").read_text()


def test_the_lock_satisfies_the_declared_dependencies():
    text = (ROOT / "requirements/dev.lock").read_text() + (
        ROOT / "requirements/torch.txt"
    ).read_text()
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^ \n;]+)", text, re.MULTILINE)
    for requirement in map(Requirement, _development()):
        if requirement.name == "innverse":
            continue
        versions = [v for name, v in pins if name.lower() == requirement.name.lower()]
        assert versions, f"{requirement.name} is not in the lock: run `make lock`"
        assert all(requirement.specifier.contains(v) for v in versions), requirement


@pytest.mark.skipif(not (Path(sys.prefix) / ".innverse").exists(), reason="not made by setup.sh")
def test_environment_has_no_cuda_package():
    names = {(d.metadata["Name"] or "").lower() for d in metadata.distributions()}
    assert [n for n in names if n.startswith("nvidia-") or n == "torchvision"] == []


# ---- the wheel ----------------------------------------------------------------------------------


FACES = ROOT / "release" / "faces"


def _build(folder: Path, out: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory):
    return _build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(wheel_file):
    with zipfile.ZipFile(wheel_file) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


@pytest.fixture(scope="module")
def faces_file(tmp_path_factory):
    if not FACES.exists():
        pytest.skip("the package of the faces is not in the sdist")
    return _build(FACES, tmp_path_factory.mktemp("faces"))


def test_wheel_has_every_source_file_and_the_weights(wheel):
    package = ROOT / "src" / "innverse"
    kinds = {".py", ".safetensors", ".json", ".md", ".toml", ".html", ".css", ".typed"}
    wanted = {
        str(f.relative_to(ROOT / "src"))
        for f in package.rglob("*")
        if f.suffix in kinds and "__pycache__" not in f.parts
    }
    assert wanted - set(wheel) == set()


def test_wheel_has_the_licence_and_nothing_else(wheel):
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"innverse", f"innverse-{innverse.__version__}.dist-info"}


def test_the_wheel_is_small(wheel, wheel_file):
    assert [name for name, size in wheel.items() if size > 5 * MB] == []
    assert wheel_file.stat().st_size < 10 * MB
    assert "innverse/py.typed" in wheel


def test_the_faces_are_a_wheel_of_data(faces_file):
    with zipfile.ZipFile(faces_file) as archive:
        found = set(archive.namelist())
        about = archive.read(next(n for n in found if n.endswith("METADATA"))).decode()
    assert f"\nVersion: {innverse.__version__}\n" in about and "Requires-Dist" not in about
    data = {n for n in found if ".dist-info/" not in n}
    files = "README.md", "config.json", "model.safetensors"
    wanted = {f"innverse_faces/{m}/{f}" for m in zoo._PACKAGES["innverse_faces"] for f in files}
    assert data == wanted | {"innverse_faces/__init__.py", "innverse_faces/LICENSE"}


def test_the_faces_are_found_where_their_wheel_is_and_asked_for_where_not(
    wheel_file, faces_file, tmp_path
):
    """Both wheels as pip unpacks them, without this checkout."""
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(tmp_path / "site")
    code = f"""
import sys
from pathlib import Path
sys.path = [p for p in sys.path if not (Path(p or ".") / "innverse" / "zoo").exists()]
sys.path.insert(0, {str(tmp_path / "site")!r})
import innverse
assert Path(innverse.__file__).is_relative_to({str(tmp_path)!r}), innverse.__file__
names = innverse.zoo.names()
try:
    innverse.load("faces64")
except innverse.errors.UsageError as error:
    print(error)
print(*names, innverse.zoo.folder("faces64"), sep="\\n")"""
    said, *names, folder = _run(code, tmp_path).splitlines()
    assert said == (
        "the weights of 'faces64' are a package of their own: pip install innverse-faces, or "
        "./release/faces in a checkout"
    )
    assert names == ["digits", "natural-color", "natural-gray"] and folder == "faces64"
    with zipfile.ZipFile(faces_file) as archive:
        archive.extractall(tmp_path / "site")
    code = code.replace('innverse.load("faces64")', "assert not innverse.zoo.missing(); print()")
    _, *names, folder = _run(code, tmp_path).splitlines()
    assert {"digits", *zoo._PACKAGES["innverse_faces"]} < {*names}
    assert Path(folder) == tmp_path / "site" / "innverse_faces" / "faces64"


def test_a_folder_of_ones_own_may_bear_the_name_of_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match="pip install innverse-faces"):
        innverse.load("faces64-vae")
    assert zoo.card("faces64-vae") == "" and zoo.missing().keys() == {
        *zoo._PACKAGES["innverse_faces"]
    }
    innverse.flows.build("realnvp", (2,), layers=2, width=8).save_pretrained(tmp_path / "faces64")
    monkeypatch.chdir(tmp_path)
    assert innverse.load("faces64").shape == (2,)


def test_flows_do_not_import_the_compiler():
    """torch._dynamo takes seconds, and few need it."""
    code = "import sys, innverse; innverse.flows.names(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
