"""The page in a real Chromium: what a visitor does, with mouse, keyboard and telephone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=30_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = os.environ.get("AXE")  # axe.min.js of the npm package axe-core

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


@pytest.fixture(scope="module")
def address():
    command = [sys.executable, "-m", "innverse", "serve", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    found = next(word for word in server.stderr.readline().split() if word.startswith("http"))
    yield found
    server.terminate()
    server.wait(timeout=20)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=["desktop light", "telephone dark"])
def page(request, browser, address):
    size = (
        {"width": 1200, "height": 900}
        if "desktop" in request.param
        else {"width": 390, "height": 844}
    )
    page = browser.new_page(viewport=size, color_scheme=request.param.split()[1])
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:"))
            else page.complaints.append(r.url))  # fmt: skip
    page.goto(address)
    yield page
    assert page.complaints == []
    page.close()


@pytest.fixture
def benchmark(monkeypatch):
    folder = Path(__file__).parents[2] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("benchmarks are not here")
    monkeypatch.syspath_prepend(str(folder))
    import serve

    return serve


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    skimage = pytest.importorskip("skimage")
    import PIL.Image

    file = tmp_path_factory.mktemp("photo") / "<script>alert(1)<script>.png"
    PIL.Image.fromarray(skimage.data.astronaut()[:64, 180:244]).save(file)
    return file


def chosen(page, photo) -> None:
    page.set_input_files("#file", str(photo))
    page.wait_for_selector("#easel:not([hidden])")


def test_browser_paints_solves_slides_and_downloads(page, photo):
    chosen(page, photo)
    assert page.locator("#start").is_disabled()
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    page.click("#start")
    page.wait_for_selector("#result:not([hidden])", timeout=120_000)
    page.locator("#slider").fill("25")
    assert "25%" in page.locator("#after").evaluate("e => e.style.clipPath")
    with page.expect_download() as found:
        page.click("#download")
    assert open(found.value.path(), "rb").read(4) == b"\x89PNG"
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, "the page is wider than the screen"


def test_browser_by_keyboard_alone(page, photo):
    chosen(page, photo)
    page.focus("#canvas")
    for key in ("ArrowLeft", "ArrowUp", "Space", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    assert page.locator("#start").is_enabled()
    page.focus("#tab-repair")
    page.keyboard.press("ArrowRight")
    assert page.locator("#gallery").is_visible() and page.locator("#repair").is_hidden()


def test_browser_says_errors_in_words(page, tmp_path):
    wrong = tmp_path / "text.png"
    wrong.write_text("no picture")
    page.set_input_files("#file", str(wrong))
    playwright.expect(page.locator("#error")).to_contain_text("is not an image")


def test_browser_draws_and_walks_between(page):
    page.click("#tab-gallery")
    page.select_option("#model", "digits")
    page.click("#between")
    page.wait_for_selector("#walk:not([hidden])", timeout=120_000)
    page.locator("#walk input").fill("3")
    assert "step3" in page.locator("#drawn img").get_attribute("src")


def test_browser_says_that_a_file_is_too_large(page, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * (17 * 2**20))
    page.set_input_files("#file", str(large))
    playwright.expect(page.locator("#error")).to_contain_text("larger than 16 MB")


def test_browser_that_cancels_goes_on_at_once(page, photo):
    chosen(page, photo)
    page.click("[name=task][value=denoise]")
    page.fill("#noise", "25")
    page.select_option("#bar", "exact")
    page.click("#start")
    page.click("#cancel")
    playwright.expect(page.locator("#error")).to_have_text("cancelled")
    assert page.locator("#start").is_enabled() and page.locator("#progress").is_hidden()


def test_browser_that_leaves_lets_others_go_first(page, address, photo):
    chosen(page, photo)
    page.click("[name=task][value=denoise]")
    page.fill("#noise", "25")
    page.select_option("#bar", "exact")
    with page.expect_response(lambda r: "/api/jobs/" in r.url) as asked:
        page.click("#start")
    page.goto("about:blank")
    ends = time.monotonic() + 60
    while json.load(urllib.request.urlopen(asked.value.url))["state"] != "cancelled":
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_browser_loads_a_light_page(browser, address, benchmark):
    for size in benchmark.SCREENS.values():
        found = benchmark.page(browser, address, size)
        assert found["elsewhere"] == [] and found["first_paint_ms"] > 0
        assert found["requests"] <= 4 and found["bytes"] < 48 * 2**10


@pytest.mark.skipif(AXE is None, reason="needs AXE, the path of axe.min.js")
def test_browser_finds_nothing_serious_against_accessibility(page, photo):
    chosen(page, photo)
    page.evaluate(open(AXE).read())
    for tab in ("repair", "gallery", "arm"):
        page.click(f"#tab-{tab}")
        found = page.evaluate("axe.run()")["violations"]
        serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
        assert serious == []


def test_the_server_of_the_browser_is_there(address):
    with urllib.request.urlopen(address + "health") as answer:
        assert answer.status == 200
