"""The method: doubling, two slow loops in a row, the empty loop subtracted, medians, time limits."""

import pytest
from nano_subject import HZ, run

from minihv.nano.measure import LEAST_ROUNDS, Goal, measure, spread

GOAL = Goal(1_000_000, 9, 10_000_000_000)


def test_counts_double_until_the_loop_is_long_enough() -> None:
    measured, asked = run(measure(GOAL), lambda _: 100.0)
    # 1 ms at 2 GHz is 2,000,000 ticks, an iteration takes 102: 2**15 are the first that suffice.
    assert measured.count == 1 << 15
    doubling = asked[1 : asked.index(1 << 15)]
    assert doubling == [1 << i for i in range(15)]
    assert asked[-GOAL.rounds :] == [1 << 15] * GOAL.rounds
    assert measured.operations == sum(asked)


def test_the_empty_loop_does_not_count() -> None:
    measured, _ = run(measure(GOAL), lambda _: 7.0, empty=1000.0)
    assert spread(measured.rounds).median == pytest.approx(7.0)


def test_one_slow_loop_is_no_proof() -> None:
    measured, _ = run(measure(GOAL), lambda answer: 5_000_000.0 if answer == 3 else 100.0)
    assert measured.count == 1 << 15


def test_a_median_does_not_mind_an_outlier() -> None:
    measured, asked = run(measure(GOAL), lambda _: 50.0)
    last = len(asked) - 1
    with_outlier, _ = run(measure(GOAL), lambda answer: 50_000.0 if answer == last else 50.0)
    found = spread(with_outlier.rounds)
    assert found.median == pytest.approx(spread(measured.rounds).median)
    assert found.mad == pytest.approx(0.0)
    assert found.most > 999 * found.least


def test_a_slow_operation_is_done_once_a_round_and_not_for_ever() -> None:
    goal = Goal(1_000_000, 100, 1_000_000_000)
    measured, _ = run(measure(goal), lambda _: 0.2 * HZ)
    assert measured.count == 1
    assert len(measured.rounds) == LEAST_ROUNDS


def test_doubling_ends_where_the_time_of_the_row_does() -> None:
    goal = Goal(10**12, 3, 2_000_000)
    measured, _ = run(measure(goal), lambda _: 100.0)
    assert 1 < measured.count < 1 << 20


def test_the_rate_is_the_host_clocks() -> None:
    measured, _ = run(measure(GOAL), lambda _: 100.0)
    assert measured.tick_hz == pytest.approx(HZ, rel=1e-3)


def test_spread_of_few_values() -> None:
    assert spread((4.0,)) == (4.0, 0.0, 4.0, 4.0)
    assert spread((1.0, 2.0, 10.0)) == (2.0, 1.0, 1.0, 10.0)
