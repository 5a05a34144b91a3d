"""The guest's questions and lines; and the rows, which the guest knows by number."""

from pathlib import Path

import pytest

from minihv.nano.dialogue import END, MAX_LINE, Dialogue, parse
from minihv.nano.measure import Goal
from minihv.nano.rows import ROWS, find_row

GUEST = Path(__file__).parent.parent.parent.parent / "guests" / "nano.S"
GOAL = Goal(1000, 3, 10**12)


def dialogue() -> Dialogue:
    ticks = iter(range(0, 10**9, 1000))
    row = find_row("cpuid")
    assert row is not None
    return Dialogue(row, GOAL, lambda: next(ticks))


def test_rows_and_guest_agree() -> None:
    source = GUEST.read_text()
    table = source[source.index("\nrows:\n") : source.index("\nrows_end:")]
    told = [line.split('"') for line in table.splitlines() if line.strip().startswith("ROW ")]
    names = [parts[1] for parts in told]
    rings = [int(parts[2].split(",")[1]) for parts in told]
    assert names == [row.name for row in ROWS]
    assert rings == [row.ring for row in ROWS]
    assert [row.number for row in ROWS] == list(range(1, len(ROWS) + 1))


def test_row_and_count_by_turns_then_the_end() -> None:
    talk = dialogue()
    asked = []
    while (number := talk.command()) != END:
        asked.append((number, talk.command()))
        now = 1000 * len(asked)
        talk.write(f"cpuid {asked[-1][1]} {600 * asked[-1][1]} 100 {now}\n".encode())
    assert {row for row, _ in asked} == {talk.row.number}
    assert talk.measured is not None
    assert talk.measured.operations == sum(count for _, count in asked)
    assert talk.command() == END


def test_a_refusal_ends_it() -> None:
    talk = dialogue()
    assert talk.command() == talk.row.number
    talk.command()
    talk.write(b"cpuid ! ended in")
    assert not talk.over
    talk.write(b" #UD\n")
    assert talk.refusal == "ended in #UD"
    assert talk.command() == END


@pytest.mark.parametrize(
    "line",
    [
        b"in 1 2 3 4\n", b"cpuid 1 2 3\n", b"cpuid 2 2 3 4\n", b"cpuid 1 x 3 4\n", b"\n", b"cpuid 1 -2 3 4\n",
        b"\xff" * (MAX_LINE + 1),
    ],
)  # fmt: skip
def test_anything_else_is_refused(line: bytes) -> None:
    talk = dialogue()
    talk.command()
    talk.command()
    with pytest.raises(ValueError, match="expected"):
        talk.write(line)


def test_parse() -> None:
    assert parse("1 2 3 4 5") == (1, 2, 3, 4, 5)
    assert parse("0 2 3 4 5") is None
    assert parse("1 2 3 4 ٥") is None
    assert parse("! nobody may") is None
