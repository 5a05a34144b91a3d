"""Every exit in words and as a JSON line."""

import json

import pytest

from minihv import exits as x
from minihv.report.exitwords import exit_fields, exit_words, trace_line
from minihv.stats import SiteInfo

EXITS = [
    (x.IoIn(0x60, 1, 1, 7), {"rip": 7, "port": 0x60, "size": 1, "count": 1}),
    (x.IoOut(0x80, 2, 1, b"\x34\x12", 7), {"rip": 7, "port": 0x80, "size": 2, "count": 1, "data": "3412"}),
    (x.MmioRead(0xB8000, 4, 7), {"rip": 7, "gpa": 0xB8000, "size": 4}),
    (x.MmioWrite(0xB8000, b"\xff", 7), {"rip": 7, "gpa": 0xB8000, "data": "ff"}),
    (x.Halt(True, 7), {"rip": 7}),
    (x.Shutdown(7), {"rip": 7}),
    (x.DebugStop(0x4000, 7), {"rip": 7, "dr6": 0x4000}),
    (x.Hypercall(5, (1, 2), 7), {"rip": 7, "number": 5, "args": [1, 2]}),
    (x.MsrRead(0x10, "unknown", 7), {"rip": 7, "msr": 0x10}),
    (x.MsrWrite(0x10, 9, "unknown", 7), {"rip": 7, "msr": 0x10, "value": 9}),
    (x.SystemEvent(x.SystemEventKind.RESET, 2, 7), {"rip": 7}),
    (
        x.Fault("internal-error", "gave up", b"\xcc", 7),
        {"rip": 7, "kind": "internal-error", "message": "gave up", "instruction": "cc"},
    ),
]


@pytest.mark.parametrize(("exit", "fields"), EXITS, ids=lambda v: type(v).__name__)
def test_fields_of_each_exit(exit: x.Exit, fields: dict[str, object]) -> None:
    assert exit_fields(exit) == fields
    line = trace_line(2, exit, SiteInfo("io", "out", 0x80, 1, "post.CODE"), 1234, 56)
    assert json.loads(json.dumps(line)) == {
        "t_ns": 1234, "vcpu": 2, "exit": "io", "direction": "out", "register": "post.CODE",
        "handled_ns": 56, **fields,
    }  # fmt: skip
    assert exit_words(exit).startswith(f"{type(exit).__name__}: rip 0x7")


def test_every_kind_of_exit_is_covered() -> None:
    covered = {type(exit) for exit, _ in EXITS}
    assert covered == set(x.Exit.__args__) - {x.Interrupted, x.Idle, x.BudgetSpent}
