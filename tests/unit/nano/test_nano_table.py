"""The table, the sentences under it, and the JSON form."""

import json

import pytest
from nano_subject import cell, report

from minihv.nano.measure import Spread
from minihv.nano.model import NO_WAY, SCHEMA, Cell
from minihv.nano.notes import notes
from minihv.nano.numbers import cycles_words, exits_words, spread_words
from minihv.nano.table import nano_table

TWO = {
    "syscall": {"native": cell(300.0), "kvm": Cell("SYSCALL stays in ring 3 here")},
    "in": {"native": Cell(NO_WAY), "kvm": cell(20_000.0, 21_000.0, 22_000.0, exits=1.0)},
    "ipi": {"native": Cell(NO_WAY), "kvm": cell(1234.0)},
}


def line(text: str, name: str) -> list[str]:
    [found] = [row.split() for row in text.splitlines() if row.startswith(f"{name} ") and ":" not in row]
    return found


def test_lines_have_measured_and_published_columns() -> None:
    text = nano_table(report(TWO))
    assert line(text, "operation") == ["operation", "ring", "native", "kvm", "native", "software", "hardware"]
    assert line(text, "in") == ["in", "0", "-", "21,000", "±1,000", "3209", "~214", "15826"]
    assert line(text, "syscall")[:6] == ["syscall", "3", "300", "±0.0", "-", "base"]
    assert line(text, "ipi") == ["ipi", "0", "-", "1,234", "±0.0", "-", "-", "-"]
    assert text.rstrip().endswith("Again: minihv nano")


def test_columns_stand_below_each_other() -> None:
    lines = nano_table(report(TWO)).splitlines()
    start = next(i for i, row in enumerate(lines) if row.startswith("operation"))
    assert len({len(row) for row in lines[start : start + 4]}) == 1


@pytest.mark.parametrize(
    ("kind", "loud"), [("pvm", True), ("nested vt-x", True), ("vt-x", False), ("amd-v", False), ("", False)]
)
def test_which_kvm_is_said_loudly(kind: str, loud: bool) -> None:
    found = report(TWO, kvm=kind, kvm_words="a strange one")
    first = nano_table(found).splitlines()[0]
    assert first.startswith("!! THIS KVM IS NOT BARE") == loud
    assert (found.warning in notes(found)) == loud


def test_why_there_is_no_number() -> None:
    told = notes(report(TWO))
    assert "kvm, no number for syscall: SYSCALL stays in ring 3 here" in told
    assert not any(f"no number for in, ipi: {NO_WAY}" in note for note in told)


def test_an_engine_that_was_passed_over() -> None:
    found = report(TWO)._replace(passed_over={"translate": "it is not there yet"})
    assert "engine translate was passed over: it is not there yet" in notes(found)


def test_the_cost_of_going_to_user_space() -> None:
    rows = {
        "inl_from_kernel": {"one": cell(1000.0), "two": cell(500.0, exits=1.0)},
        "inl_from_user": {"one": cell(5000.0, exits=1.0), "two": cell(600.0, exits=1.0)},
    }
    told = "\n".join(notes(report(rows)))
    assert "one: going on to minihv for a port costs 4,000 cycles more" in told
    assert "two: both inl rows go to minihv" in told
    assert "one: exits to minihv for each operation: inl_from_user 1; none for inl_from_kernel" in told


def test_a_ring_that_does_not_run_on_the_processor() -> None:
    rows = {
        "call/ret": {"a": cell(9000.0), "b": cell(3.0)},
        "call/ret_user": {"a": cell(3.0), "b": cell(3.0)},
    }
    told = "\n".join(notes(report(rows)))
    assert (
        "a: the same call and return costs 9,000 cycles in the guest's ring 0 and 3.0 in its ring 3" in told
    )
    assert "b: the same call" not in told


@pytest.mark.parametrize(("cycles", "virtual"), [(9000.0, True), (150.0, False)])
def test_a_host_that_is_a_virtual_machine_is_told_by_cpuid(cycles: float, virtual: bool) -> None:
    told = "\n".join(notes(report({"cpuid": {"native": cell(cycles)}})))
    assert ("this host is itself a virtual machine" in told) == virtual


def test_json_form() -> None:
    data = json.loads(json.dumps(report(TWO).to_dict()))
    assert data["schema"] == SCHEMA == "minihv.nano/1"
    assert data["subjects"] == ["native", "kvm"]
    by_name = {row["name"]: row for row in data["rows"]}
    assert by_name["in"]["published"] == {"native": "3209", "software": "~214", "hardware": "15826"}
    measured = by_name["in"]["cells"]["kvm"]
    assert measured["cycles"] == {"median": 21000.0, "mad": 1000.0, "min": 20000.0, "max": 22000.0}
    assert measured["exits"] == 1.0
    refused = by_name["syscall"]["cells"]["kvm"]
    assert (refused["cycles"], refused["why"]) == (None, "SYSCALL stays in ring 3 here")


def test_numbers_in_words() -> None:
    assert [cycles_words(v) for v in (-3.0, 0.0, 2.84, 99.0, 12345.6)] == [
        "~0",
        "~0",
        "2.8",
        "99.0",
        "12,346",
    ]
    assert spread_words(Spread(1500.0, 3.21, 0.0, 0.0)) == "1,500 ±3.2"
    assert [exits_words(v) for v in (0.0, 1.0, 1.625)] == ["0", "1", "1.62"]
