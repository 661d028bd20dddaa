"""What a person sees of a long computation, with a clock that the test holds."""

from __future__ import annotations

import io
import re
import threading

import pytest

from innverse.progress import Progress, clock_time


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


def test_a_line_every_fifteen_seconds_says_what_how_far_and_how_long(clock):
    stream = io.StringIO()
    with Progress("solving", 50, unit="step", clock=clock, stream=stream) as progress:
        for k in range(1, 41):
            clock.now += 1
            progress(k, note=f"level {k}")
    lines = stream.getvalue().splitlines()
    assert lines == [
        "solving: 30 %, 0:00:35 left, 15 of 50 steps, level 15",
        "solving: 60 %, 0:00:20 left, 30 of 50 steps, level 30",
    ]


def test_nothing_of_what_is_done_within_fifteen_seconds_and_nothing_when_quiet(clock):
    for quiet, seconds in ((False, 14.9), (True, 1000.0)):
        stream = io.StringIO()
        with Progress("t", quiet=quiet, clock=clock, stream=stream) as progress:
            clock.now += seconds
            progress(1, 1)
            if quiet:
                progress.say("not this either")
        assert stream.getvalue() == ""


def test_a_step_that_takes_long_is_told_of_while_it_runs():
    class Noticed(io.StringIO):
        def write(self, text):
            told.set()
            return super().write(text)

    told, stream = threading.Event(), Noticed()
    with Progress("one long step", every=0.02, stream=stream) as progress:
        progress(0, 4, "the first of four")
        assert told.wait(10), "no line without a call from outside"
    before = stream.getvalue()
    assert re.match(r"one long step: 0 %, 0:00:0\d so far, the first of four\n", before)
    assert not progress._beat.is_alive()


def test_the_time_left_follows_the_pace_of_the_work_alone(clock):
    progress = Progress("t", 100, start=20, clock=clock)
    assert progress.left is None
    clock.now += 60  # preparations and the first unit
    progress(21)
    clock.now += 2
    progress(23)
    assert progress.left == pytest.approx(77)  # a second for each of the rest
    progress.skip(60)  # found finished
    assert progress.left == pytest.approx(40)
    clock.now += 10
    progress(70)
    assert progress.left == pytest.approx(30)


def test_what_is_done_never_goes_back(clock):
    progress = Progress("t", clock=clock)
    seen = []
    for done, total in ((5, 10), (1, 100), (60, 100), (3, 4), (9, 4)):
        progress(done, total)
        seen.append(progress.fraction)
    assert seen == pytest.approx([0.5, 0.5, 0.6, 0.75, 1.0])


def test_parts_fill_their_share_of_the_whole(clock):
    progress = Progress("t", 10, clock=clock)
    part = progress.part(4, 8, "batch 2")
    part(1, 2, "level 3")
    assert progress.fraction == pytest.approx(0.6) and progress.note == "batch 2, level 3"
    part(0, 0)
    part(7, 7)
    assert progress.fraction == pytest.approx(0.8) and progress.note == "batch 2"


def test_a_terminal_gets_a_bar_with_percent_and_time_left(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("solving", 4, clock=clock, stream=stream) as progress:
        clock.now += 2
        progress(1, note="level [b]1[/b]")
        clock.now += 2
        progress(2, note="level [b]2[/b]")
        progress._bar.refresh()
        progress.say("a line of its own")
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue())  # without its colours
    assert re.search(r"solving .* 50 % 0:00:04 left level \[b\]2\[/b\]", shown)
    assert "a line of its own" in shown


def test_a_closed_stream_does_not_end_the_work(clock):
    stream = io.StringIO()
    stream.close()
    with Progress("t", clock=clock, stream=stream) as progress:
        clock.now += 20
        progress(1, 2)
    assert progress.fraction == 0.5


def test_clock_time():
    assert [clock_time(s) for s in (0, 59.6, 3723)] == ["0:00:00", "0:01:00", "1:02:03"]
