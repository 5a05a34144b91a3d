"""One row on one engine: guest `nano` on a machine of its own, so that all its exits are the row's."""

from collections.abc import Mapping
from typing import NamedTuple

from minihv.machine.config import MachineConfig
from minihv.machine.machine import Machine
from minihv.machine.outcome import REASONS
from minihv.nano.dialogue import COMMAND_PORT, Dialogue
from minihv.nano.measure import Goal
from minihv.nano.model import Cell
from minihv.nano.rows import Row
from minihv.report.model import Report

GUEST = "nano"
MEMORY = 16 << 20
GRACE_SECONDS = 20.0
"""A machine that takes this much longer than its row's time hangs."""
NOT_THE_ROWS = frozenset((COMMAND_PORT, 0xE9, 0xF8, 0x510, 0x511))
"""Ports of the dialogue and of the start: not the operation's exits."""
MOSTLY = 0.5
"""An engine that needs help with this share of the operations does not execute them itself."""


class GuestResult(NamedTuple):
    """What came of it: the cell, the rate of the guest's time-stamp counter, and what the engine is."""

    cell: Cell
    tick_hz: float
    host: Mapping[str, str]


def run_row(engine: str, row: Row, goal: Goal) -> GuestResult:
    """Run the guest for `row` on `engine`. Raises what starting a machine raises."""
    dialogue = Dialogue(row, goal)
    config = MachineConfig(
        engine=engine, cpus=row.cpus, memory=MEMORY, timeout=goal.row_ns / 1e9 + GRACE_SECONDS
    )
    with Machine(config, console=dialogue) as machine:
        machine.load(GUEST)
        machine.on_port(COMMAND_PORT, read=dialogue.command, size=4, name="nano")
        report = machine.run()
    return GuestResult(make_cell(dialogue, report), _rate(dialogue), report.host)


def _rate(dialogue: Dialogue) -> float:
    return dialogue.measured.tick_hz if dialogue.measured is not None else 0.0


def make_cell(dialogue: Dialogue, report: Report) -> Cell:
    """The cell from what the guest said and what the machine counted."""
    if dialogue.refusal:
        return Cell(why=dialogue.refusal)
    end = report.outcome
    if end.reason != "exit" or dialogue.measured is None:
        words = REASONS[end.reason][1] + (f": {end.detail}" if end.detail else "")
        return Cell(why=f"did not finish: {words}")
    measured = dialogue.measured
    operations = measured.operations
    own = [e for e in report.exits if e.address not in NOT_THE_ROWS]
    counters = {name: value / operations for name, value in report.kernel_counters.items()}
    return Cell(
        why=_helped(report, operations),
        count=measured.count,
        rounds_ns=tuple(ticks * 1e9 / measured.tick_hz for ticks in measured.rounds),
        exits=sum(e.count for e in own) / operations,
        kernel={name: value for name, value in sorted(counters.items()) if value >= 0.01},
    )


def _helped(report: Report, operations: int) -> str:
    """Words where the engine gave most of the operations up, and another one executed them."""
    helped = [e for e in report.exits if e.name == "rescued"]
    if sum(e.count for e in helped) < MOSTLY * operations:
        return ""
    instructions = " and ".join(dict.fromkeys(e.register for e in helped))
    return f"{report.engine} gives up at `{instructions}`; minihv's interpreter executes it instead"
