"""What the server answers, and what it refuses."""

from __future__ import annotations

import gc
import io
import json
import threading
import time
import weakref
from types import SimpleNamespace

import PIL.Image
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from innverse.cli.serve import serve
from innverse.errors import UsageError
from innverse.serve.app import create
from innverse.serve.jobs import Busy, Jobs, Product
from innverse.serve.limits import Limits
from innverse.serve.listen import listen
from innverse.serve.uploads import Uploads

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
    for other in ("http://elsewhere.example", "null", "localhost", "http://localhost:1"):
        refused = client.post("/api/samples", json={}, headers={"Origin": other})
        assert refused.status_code == 403, other
    own = client.post(
        "/api/arm/draws", json={"x": 1, "y": 0}, headers={"Origin": "http://localhost"}
    )
    assert own.status_code == 400 and "not learned yet" in own.json()["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("elsewhere.example", 400),  # whose name may lead here
        ("localhost.elsewhere.example", 400),
        ("localhost@elsewhere.example", 400),
        ("", 400),
    ],
)
def test_it_answers_to_its_own_names_alone(client, host, status):
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == status and answer.json().keys() & {"status", "error"}


def test_whatever_goes_wrong_is_said_in_a_sentence_with_the_same_headers(monkeypatch):
    app = create()
    with TestClient(app, base_url="http://localhost") as client:
        monkeypatch.setattr(app.state.jobs, "get", lambda id: 1 / 0)
        for answer, status in (
            (client.get("/api/jobs/x"), 500),
            (client.get("/etc/passwd"), 404),
            (client.put("/"), 405),
        ):
            assert answer.status_code == status and "Traceback" not in answer.text
            assert answer.json()["error"] and "content-security-policy" in answer.headers


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


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_address_holds_a_token_where_others_may_come(monkeypatch, capsys, host):
    seen = []

    def run(server, sockets):
        seen.append(server.config.app)
        sockets[0].close()

    monkeypatch.setattr("uvicorn.Server.run", run)
    assert serve(port=0, host=host) == 0
    address = next(word for word in capsys.readouterr().err.split() if word.startswith("http"))
    name = "localhost" if host == "127.0.0.1" else "known.example"
    with TestClient(seen[0], base_url=f"http://{name}", follow_redirects=False) as client:
        if host == "127.0.0.1":
            assert "token" not in address and client.get("/").status_code == 200
        else:
            assert client.get("/").status_code == 401
            assert client.get("/" + address.split("/")[-1]).status_code == 303
            assert client.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "short", "a;b=c&d#e/f?", "Schlüsselwort"])
def test_a_token_must_fit_into_an_address(token):
    with pytest.raises(UsageError, match="--token"):
        serve(port=0, token=token)


def test_a_port_has_one_server():
    with listen("127.0.0.1", 0) as first, pytest.raises(UsageError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"no picture", 400, "the file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", 400, "not an image"),
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


@pytest.mark.parametrize(
    ("mode", "kind", "note"),
    [
        ("CMYK", "JPEG", "converted from CMYK"),
        ("I;16", "PNG", "read with 8 of its 16 bits"),
        ("RGBA", "PNG", "alpha channel dropped"),
        ("1", "PNG", None),
        ("P", "GIF", None),
    ],
)
def test_pictures_of_all_kinds_are_taken_and_what_changed_is_said(client, mode, kind, note):
    file = io.BytesIO()
    PIL.Image.new(mode, (9, 7)).save(file, kind)
    answer = client.post("/api/pictures", content=file.getvalue(), headers=BYTES).json()
    assert (answer["width"], answer["height"]) == (9, 7)
    assert note is None or any(note in said for said in answer["notes"]), answer
    shown = client.get(f"/api/pictures/{answer['id']}")
    assert PIL.Image.open(io.BytesIO(shown.content)).size == (9, 7)


def test_of_an_animation_the_first_picture_is_taken(client):
    file, frames = io.BytesIO(), [PIL.Image.new("L", (8, 8), k) for k in (10, 20, 30)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    answer = client.post("/api/pictures", content=file.getvalue(), headers=BYTES).json()
    assert answer["notes"] == ["first of 3 frames"]


def test_files_of_too_many_pixels_are_refused_before_they_are_decoded():
    with TestClient(create(Limits(decoded=10**6)), base_url="http://localhost") as client:
        answer = client.post("/api/pictures", content=png(size=(2000, 1000)), headers=BYTES)
        assert answer.status_code == 400 and "2 million pixels" in answer.json()["error"]


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (3000, 40)])
def test_thin_pictures_are_reduced_as_well(size):
    kept = Uploads(Limits(pixels=1000)).add(png(size=size)).pixels
    assert 0 < kept.numel() <= 1000


def test_the_newest_uploads_are_kept_within_the_memory_and_fresh_ones_are_not_dropped(monkeypatch):
    uploads = Uploads(Limits(memory=600))
    first, second = uploads.add(png()), uploads.add(png())
    with pytest.raises(Busy):
        uploads.add(png())
    first.since -= 100
    third = uploads.add(png())
    assert uploads.get(second.id) is second and uploads.get(third.id) is third
    with pytest.raises(Exception, match="no longer here"):
        uploads.get(first.id)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"\\ud800": 1}', 422),
        (b'{"n": 1e400}', 422),
        (b'{"temperature": NaN}', 422),
        (b"[" * 60_000, 422),
        (b"\xff\xfe", 422),
        (b"", 422),
        (b'"' + b"a" * 100_000 + b'"', 413),
        (b" " * 2**20, 413),
    ],
)
def test_nonsense_is_refused_in_a_sentence_and_long_nonsense_is_not_kept(client, body, status):
    sent = (body[k : k + 2**16] for k in range(0, len(body) or 1, 2**16))  # without a length
    answer = client.post("/api/samples", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] and len(answer.json()["error"]) < 300


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


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2)])
@pytest.mark.parametrize("task", ["denoise", "deblur", "enlarge"])
def test_the_smallest_pictures_end_in_a_picture_or_a_sentence(client, task, size):
    x = uploaded(client, png(size=size))
    wish = {"picture": x, "task": task, "noise": 0.1, "clean": True}
    state = over(client, client.post("/api/repair", json=wish))
    assert state["state"] == "done" or "error of the program" not in state["error"], state["error"]


def test_what_cannot_be_measured_is_no_number(client):
    x = uploaded(client, png())  # a blur leaves it as it is: an infinite PSNR
    wish = {"picture": x, "task": "deblur", "clean": True}
    id = client.post("/api/repair", json=wish).json()["id"]
    wait_for(lambda: client.get(f"/api/jobs/{id}").json()["state"] == "done", 60)

    def refuse(name):
        raise AssertionError(name)

    json.loads(client.get(f"/api/jobs/{id}").text, parse_constant=refuse)


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


def test_who_goes_away_leaves_no_job_behind():
    jobs = Jobs(Limits(patience=0.2))

    def endless(report):
        while True:
            report(1, 2)
            time.sleep(0.005)

    running, waiting = jobs.submit(endless), jobs.submit(endless)
    wait_for(lambda: running.over)
    assert running.state == "cancelled" and "nobody asked" in running.error
    wait_for(lambda: waiting.over)
    assert waiting.state == "cancelled"
    asked = jobs.submit(endless)
    ends = time.monotonic() + 0.5
    while time.monotonic() < ends:
        assert jobs.get(asked.id) is asked and not asked.over
        time.sleep(0.01)
    jobs.close()


def test_no_error_stops_the_line(jobs):
    def leave(report):
        raise SystemExit(3)

    left = jobs.submit(leave)
    wait_for(lambda: left.over)
    assert left.state == "failed" and "SystemExit" in left.error
    after = jobs.submit(lambda report: Product({"n": 1}))
    wait_for(lambda: after.over)
    assert after.state == "done"


def test_a_picture_goes_when_its_job_is_over(jobs):
    class Picture:
        pass

    def wish():
        picture = Picture()
        return weakref.ref(picture), lambda report: Product({"n": id(picture)})

    held, work = wish()
    job = jobs.submit(work)
    del work
    wait_for(lambda: job.over and gc.collect() >= 0 and held() is None)


def test_many_quick_results_are_all_kept_and_large_ones_within_the_memory():
    jobs = Jobs(Limits(waiting=200, memory=1000))
    small = [jobs.submit(lambda report: Product()) for _ in range(150)]
    wait_for(lambda: all(job.over for job in small))
    assert all(jobs.get(job.id) is job for job in small)
    file = {"a.png": ("image/png", b"x" * 400)}
    large = [jobs.submit(lambda report: Product({}, file)) for _ in range(3)]
    wait_for(lambda: all(job.over for job in large))
    assert [jobs.get(job.id) for job in large] == [None, *large[1:]]
    jobs.close()


def until(gate: threading.Event):
    def work(report):
        gate.wait(10)
        return Product()

    return work


def test_time_in_the_line_is_no_time_at_work():
    jobs, gate = Jobs(Limits()), threading.Event()

    def one_hundredth(report):
        report(1, 100)
        return Product({"left": second.progress.left})

    first, second = jobs.submit(until(gate)), jobs.submit(one_hundredth)
    wait_for(lambda: first.state == "running")
    time.sleep(0.5)  # would tell of 99 times as much to come
    gate.set()
    wait_for(lambda: second.over)
    assert second.product.told["left"] < 40
    jobs.close()


def test_who_is_refused_is_told_when_to_come_back():
    jobs, gate = Jobs(Limits(seconds=100, waiting=1)), threading.Event()

    def told() -> float:
        with pytest.raises(Busy) as refusal:
            jobs.submit(until(gate))
        return refusal.value.seconds

    running = jobs.submit(until(gate))
    wait_for(lambda: running.state == "running")
    jobs.submit(until(gate))
    assert told() == 10  # nobody knows yet
    for left, seconds in ((41.2, 42), (0.0, 1), (1e6, 100)):  # at most what a job may take
        running.progress = SimpleNamespace(left=left)
        assert told() == seconds
    gate.set()
    jobs.close()


def test_who_is_refused_later_is_told_to_come_back_later():
    jobs, gate = Jobs(Limits(waiting=1)), threading.Event()
    first = jobs.submit(lambda report: Product(told={"slept": time.sleep(0.5)}))
    wait_for(lambda: first.over)  # now a job is known to take half a second
    running = jobs.submit(until(gate))
    wait_for(lambda: running.state == "running")
    running.progress = SimpleNamespace(left=3.0)
    last = jobs.submit(until(gate))
    told = []
    for _ in range(20):
        with pytest.raises(Busy) as refusal:
            jobs.check_place()
        told.append(refusal.value.seconds)
    assert told == sorted(told) and told[0] == 3 and 9 < told[-1] <= 33
    gate.set()
    wait_for(lambda: last.over)
    jobs.close()


def test_results_are_forgotten(jobs):
    job = jobs.submit(lambda report: Product())
    wait_for(lambda: job.over)
    assert jobs.get(job.id) is job
    wait_for(lambda: jobs.get(job.id) is None)


def test_uploads_are_forgotten_though_nobody_comes():
    with TestClient(create(Limits(keep=0.2)), base_url="http://localhost") as client:
        uploaded(client, png())
        uploads = client.app.state.uploads
        assert len(uploads) == 1
        wait_for(lambda: len(uploads) == 0)


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
