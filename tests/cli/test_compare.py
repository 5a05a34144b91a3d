"""`minihv compare`: every engine that works, in turn; what differs is found, and makes the status."""

import json
from pathlib import Path

import pytest
from cli_support import CANNOT_START, USAGE, Typed, assert_one_sentence, flat_guest, works

from minihv.engine.select import ENGINES

ENGINES_HERE = [name for name in ENGINES if works(name)]
NOT_EVERYWHERE_THE_SAME = bytes.fromhex("0f3166baf800c1e804247fee")
"""rdtsc; the exit status is seven bits of it."""


def test_all_engines_that_work_agree(typed: Typed) -> None:
    done = typed("compare", "add", "--runs", "2")
    assert done.err == ""
    assert done.status == 0
    table = [line.split() for line in done.out.splitlines()]
    assert ENGINES_HERE in table
    assert ["outcome", *["exit", "0"] * len(ENGINES_HERE)] in table
    assert ["exits", *["11"] * len(ENGINES_HERE)] in table
    assert "Again: minihv compare add --runs 2" in done.out


def test_json(typed: Typed) -> None:
    done = typed("compare", "hello", "--runs", "1", "--json")
    told = json.loads(done.out)
    assert told["schema"] == "minihv.compare/1"
    assert told["equal"] is True
    assert [row["engine"] for row in told["engines"]] == ENGINES_HERE
    for row in told["engines"]:
        assert row["console"]["text"] == "Hello from long mode!\n"
        assert row["outcome"] == {"reason": "exit", "status": 0, "detail": ""}
        assert row["exits"] == {"io": 23}
        assert row["ratio"] >= 1
    assert min(row["ratio"] for row in told["engines"]) == 1
    assert len(told["sentences"]) == 2


def test_one_engine_by_name(typed: Typed) -> None:
    done = typed("compare", "add", "--runs", "1", "--engines", ENGINES_HERE[-1])
    assert done.status == 0
    assert "the only engine in this comparison" in done.out


def test_a_guest_that_is_never_the_same_is_found_out(typed: Typed, tmp_path: Path) -> None:
    arguments = flat_guest(tmp_path, NOT_EVERYWHERE_THE_SAME)[1:]
    done = typed("compare", *arguments, "--runs", "20", "--engines", ENGINES_HERE[0])
    assert done.status == 1
    assert "did NOT do the same in each run" in done.out


def test_what_is_typed_reaches_every_run(typed: Typed, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(b"same\r")
    code = b"\x66\xba\xf8\x03\xec\x66\xba\xf8\x00\xee"  # in al, COM1; out exit, al
    told = json.loads(
        typed(
            "compare", *flat_guest(tmp_path, code)[1:], "--serial-input", str(keys), "--runs", "1", "--json"
        ).out
    )
    assert [row["outcome"]["status"] for row in told["engines"]] == [ord("s")] * len(ENGINES_HERE)


@pytest.mark.parametrize(
    ("arguments", "status", "tells"),
    [
        (("add", "--engines", "abacus"), USAGE, ("'abacus'", ENGINES_HERE[0])),
        (("add", "--runs", "0"), USAGE, ("runs", "1")),
        (("no-such-guest",), CANNOT_START, ("no-such-guest", "minihv guests")),
        ((), USAGE, ("GUEST",)),
    ],
)
def test_wrong_usage(typed: Typed, arguments: tuple[str, ...], status: int, tells: tuple[str, ...]) -> None:
    done = typed("compare", *arguments)
    assert_one_sentence(done, status, tells)


def test_a_guest_that_never_ends_is_ended_alike(typed: Typed) -> None:
    done = typed("compare", "spin", "--timeout", "0.2", "--runs", "1")
    assert done.status == 0
    assert "timeout 244" in done.out


def test_engines_without_a_place_here_are_named() -> None:
    from minihv.machine.lineup import working_engines

    names, passed_over = working_engines()
    assert names == ENGINES_HERE
    assert len(passed_over) == len(ENGINES) - len(ENGINES_HERE)
