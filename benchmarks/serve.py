"""Many people at once at `innverse serve`: what is lost, refused and kept in memory; and its page.

    python benchmarks/serve.py [--quick] [--people 50] [--threads 2] [--out FOLDER]

Over loopback, against a server of its own with its default limits. All upload a small picture of their
own, wait for each other, and ask for it without its noise in the same moment; who is refused (429)
comes back when told to (Retry-After), and asks after the job as the page does. Each compares the result
with what everybody brought: *lost* are those who never got theirs. Then all upload a photograph of
twelve million pixels. And the page, where playwright and Chromium are installed: requests, bytes
and the first paint.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import harness
import numpy as np
import PIL.Image

SIDE = 24  # pixels of the small pictures
PHOTOGRAPH, QUICK_PHOTOGRAPH = (4000, 3000), (400, 300)
PATIENCE = 1800.0  # seconds, for all of it
SCREENS = {"desktop": (1200, 900), "telephone": (390, 844)}


class Server:
    """One of its own on a free port."""

    def __init__(self, process: subprocess.Popen, address: str):
        self.process, self.address = process, address

    def ask(self, path: str, data: bytes | dict | None = None) -> tuple[int, dict, bytes]:
        """(status, headers, body); bytes are posted as such, other things as JSON."""
        media = "application/octet-stream" if isinstance(data, bytes) else "application/json"
        body = json.dumps(data).encode() if isinstance(data, dict) else data
        request = urllib.request.Request(self.address + path, body, {"Content-Type": media})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, dict(refusal.headers), refusal.read()

    def peak(self) -> float:
        """MB that it has had in memory at most so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextlib.contextmanager
def served(threads: int, *options: str, port: int = 0) -> Iterator[Server]:
    command = [sys.executable, "-m", "innverse", "serve", "--port", str(port), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        words = process.stderr.readline().split()
        yield Server(process, next(word for word in words if word.startswith("http")))
    finally:
        process.terminate()
        process.wait(timeout=60)


def at_once(people: int, one: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=one, args=(k,), daemon=True) for k in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def photographs(server: Server, people: int, size: tuple[int, int]) -> dict:
    """All upload a large one: how many are taken, and the memory."""
    file = io.BytesIO()
    PIL.Image.linear_gradient("L").resize(size).convert("RGB").save(file, "JPEG", quality=95)
    before, found, begin = server.peak(), [], time.perf_counter()
    at_once(people, lambda k: found.append(server.ask("api/pictures", file.getvalue())[0]))
    return {
        "requests": people,
        "accepted": found.count(201),
        "refused": found.count(429),
        "lost": people - found.count(201) - found.count(429),
        "seconds": time.perf_counter() - begin,
        "peak_mb_before": before,
        "peak_mb": server.peak(),
    }


def wishes(server: Server, people: int) -> dict:
    """All want their picture without its noise in the same moment."""
    everybody = [
        np.random.default_rng(k).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
        for k in range(people)
    ]
    gate = threading.Barrier(people)
    first: list[int] = []
    waits: list[float] = []
    answers: list[float] = []
    served: dict[int, float] = {}
    before, over = server.peak(), threading.Event()

    def one(k: int) -> None:
        own = json.loads(server.ask("api/pictures", png(everybody[k]))[2])["id"]
        wish = {"picture": own, "task": "denoise", "noise": 0.05, "seed": k}
        gate.wait(PATIENCE)
        begin = time.perf_counter()
        status, headers, body = server.ask("api/repair", wish)
        first.append(status)
        answers.append(time.perf_counter() - begin)
        while status == 429:
            waits.append(float(headers["retry-after"]))
            time.sleep(waits[-1])
            status, headers, body = server.ask("api/repair", wish)
        job = "api/jobs/" + json.loads(body)["id"]
        pause = 0.15
        while (state := json.loads(server.ask(job)[2]))["state"] in ("waiting", "running"):
            time.sleep(pause)
            pause = min(1.0, 1.3 * pause)
        if state["state"] == "done":
            result = np.asarray(PIL.Image.open(io.BytesIO(server.ask(job + "/result.png")[2])))
            far = [np.abs(result.astype(float) - x).mean() for x in everybody]
            if np.argmin(far) == k and far[k] < 0.5 * min(far[:k] + far[k + 1 :]):
                served[k] = time.perf_counter() - begin

    healthy: list[float] = []

    def watch() -> None:
        while not over.wait(0.25):
            now = time.perf_counter()
            assert server.ask("health")[0] == 200
            healthy.append(time.perf_counter() - now)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begin = time.perf_counter()
    at_once(people, one)
    over.set()
    watcher.join()
    return {
        "requests": people,
        "accepted": first.count(202),
        "refused": first.count(429),
        "lost": people - len(served),
        "came_back": len(waits),
        "retry_after": [min(waits, default=0), max(waits, default=0)],
        "answer_ms": [1e3 * statistics.median(answers), 1e3 * max(answers)],
        "result_seconds": [statistics.median(served.values()), max(served.values())]
        if served
        else None,
        "health_ms": [1e3 * statistics.median(healthy), 1e3 * max(healthy)] if healthy else None,
        "seconds": time.perf_counter() - begin,
        "peak_mb_before": before,
        "peak_mb": server.peak(),
    }


# ---- the page -----------------------------------------------------------------------------------


@contextlib.contextmanager
def chromium() -> Generator:
    """A browser, or None where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


_PAINT = """() => new Promise((done) => {
  const found = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
  if (found()) return done(found());
  new PerformanceObserver(() => found() && done(found())).observe({ type: "paint", buffered: true });
})"""


def page(browser, address: str, size: tuple[int, int]) -> dict:
    """What loading it costs, with nothing in the cache."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    tab, requests, total = context.new_page(), [], 0
    tab.on("request", lambda r: requests.append(r) if r.url.startswith("http") else None)
    tab.goto(address, wait_until="networkidle")
    for request in requests:
        sizes = request.sizes()
        total += sizes["responseBodySize"] + sizes["responseHeadersSize"]
    paint = tab.evaluate(_PAINT)
    context.close()
    others = [r.url for r in requests if not r.url.startswith(address)]
    return {"requests": len(requests), "bytes": total, "elsewhere": others, "first_paint_ms": paint}


def pages(server: Server, rounds: int) -> list[dict]:
    with chromium() as browser:
        if browser is None:
            print("no page: needs playwright and Chromium", file=sys.stderr)
            return []
        rows = []
        for name, size in SCREENS.items():
            found = [page(browser, server.address, size) for _ in range(rounds)]
            paint = statistics.median(f["first_paint_ms"] for f in found)
            rows.append({"screen": name, **found[-1], "first_paint_ms": paint})
        return rows


# ---- in words -----------------------------------------------------------------------------------


def markdown(data: dict) -> str:
    def pair(values, digits: int = 0) -> str:
        return "-" if values is None else " / ".join(f"{v:.{digits}f}" for v in values)

    keys = ("requests", "accepted", "refused", "lost", "seconds", "peak_mb_before", "peak_mb")
    header = ["at once", "requests", "accepted", "refused (429)", "lost", "seconds",
              "memory before, MB", "peak, MB"]  # fmt: skip
    labels = {
        "wishes": f"wishes, {SIDE}x{SIDE} pixels",
        "photographs": f"uploads of {data['megapixels']:g} million pixels",
    }
    rows = [[label, *(f"{data[part][key]:.0f}" for key in keys)] for part, label in labels.items()]
    r = data["wishes"]
    text = (
        f"{harness.table(header, rows)}\n\n"
        f"The refused came back {r['came_back']} times, after what Retry-After told them "
        f"({pair(r['retry_after'])} s), and were served. Median / longest: answer to a wish "
        f"{pair(r['answer_ms'])} ms, `/health` meanwhile {pair(r['health_ms'])} ms, from the wish to "
        f"the own picture {pair(r['result_seconds'], 1)} s.\n"
    )
    if data["pages"]:
        cells = [
            [p["screen"], str(p["requests"]), str(p["bytes"]), f"{p['first_paint_ms']:.0f}"]
            for p in data["pages"]
        ]
        header = ["the page", "requests", "bytes", "first paint, ms"]
        text += f"\n{harness.table(header, cells)}\n"
    machine = data["machine"]
    return (
        f"# `innverse serve` under many requests at once\n\n{text}\n{machine['processor']}, "
        f"{machine['threads']} threads, Python {machine['python']}; `python benchmarks/serve.py`. "
        "Clients on the same machine.\n"
    )


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0)
    parser.add_argument("--people", type=int)
    args = parser.parse_args()
    people = args.people or (6 if args.quick else 50)
    size = QUICK_PHOTOGRAPH if args.quick else PHOTOGRAPH
    options = ("--waiting", "2") if args.quick else ()
    with served(args.threads, *options) as server:
        data = {
            "machine": harness.machine(("torch", "fastapi", "uvicorn"), args.threads),
            "megapixels": size[0] * size[1] / 1e6,
        }
        for name, part in (
            ("wishes", lambda: wishes(server, people)),
            ("photographs", lambda: photographs(server, people, size)),
            ("pages", lambda: pages(server, 1 if args.quick else 5)),
        ):
            data[name] = part()
            print(f"{name}: {data[name]}", file=sys.stderr, flush=True)
    text = markdown(data)
    print(text)
    harness.write("serve", text, data, args.out)
    if data["photographs"]["lost"] or data["wishes"]["lost"]:
        raise SystemExit("requests were lost")


if __name__ == "__main__":
    main()
