"""What the server answers, and what it refuses."""

from __future__ import annotations

import io
import threading
import time

import PIL.Image
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from innverse.serve.app import create
from innverse.serve.jobs import Busy, Jobs, Product
from innverse.serve.limits import Limits

BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def client():
    with TestClient(create(Limits(upload=2**20)), base_url="http://localhost") as found:
        yield found


def png(color=128, size=(16, 16), mode="L") -> bytes:
    file = io.BytesIO()
    PIL.Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def uploaded(client, data: bytes) -> str:
    answer = client.post("/api/pictures", content=data, headers=BYTES)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def over(client, answer, seconds: float = 60) -> dict:
    assert answer.status_code == 202, answer.text
    id, ends = answer.json()["id"], time.monotonic() + seconds
    while time.monotonic() < ends:
        state = client.get(f"/api/jobs/{id}").json()
        if state["state"] in ("done", "failed", "cancelled"):
            return state | {"id": id}
        time.sleep(0.02)
    raise AssertionError("the job took too long")


def test_it_says_when_it_is_ready_and_lets_no_other_site_in(client):
    answer = client.get("/health")
    assert answer.json()["status"] == "ok"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    other = {"Origin": "http://elsewhere.example"}
    assert client.post("/api/samples", json={}, headers=other).status_code == 403
    assert client.get("/health", headers={"Host": "elsewhere.example"}).status_code == 400
    own = client.post(
        "/api/arm/draws", json={"x": 1, "y": 0}, headers={"Origin": "http://localhost"}
    )
    assert own.status_code == 400 and "not learned yet" in own.json()["error"]


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css"])
def test_the_page_asks_nobody_else(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "://" not in answer.text.replace("https://www.w3.org", "")


def test_a_token_is_asked_for_where_there_is_one():
    with TestClient(create(token="secret", hosts=("*",)), follow_redirects=False) as client:
        assert client.get("/").status_code == 401 and client.get("/health").status_code == 200
        assert client.get("/?token=wrong").status_code == 401
        entered = client.get("/?token=secret")
        assert entered.status_code == 303 and "HttpOnly" in entered.headers["set-cookie"]
        assert client.get("/").status_code == 200  # by the cookie
        client.cookies.clear()
        bearer = {"Authorization": "Bearer secret"}
        assert client.get("/api/limits", headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"no picture", 400, "the file"),
        (b"", 400, "the file"),
        (png()[:40], 400, "the file"),
        (b"x" * (2**20 + 1), 413, "larger than 1 MB"),
        (png(size=(60_000, 30_000), mode="1", color=0), 400, "the file"),  # 225 MB of a few kB
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(client, data, status, words):
    answer = client.post("/api/pictures", content=data, headers=BYTES)
    assert answer.status_code == status and words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_only_bytes_and_json_are_taken_so_that_no_form_can_send_them(client):
    assert client.post("/api/pictures", content=png()).status_code == 415
    form = {"Content-Type": "text/plain"}
    assert client.post("/api/samples", content="{}", headers=form).status_code in (415, 422)


def test_a_large_picture_is_reduced_and_that_is_said():
    with TestClient(create(Limits(pixels=256)), base_url="http://localhost") as client:
        answer = client.post("/api/pictures", content=png(size=(64, 16)), headers=BYTES).json()
        assert (answer["width"], answer["height"]) == (32, 8)
        assert answer["notes"] == ["reduced from 64x16 to 32x8 pixels"]


def test_a_hole_is_filled_and_the_same_is_told_in_two_languages(client):
    x, mask = uploaded(client, png()), PIL.Image.new("L", (16, 16), 255)
    mask.paste(0, (4, 4, 8, 8))
    file = io.BytesIO()
    mask.save(file, "PNG")
    wish = {"picture": x, "mask": uploaded(client, file.getvalue()), "task": "repair"}
    state = over(client, client.post("/api/repair", json=wish))
    assert state["state"] == "done", state["error"]
    assert state["result"]["command"].startswith("innverse solve photo.png --physics inpainting")
    compile(state["result"]["python"], "shown", "exec")
    answer = client.get(f"/api/jobs/{state['id']}/result.png")
    found = PIL.Image.open(io.BytesIO(answer.content))
    assert found.size == (16, 16) and abs(found.getpixel((5, 5)) - 128) < 16
    assert client.get(f"/api/jobs/{state['id']}/..%2fresult.png").status_code == 404


@pytest.mark.parametrize(
    ("wish", "status", "words"),
    [
        ({"task": "repair"}, 400, "paint what is missing"),
        ({"task": "denoise", "noise": 0.0}, 400, "without noise"),
        ({"task": "denoise", "noise": 9.0}, 422, "noise"),
        ({"task": "enlarge", "factor": 5}, 422, "factor"),
        ({"task": "fly"}, 422, "task"),
        ({"task": "denoise", "path": "/etc/passwd"}, 422, "path"),
        ({"task": "denoise", "noise": 0.1, "picture": "gone"}, 400, "no longer here"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(client, wish, status, words):
    given = {"picture": uploaded(client, png())} | wish
    answer = client.post("/api/repair", json=given)
    assert answer.status_code == status and words in answer.json()["error"]


def test_error_bars_are_bounded_by_size():
    with TestClient(create(Limits(exact=64)), base_url="http://localhost") as client:
        wish = {"picture": uploaded(client, png()), "task": "denoise", "noise": 0.1}
        answer = client.post("/api/repair", json=wish | {"error_bar": "exact"})
        assert answer.status_code == 400 and "up to 8x8 pixels" in answer.json()["error"]


@pytest.fixture
def jobs():
    found = Jobs(Limits(waiting=2, seconds=0.2, keep=0.3))
    yield found
    found.close()


def wait_for(condition, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_full_line_refuses_and_nothing_is_lost(jobs):
    gate = threading.Event()
    first = jobs.submit(lambda report: Product({"n": 0}) if gate.wait(10) else Product())
    wait_for(lambda: first.state == "running")
    rest = [jobs.submit(lambda report, k=k: Product({"n": k})) for k in (1, 2)]
    assert [jobs.before(job) for job in rest] == [1, 2]
    with pytest.raises(Busy):
        jobs.submit(lambda report: Product())
    gate.set()
    wait_for(lambda: all(job.over for job in rest))
    assert [job.product.told["n"] for job in (first, *rest)] == [0, 1, 2]


def test_jobs_are_cancelled_stopped_in_time_and_survived(jobs):
    def endless(report):
        while True:
            report(1, 2)
            time.sleep(0.005)

    slow = jobs.submit(endless)
    waiting = jobs.submit(endless)
    jobs.cancel(waiting)
    wait_for(lambda: slow.over)
    assert slow.state == "failed" and "the most that a job may take" in slow.error
    assert waiting.state == "cancelled"
    running = jobs.submit(endless)
    wait_for(lambda: running.state == "running")
    jobs.cancel(running)
    wait_for(lambda: running.over)
    assert running.state == "cancelled"
    broken = jobs.submit(lambda report: 1 / 0)
    wait_for(lambda: broken.over)
    assert broken.state == "failed" and "ZeroDivisionError" in broken.error
    assert jobs.submit(lambda report: Product()).state in ("waiting", "running", "done")


def test_results_are_forgotten(jobs):
    job = jobs.submit(lambda report: Product())
    wait_for(lambda: job.over)
    assert jobs.get(job.id) is job
    wait_for(lambda: jobs.get(job.id) is None)


def test_many_at_once_get_an_answer_or_an_honest_refusal():
    with TestClient(create(Limits(waiting=4)), base_url="http://localhost") as client:
        x = uploaded(client, png(size=(8, 8)))
        wish = {"picture": x, "task": "denoise", "noise": 0.1}
        answers = []

        def one():
            answers.append(client.post("/api/repair", json=wish))

        threads = [threading.Thread(target=one) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = [a for a in answers if a.status_code == 202]
        refused = [a for a in answers if a.status_code == 429]
        assert len(taken) + len(refused) == 20 and len(taken) >= 4
        assert all("try again" in a.json()["error"] and a.headers["retry-after"] for a in refused)
        assert all(over(client, a)["state"] == "done" for a in taken)
