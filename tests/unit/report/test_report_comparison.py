"""Comparisons: what counts as a difference and where it is, medians, the sentences."""

import pytest

from minihv.report.comparewords import aligned, comparison_table, comparison_text, listed, sentences
from minihv.report.comparison import Column, Comparison, Run, first_difference, median
from minihv.report.model import OutcomeReport, Report, VcpuReport


def a_run(
    engine: str, wall: int, console: bytes = b"hi\n", status: int = 0, kvm: str = "", instructions: int = 0
) -> Run:
    host = {"cpu": "Z80", "kernel": "6.1", "python": "3.11", "kvm": kvm}
    if kvm:
        host["kvm_words"] = f"{kvm}, in words"
    report = Report(
        engine=engine,
        host=host,
        guest={"name": "guest"},
        outcome=OutcomeReport("exit", status),
        wall_ns=wall,
        vcpus=(VcpuReport(0, 0, 0, wall * 3 // 4, wall // 4, instructions),),
        exits=(),
        kernel_counters={"still": 0, "moved": 7},
    )
    return Run(report, console)


def a_comparison(*columns: Column) -> Comparison:
    return Comparison("guest", columns)


@pytest.mark.parametrize(("values", "middle"), [([3], 3), ([3, 1, 2], 2), ([1, 4], 2), ([9, 1, 2, 5], 3)])
def test_median(values: list[int], middle: int) -> None:
    assert median(values) == middle


@pytest.mark.parametrize(
    ("a", "b", "at"),
    [(b"", b"", 0), (b"abc", b"abd", 2), (b"ab", b"abc", 2), (b"abc", b"ab", 2), (b"x", b"y", 0)],
)
def test_the_first_difference(a: bytes, b: bytes, at: int) -> None:
    assert first_difference(a, b) == at


def test_the_same_everywhere() -> None:
    same = a_comparison(
        Column("one", (a_run("one", 2_000_000), a_run("one", 4_000_000))),
        Column("two", (a_run("two", 9_000_000, instructions=5), a_run("two", 9_000_000, instructions=5))),
    )
    assert same.equal
    assert same.differences == ()
    assert same.fastest.engine == "one"
    assert same.ratio(same.columns[1]) == 3.0
    told, cost = sentences(same)
    assert told == (
        "guest did the same on one and two: exit, status 0, the same 3 bytes on the console, "
        "and the same 0 exits."
    )
    assert cost == (
        "one was the fastest with 3.00 ms, two took 3.0 times as long (9.00 ms); "
        "25 % of one's time was minihv answering exits."
    )


def test_a_console_that_differs_is_shown_where_it_does() -> None:
    different = a_comparison(
        Column("one", (a_run("one", 1, b"first\nsecond \x1b[31m\n"),)),
        Column("two", (a_run("two", 1, b"first\nsecond \x07\n"),)),
    )
    [difference] = different.differences
    assert (difference.what, difference.line, difference.column) == ("console", 2, 8)
    assert difference.expected == r"'second \x1b[31m\n'"
    assert difference.found == r"'second \x07\n'"
    assert "\x1b" not in comparison_text(different)
    assert "did NOT do the same everywhere" in sentences(different)[0]


def test_a_console_that_ends_early() -> None:
    different = a_comparison(
        Column("one", (a_run("one", 1, b"ab\ncd"),)), Column("two", (a_run("two", 1, b"ab\n"),))
    )
    assert str(different.differences[0]) == (
        "console of two, run 1 at line 2, column 1: expected 'cd', found '' (the end)"
    )


def test_an_engine_that_does_not_agree_with_itself() -> None:
    different = a_comparison(Column("one", (a_run("one", 1), a_run("one", 1, status=3))))
    assert [(d.run, d.what, d.expected, d.found) for d in different.differences] == [
        (2, "outcome", "exit 0", "exit 3")
    ]
    assert "did NOT do the same in each run on one" in sentences(different)[0]


def test_kvm_without_hardware_is_said_loudly() -> None:
    def text(kind: str) -> str:
        return comparison_text(a_comparison(Column("kvm", (a_run("kvm", 1, kvm=kind),))))

    assert "ATTENTION, NOT VT-X OR AMD-V! kvm here is pvm, in words" in text("pvm")
    assert "ATTENTION" not in text("vt-x")
    assert "kvm here is vt-x, in words" in text("vt-x")


def test_numbers_that_an_engine_does_not_have() -> None:
    table = comparison_table(
        a_comparison(Column("one", (a_run("one", 1),)), Column("two", (a_run("two", 1, instructions=1234),)))
    )
    [row] = [line.split() for line in table if line.startswith("guest instructions")]
    assert row == ["guest", "instructions", "not", "counted", "1234"]
    assert any(line.split() == ["moved", "7", "7"] for line in table)
    assert not any("still" in line for line in table)


def test_columns_are_aligned() -> None:
    assert aligned([("a", ["1", "x" * 14]), ("long", ["22", "y"])]) == [
        "a                1  xxxxxxxxxxxxxx",
        "long            22               y",
    ]


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_a_list_in_words(words: list[str], text: str) -> None:
    assert listed(words) == text


def test_the_json_form_has_the_keys_that_are_documented() -> None:
    import json

    from minihv.report import comparison

    told = json.loads(json.dumps(a_comparison(Column("one", (a_run("one", 5, b"\xff"),))).to_dict()))
    assert told["schema"] == comparison.SCHEMA == "minihv.compare/1"
    for key in [*told, *told["engines"][0]]:
        assert key in (comparison.__doc__ or ""), key
    assert told["engines"][0]["console"]["text"] == "\\xff"
    assert told["engines"][0]["instructions"] is None
