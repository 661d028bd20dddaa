from __future__ import annotations

import json
import math

from innverse.fitting.guard import Guard


def warmed():
    guard = Guard(factor=10, jump=2, window=32, warm=8)
    for i in range(20):
        assert guard.judge(1.0 + 0.1 * (i % 3), 1.0 + 0.2 * (i % 2)) is None
    return guard


def test_what_is_refused():
    guard = warmed()
    assert "loss is nan" in guard.judge(math.nan, 1.0)
    assert "norm is inf" in guard.judge(1.0, math.inf)
    assert "gradient norm 50" in guard.judge(1.0, 50.0)
    assert "loss 9" in guard.judge(9.0, 1.0)
    assert guard.skipped == guard.in_a_row == 4
    assert guard.judge(1.0, 1.0) is None
    assert guard.skipped == 4 and guard.in_a_row == 0


def test_a_lasting_change_of_scale_is_accepted():
    guard = warmed()
    refused = sum(guard.judge(1.0, 50.0) is not None for _ in range(40))
    assert 0 < refused < 25


def test_its_state_survives_json_exactly():
    guard, other = warmed(), Guard(factor=10, jump=2, window=32, warm=8)
    guard.judge(1.0 / 3, 0.1)
    other.load(json.loads(json.dumps(guard.state())))
    assert other.state() == guard.state()
    assert [other.judge(1, n) for n in (1.0, 11.0)] == [guard.judge(1, n) for n in (1.0, 11.0)]
