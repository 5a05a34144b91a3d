"""Images of random bytes in every mode, through the engine's interfaces: none raises, none hangs.

Beside tests/unit/interpret/test_garbage.py, which spoils descriptors and gates of a bench: here the whole of
memory is noise, or code and data are noise in a machine that otherwise works.
"""

import os
import random
import struct

import pytest

from minihv.engine.select import open_engine
from minihv.exits import BudgetSpent, Exit, Halt, Hypercall, Idle, IoIn, MmioRead, MsrRead, MsrWrite, Shutdown
from minihv.interfaces import EngineConfig
from minihv.memory import GuestMemory, Region
from minihv.x86.registers import (
    CR0_ET,
    CR0_PE,
    CR0_PG,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
)
from minihv.x86.state import CpuState, DescriptorTable, Segment

RAM = 0x20000
CODE, TABLES, GDT, IDT = 0x8000, 0x10000, 0x1000, 0x2000
MODES = ("real", "16-bit protected", "32-bit", "PAE", "long")
INSTRUCTIONS, EXITS = 200, 100
ENTRIES = (0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF, 0x00009B000000FFFF, 0x000093000000FFFF)
"""Flat 32-bit code and data, 64-bit code, 16-bit code and data: selectors 8, 0x10 ... 0x28."""


def state_for(mode: str, rng: random.Random) -> CpuState:
    """A state in which `mode` executes what lies at CODE."""
    state = CpuState(gpr=[rng.getrandbits(rng.choice((8, 16, 17, 32))) for _ in range(16)])
    state.gpr[4] = 0x7000
    state.rip, state.rflags = CODE, 2 | rng.getrandbits(12) & 0xED5
    if mode == "real":
        state.cs = Segment(0, 0, 0xFFFF, 0x9B)
        state.idtr = DescriptorTable(0, 0x3FF)
        return state
    wide = mode != "16-bit protected"
    state.cr0 = CR0_PE | CR0_ET
    state.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT
    limit = 0xFFFFFFFF if wide else 0xFFFF
    state.cs = Segment(8 if wide else 0x20, 0, limit, 0xC09B if wide else 0x9B)
    for name in ("ss", "ds", "es", "fs", "gs"):
        setattr(state, name, Segment(0x10 if wide else 0x28, 0, limit, 0xC093 if wide else 0x93))
    state.gdtr, state.idtr = DescriptorTable(GDT, 0x2F), DescriptorTable(IDT, 0xFFF)
    if mode in ("PAE", "long"):
        state.cr0 |= CR0_PG
        state.cr4 |= CR4_PAE
        state.efer = EFER_NXE
        state.cr3 = TABLES
    if mode == "long":
        state.cs = Segment(0x18, 0, limit, 0xA09B)
        state.efer |= EFER_LME | EFER_LMA | EFER_SCE
    return state


def image(mode: str, rng: random.Random) -> bytearray:
    """Noise; in two of three images with tables that work, and in one of three without page tables at all."""
    ram = bytearray(rng.randbytes(RAM))
    choice = rng.random()
    if choice < 0.67:
        struct.pack_into("<6Q", ram, GDT, 0, *ENTRIES)
        for vector in range(256):
            handler = CODE + rng.randrange(0x4000)
            if mode == "long":
                struct.pack_into("<HHBBHII", ram, IDT + 16 * vector, handler, 0x18, 0, 0x8E, 0, 0, 0)
            else:
                struct.pack_into("<HHBBH", ram, IDT + 8 * vector, handler, 8, 0, 0x8E, 0)
    if choice < 0.9:
        struct.pack_into("<4Q", ram, TABLES, *[TABLES + 0x1000 | (7 if mode == "long" else 1)] * 4)
        struct.pack_into("<Q", ram, TABLES + 0x1000, TABLES + 0x2000 | 7 if mode == "long" else 0x87)
        struct.pack_into("<Q", ram, TABLES + 0x2000, 0x87)
    return ram


def run(mode: str, seed: int) -> str:
    """Run one image for a bounded while; how it ended."""
    rng = random.Random(f"{mode} {seed}")
    memory = GuestMemory([Region(0, RAM, memoryview(image(mode, rng)), False, "ram")])
    engine, _ = open_engine("interpret", memory, EngineConfig())
    try:
        vcpu = engine.create_vcpu(0)
        vcpu.set_state(state_for(mode, rng))
        for _ in range(EXITS):
            left = INSTRUCTIONS - vcpu.instructions
            exit: Exit = vcpu.run(left) if left > 0 else BudgetSpent(0)
            if isinstance(exit, BudgetSpent | Shutdown | Idle | Halt):
                assert vcpu.instructions <= INSTRUCTIONS
                vcpu.get_state()
                return type(exit).__name__
            if isinstance(exit, IoIn | MmioRead | Hypercall | MsrRead | MsrWrite):
                vcpu.complete(rng.randbytes(getattr(exit, "size", 8) * getattr(exit, "count", 1)))
        return "exits"
    finally:
        engine.close()


def many(mode: str, images: int) -> dict[str, int]:
    """How `images` images ended. One that hangs is ended by the test's own time limit."""
    ends: dict[str, int] = {}
    for seed in range(images):
        end = run(mode, seed)
        ends[end] = ends.get(end, 0) + 1
    return ends


@pytest.mark.parametrize("mode", MODES)
def test_two_hundred_images(mode: str) -> None:
    ends = many(mode, 200)
    assert sum(ends.values()) == 200
    assert len(ends) > 1, ends  # they get somewhere: not all end alike


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", MODES)
def test_images_at_length(mode: str) -> None:
    """MINIHV_IMAGES=10000 makes it the long run; tests have time for fewer."""
    images = int(os.environ.get("MINIHV_IMAGES", "800"))
    assert sum(many(mode, images).values()) == images


def test_an_image_runs_alike_twice() -> None:
    assert [run(mode, 5) for mode in MODES] == [run(mode, 5) for mode in MODES]
