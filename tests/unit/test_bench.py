"""The benchmarks' arithmetic and guests; that one benchmark works from end to end. No timing is asserted."""

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from benchlib.guests import COM1, LOAD_GPA, MARK_PORT, PLAIN_EXIT, out_loop, out_loop_exits, pvh_hello
from benchlib.result import Claim, Result, number
from benchlib.sample import Series, difference, interleave, ratio, series
from benchlib.start import parse_import
from benchlib.worker import RunClock

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def test_a_series_tells_its_median_range_and_spread() -> None:
    s = Series("x", "ms", (4.0, 1.0, 2.0))
    assert (s.median, s.low, s.high, s.spread) == (2.0, 1.0, 4.0, 1.5)
    assert Series("x", "ms", (1.0, 3.0)).median == 2.0
    assert s.to_dict()["values"] == [4.0, 1.0, 2.0]


def test_a_series_of_zeros_has_no_spread() -> None:
    assert Series("x", "ms", (0.0, 0.0)).spread == 0.0


def test_an_empty_series_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one measurement of start"):
        Series("start", "ms", ())


def test_series_converts_units() -> None:
    assert series("x", "ms", [2_000_000, 1_000_000], 1e-6).values == (2.0, 1.0)


def test_ratios_and_differences_are_taken_round_by_round() -> None:
    over, under = Series("a", "ms", (2.0, 30.0, 4.0)), Series("b", "ms", (1.0, 10.0, 1.0))
    assert ratio("a / b", over, under).values == (2.0, 3.0, 4.0)
    assert difference("a - b", over, under).values == (1.0, 20.0, 3.0)


def test_a_ratio_of_different_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="found 2 and 1"):
        ratio("a / b", Series("a", "ms", (1.0, 2.0)), Series("b", "ms", (1.0,)))


@pytest.mark.parametrize(("warm_up", "first"), [(True, "ab"), (False, "")])
def test_contestants_take_turns(warm_up: bool, first: str) -> None:
    order: list[str] = []

    def contestant(name: str) -> Callable[[], int]:
        def measure() -> int:
            order.append(name)
            return len(order)

        return measure

    taken = interleave(3, {"a": contestant("a"), "b": contestant("b")}, warm_up)
    assert "".join(order) == first + "ababab"
    start = len(first)
    assert taken == {"a": [start + 1, start + 3, start + 5], "b": [start + 2, start + 4, start + 6]}


def test_a_claim_holds_up_to_its_target() -> None:
    assert Claim("x", 2.5, "us", 2.5).holds is True
    assert Claim("x", 2.6, "us", 2.5).holds is False
    assert Claim("x", 2.6, "us").holds is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.0237, "0.0237"), (7.549, "7.55"), (114.44, "114.4"), (1234.5, "1234"), (0.0, "0")]
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_a_result_says_what_is_missing_and_what_was_missed() -> None:
    result = Result("exits", "port writes", missing=["gcc is not installed"])
    result.series.append(Series("minihv", "us", (1.0, 2.0, 3.0)))
    result.claims += [Claim("ratio", 1.3, "x", 1.25), Claim("time", 2.0, "us", 2.5), Claim("other", 1.0, "x")]
    text = "\n".join(result.lines())
    assert "not measured: gcc is not installed" in text
    assert "MISSED ratio: 1.3 x (target: at most 1.25)" in text
    assert "holds time: 2 us (target: at most 2.5)" in text
    assert "-  other: 1 x" in text
    assert [c["holds"] for c in result.to_dict()["claims"]] == [False, True, None]  # type: ignore[attr-defined]


def test_the_out_loop_ends_with_its_table() -> None:
    image = out_loop(3, 70_000)
    assert image.endswith(struct.pack("<3I", 3, 70_000, 0))
    assert struct.unpack_from("<I", image, 2) == (LOAD_GPA + len(image) - 12,)
    assert out_loop_exits(3, 70_000) == 70_006


@pytest.mark.parametrize("batches", [(5,), (1, 4)])
def test_the_out_loop_makes_the_exits_it_says(batches: tuple[int, ...]) -> None:
    from minihv import Machine, MachineConfig

    config = MachineConfig(engine="interpret", memory=4 << 20, format="flat32", serial="null", timeout=20)
    with Machine(config) as machine:
        report = machine.load(out_loop(*batches)).run()
    assert (report.outcome.reason, report.outcome.status) == ("exit", 0)
    assert {e.address: e.count for e in report.exits} == {
        COM1: sum(batches),
        MARK_PORT: len(batches),
        PLAIN_EXIT: 1,
    }


def test_the_pvh_twin_prints_what_it_was_given() -> None:
    from minihv import Machine, MachineConfig

    with Machine(MachineConfig(engine="interpret", memory=4 << 20, timeout=20)) as machine:
        report = machine.load(pvh_hello(b"ho\n")).run()
        assert machine.console == b"ho\n"
    assert report.guest["format"] == "pvh"
    assert (report.outcome.reason, report.outcome.status) == ("exit", 0)


def test_the_run_clock_counts_only_the_gaps_between_runs() -> None:
    seen: list[tuple[int, ...]] = []
    clock = RunClock(lambda *arguments: seen.append(arguments))
    for request in (1, 0xAE80, 2, 0xAE80, 0xAE80):
        clock(7, request)
    assert clock.gaps == 2
    assert clock.outside_ns > 0
    assert [arguments[1] for arguments in seen] == [1, 0xAE80, 2, 0xAE80, 0xAE80]


def test_import_times_are_told_from_other_lines() -> None:
    assert parse_import("import time:       250 |       1250 |   click.core") == (250, 1250, "click.core")
    assert parse_import("import time: self [us] | cumulative | imported package") is None
    assert parse_import("Hello from long mode!") is None


@pytest.mark.parametrize("rounds", ["0", "-1", "two", ""])
def test_a_wrong_number_of_rounds_is_a_usage_error(rounds: str) -> None:
    done = subprocess.run([BENCH, "--rounds", rounds], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected 1 or more rounds" in done.stderr or "expected one argument" in done.stderr


@pytest.mark.kvm
def test_a_benchmark_works_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    command = [str(BENCH), "--only", "first-exit", "--rounds", "1", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "first exit" in done.stdout
    found = json.loads(file.read_text())
    assert found["schema"] == "minihv.bench/1"
    assert found["machine"]["kvm"]
    [first] = found["benchmarks"]
    assert first["name"] == "first-exit"
    assert first["missing"] == []
    assert len(first["series"][0]["values"]) == 4
    assert first["claims"][0]["value"] > 0
