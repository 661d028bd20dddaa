from __future__ import annotations

import io

import numpy as np

from innverse.report import Table


def table():
    t = Table(["name", "PSNR", "ok"], title="A | [bold]b[/]", best={"PSNR": "max"})
    t.add("tv|x", 28.125, True)
    t.add("flow", np.float32(30.5), False)
    t.add("none", None, None)
    return t


def test_markdown():
    assert table().markdown() == (
        "**A \\| [bold]b[/]**\n\n"
        "| name  |      PSNR | ok  |\n"
        "| ----- | --------: | --- |\n"
        "| tv\\|x |     28.12 | yes |\n"
        "| flow  | **30.50** | no  |\n"
        "| none  |         – | –   |\n"
    )


def test_terminal_shows_text_as_it_is_and_never_cuts(capsys):
    wide = Table([f"column {i}" for i in range(20)], [[f"value {i} [red]" for i in range(20)]])
    buffer = io.StringIO()
    wide.print(buffer)
    assert all(f"value {i} [red]" in buffer.getvalue() for i in range(20))
    table().print()
    out = capsys.readouterr().out
    assert "[bold]b[/]" in out and "30.50" in out and "28.12" in out


def test_best_ignores_nan_and_marks_ties():
    t = Table(["s"], [[float("nan")], [1.0], [2], [1.0]], best={"s": "min"})
    assert [t.is_best(r, 0) for r in range(4)] == [False, True, False, True]


def test_digits_and_integers():
    assert Table(["a"], digits=3).text(0.12345) == "0.123" and Table(["a"]).text(7) == "7"


def test_written_numbers_are_numbers_and_words_for_none_do_not_matter():
    rows = [["6.335", "+0.50", "none", "2 %", "5.4e-07", "2.1 ± 0.3", "4.2"]]
    rows += [[None, "-0.5", "none", "95 %", "none", "1 ± 2", "16x16"]]
    t = Table([str(k) for k in range(7)], rows)
    assert [t.is_numeric(c) for c in range(7)] == [True, True, False, True, True, True, False]
