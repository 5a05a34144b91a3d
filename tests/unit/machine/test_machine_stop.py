"""The first reason wins, everybody is told once, and nobody waits for a lock."""

import threading

import pytest

from minihv.machine.outcome import REASONS, outcome
from minihv.machine.stop import Stop


def test_the_first_reason_wins_and_listeners_hear_once() -> None:
    heard: list[str] = []
    stop = Stop()
    stop.listen(lambda: heard.append("a"))
    stop.listen(lambda: heard.append("b"))
    stop(outcome("timeout"))
    stop(outcome("exit", 5))
    assert stop.outcome == outcome("timeout")
    assert heard == ["a", "b"]


def test_a_stop_out_of_a_listener_does_not_dead_lock() -> None:
    """As when a signal handler runs while its own thread is stopping the machine."""
    stop = Stop()
    stop.listen(lambda: stop(outcome("sigterm")))
    stop(outcome("timeout"))
    assert stop.outcome == outcome("timeout")


def test_of_many_threads_one_wins() -> None:
    stop, heard = Stop(), []
    stop.listen(lambda: heard.append(1))
    start = threading.Barrier(8)

    def race(status: int) -> None:
        start.wait()
        stop(outcome("exit", status))

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [1]
    assert stop.outcome is not None
    assert stop.outcome.status in range(8)


def test_reasons_have_a_status_and_words() -> None:
    assert outcome("triple-fault").status == 242
    assert outcome("exit", 3, "why") == ("exit", 3, "why")
    assert all(0 <= status <= 255 and words for status, words in REASONS.values())
    with pytest.raises(KeyError):
        outcome("no such reason")
