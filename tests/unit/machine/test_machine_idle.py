"""Two rounds in a row with everybody idle end a machine; nothing less does."""

from minihv.machine.idle import IdleRounds


def test_one_cpu_needs_two_rounds() -> None:
    idle = IdleRounds(1)
    idle.begin()
    assert not idle.report(0)
    idle.begin()
    assert idle.report(0)


def test_an_answer_counts_once_a_round() -> None:
    idle = IdleRounds(1)
    idle.begin()
    assert not idle.report(0)
    assert not idle.report(0)
    assert not idle.report(0)


def test_all_cpus_must_answer_in_each_of_two_rounds() -> None:
    idle = IdleRounds(3)
    for expected in (False, True):
        idle.begin()
        assert not idle.report(2)
        assert not idle.report(0)
        assert idle.report(1) is expected


def test_a_round_that_is_not_full_starts_over() -> None:
    idle = IdleRounds(2)
    idle.begin()
    idle.report(0)
    idle.report(1)
    idle.begin()
    idle.report(0)  # CPU 1 was busy
    idle.begin()
    idle.report(0)
    assert not idle.report(1)
    idle.begin()
    idle.report(1)
    assert idle.report(0)


def test_parked_cpus_count_as_idle_for_ever() -> None:
    idle = IdleRounds(2)
    assert not idle.park(1)
    idle.begin()
    assert not idle.report(0)
    idle.begin()
    assert idle.report(0)


def test_the_last_cpu_that_parks_ends_it_at_once() -> None:
    idle = IdleRounds(2)
    assert not idle.park(0)
    assert not idle.park(0)
    assert idle.park(1)
