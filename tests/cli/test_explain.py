"""`minihv explain`: what every engine does with one instruction, from real values."""

import json
from typing import Any

import pytest
from cli_support import USAGE, Typed, assert_one_sentence, works

from minihv.engine.select import ENGINES

ENGINES_HERE = [name for name in ENGINES if works(name)]
needs_interpreter = pytest.mark.skipif(not works("interpret"), reason="the interpreter cannot work here")


def explained(typed: Typed, *arguments: str) -> dict[str, Any]:
    done = typed("explain", *arguments, "--json")
    assert done.status == 0, done.err
    told: dict[str, Any] = json.loads(done.out)
    assert told["schema"] == "minihv.explain/1"
    return told


def test_no_engine_needs_help_for_the_add(typed: Typed) -> None:
    told = explained(typed, "add")
    [instruction] = told["instructions"]
    assert instruction["symbol"] == "the_add"
    assert (instruction["code"], instruction["text"]) == ("01d8", "add eax, ebx")
    assert instruction["changes"] == "eax: 0x1 -> 0x3, ebx: 0x2"
    assert instruction["mark"] == ""
    assert [row["engine"] for row in told["engines"]] == ENGINES_HERE
    for row in told["engines"]:
        assert row["exits"] == [[]]
        assert row["before"] is None
        assert (row["after"]["symbol"], row["after"]["detail"]) == ("the_out", "out 0x3f8 byte serial.THR")
        assert row["after"]["value"] == "<- 0x31 '1'"
        assert row["after"]["samples"] == 10
        assert row["after"]["mean_ns"] > 0
    assert told["disagreements"] == []


def test_the_out_leaves_the_guest_on_every_engine(typed: Typed) -> None:
    told = explained(typed, "add", "--at", "the_out")
    assert told["instructions"][0]["mark"].startswith("I/O-sensitive: ")
    for row in told["engines"]:
        [[path]] = row["exits"]
        assert (path["name"], path["detail"]) == ("io", "out 0x3f8 byte serial.THR")
        assert path["symbol"] == "the_out"


@needs_interpreter
def test_the_interpreter_tells_its_steps(typed: Typed) -> None:
    told = explained(typed, "add", "--engines", "interpret")
    [row] = told["engines"]
    assert [line.split()[1] for line in row["stories"][0]] == [
        "fetch", "decode", "operands", "execute", "write"
    ]  # fmt: skip
    text = "\n".join(row["stories"][0])
    assert "2 bytes 01 d8 at GVA 0x10000a -> GPA 0x10000a" in text
    assert "ADD r/m32, r32" in text
    assert "eax = 0x1, ebx = 0x2" in text
    assert "eax = 0x3; flags CF=0 PF=1 AF=0 ZF=0 SF=0 OF=0" in text
    assert "rip = 0x10000c" in text


@needs_interpreter
def test_a_loop_that_ends_the_machine(typed: Typed) -> None:
    told = explained(typed, "triple", "--count", "20", "--engines", "interpret")
    assert len(told["instructions"]) == 20
    told = explained(typed, "add", "--at", "done", "--count", "50", "--engines", "interpret")
    assert told["instructions"][-1]["text"] == "out 0xf8, al"
    assert told["engines"][0]["after"] is None


@needs_interpreter
def test_real_mode_addresses_are_linear(typed: Typed) -> None:
    told = explained(typed, "hello16", "--at", "0x7c00", "--engines", "interpret")
    assert told["instructions"][0]["address"] == 0x7C00


@pytest.mark.kvm
@needs_interpreter
def test_engines_agree_on_a_guest_with_paging_and_calls(typed: Typed) -> None:
    told = explained(typed, "ring3", "--count", "40")
    assert len(told["instructions"]) == 40
    assert told["disagreements"] == []


def test_the_text_form(typed: Typed) -> None:
    done = typed("explain", "add")
    assert "0x10000a <the_add>:  01 d8  add eax, ebx" in done.out
    assert "-> bus: out 0x3f8 byte serial.THR <- 0x31 '1' -> back to the guest" in done.out
    assert done.out.endswith("Again: minihv explain add\n")


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (("add", "--at", "nowhere"), ("'nowhere'", "symbol")),
        (("add", "--at", "0x5"), ("0x5", "no engine reached")),
        (("hello16", "--at", "main"), ("'main'", "no symbols")),
        (("add", "--count", "0"), ("count", "1")),
        (("add", "--engines", "abacus"), ("'abacus'",)),
    ],
)
def test_wrong_usage(typed: Typed, arguments: tuple[str, ...], tells: tuple[str, ...]) -> None:
    assert_one_sentence(typed("explain", *arguments), USAGE, tells)
