"""Random bytes as code, data, tables and page tables, in every mode: nothing raises, nothing hangs."""

import os
import random
import struct

import pytest
from lab import CODE, GDT, PD, PDPT, PML4, STACK, TSS, Lab, long_mode, protected, real_mode

from minihv.exits import BudgetSpent, Halt, Hypercall, Idle, IoIn, MmioRead, Shutdown
from minihv.x86.registers import CR0_PG, CR4_PSE
from minihv.x86.state import CpuState, Segment

MODES = ("real", "vm86", "protected", "protected user", "paged", "64", "64 user", "compat", "compat user")
_ACCESS = (0x9A, 0x92, 0xFA, 0xF2, 0x89, 0x8B, 0xE9, 0x85, 0x8C, 0xEC, 0x82, 0x84, 0x81, 0x96, 0x9E)
_GATES = (0x8E, 0x8F, 0xEE, 0xEF, 0x85, 0x86, 0x87, 0xE5)


def _state(mode: str) -> CpuState:
    user = mode.endswith("user")
    if mode == "real":
        return real_mode()
    if mode == "vm86":
        state = protected()
        for name in ("cs", "ss", "ds", "es", "fs", "gs"):
            setattr(state, name, Segment(CODE >> 4, CODE, 0xFFFF, 0xF3))
        state.rip, state.rflags = 0, 0x23002
        return state
    if mode == "paged":
        state = protected()
        state.cr0, state.cr4, state.cr3 = state.cr0 | CR0_PG, CR4_PSE, PD
        return state
    if mode.startswith("protected"):
        return protected(user)
    return long_mode(user, compat=mode.startswith("compat"))


def _run(mode: str, seed: int) -> None:
    rng = random.Random(f"{mode} {seed}")
    lab = Lab(rng.choice(("AuthenticAMD", "GenuineIntel")))
    lab.ram[:] = rng.randbytes(len(lab.ram))
    wild = rng.random() < 0.3
    if not wild:
        lab = _tame(lab, rng, mode)
    for at, entry, size in ((PML4, PDPT | 7, 8), (PDPT, 0x87, 8), (PD, 0x87, 4)):
        if mode != "paged" or at == PD:
            lab.put(at, entry, size)
    state = _state(mode)
    mask = (1 << 64) - 1 if mode.startswith("64") else (1 << 32) - 1
    state.gpr = [rng.choice((rng.getrandbits(64), rng.getrandbits(16), CODE)) & mask for _ in range(16)]
    state.gpr[4] = STACK if mode not in ("real", "vm86") else 0x8000
    lab.vcpu.set_state(state)
    for _ in range(60):
        exit = lab.vcpu.run(300)
        if isinstance(exit, BudgetSpent | Shutdown | Idle):
            return
        if isinstance(exit, Halt):
            lab.vcpu.deliver_nmi()
        elif isinstance(exit, IoIn | MmioRead | Hypercall):
            lab.vcpu.complete(rng.randbytes(8))
        if rng.random() < 0.1:
            lab.vcpu.set_state(lab.vcpu.get_state())


def _tame(lab: Lab, rng: random.Random, mode: str) -> Lab:
    """Descriptors and gates that often work, so that a run gets somewhere."""
    fresh = Lab(lab.engine.vendor)
    kept = fresh.ram[GDT : GDT + 0x58], fresh.ram[TSS : TSS + 0x68]
    fresh.ram[:] = lab.ram
    fresh.ram[GDT : GDT + 0x58], fresh.ram[TSS : TSS + 0x68] = kept
    fresh.put(TSS + 4, STACK, 8)
    fresh.put(TSS + 8, 0x10, 2) if not mode.startswith(("64", "compat")) else None
    for selector in range(0x58, 0x200, 8):
        fresh.descriptor(selector, rng.randrange(0x10000), rng.randrange(0x10000), rng.choice(_ACCESS))
    for vector in range(256):
        target = CODE + rng.randrange(0x8000)
        if mode.startswith(("64", "compat")):
            fresh.gate64(vector, target, rng.choice(_GATES))
        elif mode == "real":
            struct.pack_into("<HH", fresh.ram, 4 * vector, rng.randrange(0x8000), CODE >> 4)
        else:
            fresh.gate32(vector, target, rng.choice(_GATES))
    return fresh


@pytest.mark.parametrize("mode", MODES)
def test_garbage(mode: str) -> None:
    for seed in range(25):
        _run(mode, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", MODES)
def test_garbage_at_length(mode: str) -> None:
    """MINIHV_IMAGES=10000 makes it the long run: 20 minutes on one core. Tests have time for fewer."""
    for seed in range(int(os.environ.get("MINIHV_IMAGES", "400"))):
        _run(mode, seed)
