"""Compiled blocks against the ops they stand for: recorded results, and random runs side by side."""

import json
import random
from pathlib import Path

import pytest
from lab import PT, STACK, Lab, long_mode, map_identity, protected

from minihv.exits import IoIn, IoOut, MmioRead, MmioWrite

MEMORY, CODE, DEVICE = 0x9000, 0x8000, 0x110000
FLAGS = 0x8D5

_rows = json.loads(Path(__file__).with_name("recorded_integer.json").read_text())
_by_text: dict[str, list[list[object]]] = {}
for _row in _rows:
    _by_text.setdefault(_row[0], []).append(_row[1:])
_codes = sorted({bytes.fromhex(row[1]) for row in _rows})


def _lab(heat: int, bits: int = 64) -> Lab:
    lab = Lab()
    map_identity(lab)
    lab.catch(bits)
    lab.vcpu.blocks.heat = heat
    return lab


@pytest.fixture(scope="module")
def compiled() -> Lab:
    return _lab(1)


@pytest.mark.parametrize("text", _by_text)
def test_as_recorded(compiled: Lab, text: str) -> None:
    lab = compiled
    for code, before, memory, after, pointers, memory_after in _by_text[text]:
        raw = bytes.fromhex(str(code)) + b"\xf4"
        lab.ram[CODE : CODE + len(raw)] = raw
        lab.ram[MEMORY : MEMORY + 64] = bytes.fromhex(str(memory))
        state = long_mode()
        state.rip = CODE
        assert isinstance(before, list)
        *registers, flags = (int(value, 16) for value in before)
        state.gpr[:4] = registers
        state.gpr[6], state.gpr[7] = MEMORY + 16, MEMORY + 32
        state.rflags = flags
        lab.vcpu.set_state(state)
        lab.run_to_halt()
        found = [hex(lab.cpu.r[n]) for n in range(4)] + [hex(lab.cpu.arith() & FLAGS)]
        assert found == after, (before, code)
        assert [lab.rsi - MEMORY, lab.rdi - MEMORY] == pointers
        assert lab.ram[MEMORY : MEMORY + 64].hex() == (memory_after or memory)


def _program(rng: random.Random) -> bytes:
    """A loop of recorded instructions, some stack traffic, and a forward jump."""
    pieces = [rng.choice(_codes) for _ in range(rng.randrange(1, 14))]
    for extra in (b"\x50\x51\x5a\x5b", b"\xe8\x00\x00\x00\x00\x58", b"\x75\x01\x90", b"\x48\x8d\x74\x24\xe0"):
        if rng.random() < 0.3:
            pieces.insert(rng.randrange(len(pieces) + 1), extra)
    body = b"".join(pieces)
    closing = b"\x49\xff\xc8"  # dec r8
    back = -(len(body) + len(closing) + 6)
    return body + closing + b"\x0f\x85" + (back & 0xFFFFFFFF).to_bytes(4, "little") + b"\xf4"


def _observe(lab: Lab) -> tuple[object, ...]:
    cpu = lab.cpu
    return list(cpu.r), cpu.rip, cpu.get_rflags(), cpu.cr2, lab.vcpu.instructions


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("part", range(4))
def test_same_as_ops(part: int, bits: int) -> None:
    rng = random.Random(f"{part} {bits}")
    plain, hot = _lab(0, bits), _lab(1, bits)
    for _ in range(60):
        program = _program(rng)
        data = rng.randbytes(0x800)
        state = long_mode() if bits == 64 else protected()
        state.rip = CODE
        where = rng.choice((MEMORY, MEMORY, MEMORY, CODE, DEVICE, 0xBFF0, 0x7FFFFFFFFFF8))
        state.gpr = [rng.choice((rng.getrandbits(64), where + rng.randrange(64))) for _ in range(16)]
        state.gpr[1] = rng.randrange(1, 30)
        state.gpr[6], state.gpr[7], state.gpr[8] = where, MEMORY + 64, rng.randrange(1, 30)
        state.gpr[4] = STACK
        if bits == 32:
            state.gpr = [value & 0xFFFFFFFF for value in state.gpr]
        state.rflags = 2 | rng.getrandbits(12) & FLAGS
        answers, budget = rng.randbytes(8), rng.choice((10_000, 10_000, rng.randrange(1, 200)))
        seen = []
        for lab in (plain, hot):
            lab.ram[CODE : CODE + 0x200] = program.ljust(0x200, b"\xf4")
            lab.ram[MEMORY : MEMORY + len(data)] = data
            lab.ram[STACK - 0x400 : STACK + 0x400] = data
            lab.put(PT + 8 * 0xC, 0, 8)
            start = lab.vcpu.instructions
            lab.vcpu.set_state(state)
            trail: list[object] = []
            for _ in range(100):
                exit = lab.vcpu.run(budget)
                trail.append(exit)
                if isinstance(exit, MmioRead | IoIn):  # IoIn: code that overwrote itself
                    lab.vcpu.complete(answers[: exit.size])
                elif not isinstance(exit, MmioWrite | IoOut):
                    break
            observed = _observe(lab)
            seen.append((trail, observed[:-1], lab.vcpu.instructions - start, bytes(lab.ram)))
        assert seen[0][0] == seen[1][0], program.hex()
        assert seen[0][1] == seen[1][1], program.hex()
        assert seen[0][2] == seen[1][2], program.hex()
        assert seen[0][3] == seen[1][3], program.hex()
    assert hot.vcpu.blocks.compiled > 50
