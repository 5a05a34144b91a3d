"""Integer instructions against results recorded from a real processor (AMD EPYC, family 19h).

`recorded_integer.json`: [text, bytes, (RAX, RCX, RDX, RBX, RFLAGS) before, 64 bytes of memory before, the
same five after, (RSI, RDI) after relative to the memory, memory after where it changed]. Memory lies at
0x9000 with RSI 16 and RDI 32 into it. Flags that the manual leaves undefined are compared too: the
interpreter promises what current processors of its vendor do.
"""

import json
from pathlib import Path

import pytest
from lab import Lab, long_mode, map_identity

from minihv.exits import BudgetSpent

MEMORY, CODE = 0x9000, 0x8000
FLAGS = 0x8D5

_rows = json.loads(Path(__file__).with_name("recorded_integer.json").read_text())
_by_text: dict[str, list[list[object]]] = {}
for _row in _rows:
    _by_text.setdefault(_row[0], []).append(_row[1:])


@pytest.fixture(scope="module")
def lab() -> Lab:
    made = Lab()
    map_identity(made)
    return made


@pytest.mark.parametrize("text", _by_text)
def test_as_recorded(lab: Lab, text: str) -> None:
    for code, before, memory, after, pointers, memory_after in _by_text[text]:
        raw = bytes.fromhex(str(code))
        lab.ram[CODE : CODE + len(raw)] = raw
        lab.ram[MEMORY : MEMORY + 64] = bytes.fromhex(str(memory))
        state = long_mode()
        state.rip = CODE
        assert isinstance(before, list)
        assert isinstance(after, list)
        *registers, flags = (int(value, 16) for value in before)
        for n, value in zip((0, 1, 2, 3), registers, strict=True):
            state.gpr[n] = value
        state.gpr[6], state.gpr[7] = MEMORY + 16, MEMORY + 32
        state.rflags = flags
        lab.vcpu.set_state(state)
        assert isinstance(lab.run(1), BudgetSpent)
        found = [hex(lab.cpu.r[n]) for n in range(4)] + [hex(lab.cpu.arith() & FLAGS)]
        assert found == after, (before, code)
        assert [lab.rsi - MEMORY, lab.rdi - MEMORY] == pointers
        assert lab.ram[MEMORY : MEMORY + 64].hex() == (memory_after or memory)
        assert lab.rip == CODE + len(raw)
