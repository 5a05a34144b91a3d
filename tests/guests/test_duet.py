"""The duet with as many CPUs as it has stacks for."""

import pytest
from expectations import expectation
from test_guests import every_engine, run

BEATS = 15


@every_engine
@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
def test_everybody_plays_every_beat_in_turn(engine: str, cpus: int) -> None:
    console, report = run(engine, expectation("duet"), cpus)

    beats = [f"cpu {cpu} beat {beat}" for beat in range(1, BEATS + 1) for cpu in range(cpus)]
    assert console.splitlines() == [*beats, "the PIT ticks on"]
    assert (report.outcome.reason, report.outcome.status) == ("exit", 0)
    assert len(report.vcpus) == cpus


@every_engine
def test_more_cpus_than_stacks(engine: str) -> None:
    console, report = run(engine, expectation("duet"), 5)

    assert console == "more CPUs than this guest has stacks for\n"
    assert report.outcome.status == 1
