"""A bench for the interpreter: RAM, one vCPU, descriptor tables, handlers that halt, and assembled code.

Code in tests is written as assembly text. Its bytes stand in `assembled.json`, so that no assembler is
needed to run the tests; `MINIHV_ASSEMBLE=1 pytest tests/unit/interpret` fills in what is missing with GNU as.
"""

import json
import os
import struct
import subprocess
import tempfile
from pathlib import Path

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.engine import InterpretEngine
from minihv.exits import Exit, Halt
from minihv.memory import GuestMemory, Region
from minihv.x86.registers import (
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
)
from minihv.x86.state import CpuState, DescriptorTable, Segment

RAM = 1 << 20
GDT, IDT, TSS, STUBS = 0x500, 0x1000, 0x700, 0x40000
CODE, STACK, USER_STACK, DATA = 0x10000, 0x20000, 0x28000, 0x30000
PML4, PDPT, PD, PT = 0x50000, 0x51000, 0x52000, 0x53000
"""Where the bench puts things; PT maps the first 2 MiB by 4 KiB pages."""

CODE32, DATA32, CODE64 = 0x08, 0x10, 0x18
USER_CODE32, USER_DATA, USER_CODE64 = 0x23, 0x2B, 0x33
CODE16, DATA16, TSS_SELECTOR, FREE = 0x38, 0x40, 0x48, 0x58
"""GDT entries; from FREE on tests put their own."""

DESCRIPTORS = {
    CODE32: 0x00CF9B000000FFFF,
    DATA32: 0x00CF93000000FFFF,
    CODE64: 0x00AF9B000000FFFF,
    USER_CODE32 & ~3: 0x00CFFB000000FFFF,
    USER_DATA & ~3: 0x00CFF3000000FFFF,
    USER_CODE64 & ~3: 0x00AFFB000000FFFF,
    CODE16: 0x00009B000000FFFF,
    DATA16: 0x000093000000FFFF,
}

_STORE = Path(__file__).with_name("assembled.json")
_known: dict[str, str] = json.loads(_STORE.read_text()) if _STORE.exists() else {}


def assembled(bits: int, at: int, text: str) -> bytes:
    """The bytes of `text` at offset `at` in `bits`-bit mode."""
    key = f"{bits} {at:#x} {' '.join(text.split())}"
    found = _known.get(key)
    if found is None:
        if not os.environ.get("MINIHV_ASSEMBLE"):
            raise KeyError(f"no bytes for {key!r}: run with MINIHV_ASSEMBLE=1 once (needs GNU as and ld)")
        found = _assemble(bits, at, text).hex()
        _known[key] = found
        _STORE.write_text(json.dumps(dict(sorted(_known.items())), indent=0) + "\n")
    return bytes.fromhex(found)


def _assemble(bits: int, at: int, text: str) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        source, obj, out = (Path(place, name) for name in ("code.s", "code.o", "code.bin"))
        source.write_text(f".intel_syntax noprefix\n.code{bits}\n.globl _start\n_start:\n{text}\n")
        subprocess.run(["as", "--64", "-o", obj, source], check=True)
        subprocess.run(["ld", "-Ttext", hex(at), "--oformat", "binary", "-o", out, obj], check=True)
        return out.read_bytes()


class Lab:
    """One machine: `lab.vcpu`, `lab.cpu`, RAM as `lab.ram`."""

    def __init__(self, vendor: str = "AuthenticAMD") -> None:
        self.ram = bytearray(RAM)
        memory = GuestMemory([Region(0, RAM, memoryview(self.ram), False, "ram")])
        self.engine = InterpretEngine(memory, vendor=vendor)
        self.vcpu = self.engine.create_vcpu(0)
        for selector, raw in DESCRIPTORS.items():
            self.put(GDT + selector, raw, 8)
        self.descriptor(TSS_SELECTOR, TSS, 0x67 + 0x2001, 0x89)
        self.put(TSS + 0x66, 0x68, 2)  # permission bitmap right behind: all ports allowed ...
        self.ram[TSS + 0x68 + 0x2000] = 0xFF

    @property
    def cpu(self) -> Cpu:
        return self.vcpu.cpu

    # --- memory -------------------------------------------------------------------------------------

    def put(self, at: int, value: int, size: int) -> None:
        self.ram[at : at + size] = value.to_bytes(size, "little")
        self.engine.memory_written(at, size)

    def get(self, at: int, size: int) -> int:
        return int.from_bytes(self.ram[at : at + size], "little")

    def code(self, bits: int, text: str, at: int = CODE, origin: int | None = None) -> int:
        """Put assembled `text` at linear address `at`, offset `origin` in CS (default: `at`); its length."""
        raw = assembled(bits, at if origin is None else origin, text)
        self.ram[at : at + len(raw)] = raw
        self.engine.memory_written(at, len(raw))
        return len(raw)

    def descriptor(self, selector: int, base: int, limit: int, access: int, flags: int = 0) -> None:
        """GDT entry; `access` is the access byte, `flags` the upper nibble G, D, L, AVL."""
        raw = limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40
        raw |= (limit >> 16 & 0xF) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56
        self.put(GDT + (selector & 0xFFF8), raw, 8)

    def gate32(self, vector: int, offset: int, kind: int = 0x8E, selector: int = CODE32) -> None:
        struct.pack_into(
            "<HHBBH", self.ram, IDT + 8 * vector, offset & 0xFFFF, selector, 0, kind, offset >> 16
        )

    def gate64(
        self, vector: int, offset: int, kind: int = 0x8E, ist: int = 0, selector: int = CODE64
    ) -> None:
        struct.pack_into(
            "<HHBBHII", self.ram, IDT + 16 * vector, offset & 0xFFFF, selector, ist, kind,
            offset >> 16 & 0xFFFF, offset >> 32, 0,
        )  # fmt: skip

    # --- handlers that halt -------------------------------------------------------------------------

    def catch(self, bits: int, kind: int = 0x8E) -> None:
        """Every vector leads to a HLT of its own, so that `taken` can tell which it was."""
        for vector in range(256):
            stub = STUBS + 16 * vector
            self.ram[stub] = 0xF4
            if bits == 64:
                self.gate64(vector, stub, kind)
            elif bits == 32:
                self.gate32(vector, stub, kind)
            else:
                self.put(4 * vector, STUBS >> 4 << 16 | 16 * vector, 4)

    def taken(self) -> int | None:
        """The vector whose stub halted; None if nothing of the kind happened."""
        cs = self.cpu.seg[1]
        offset = (0 if self.cpu.mode.bits == 64 else cs.base) + self.cpu.rip - 1 - STUBS
        vector, rest = divmod(offset, 16)
        return vector if rest == 0 and 0 <= vector < 256 and self.cpu.halted else None

    def frame(self, size: int, count: int) -> list[int]:
        """`count` items of `size` bytes from the top of the stack."""
        cpu = self.cpu
        sp = cpu.r[4] & cpu.mode.stack_mask
        at = sp if cpu.mode.bits == 64 else cpu.seg[2].base + sp
        return [self.get(at + size * n, size) for n in range(count)]

    # --- running ------------------------------------------------------------------------------------

    def start(self, state: CpuState, **gpr: int) -> None:
        """Load a state, with some general registers set by name."""
        for name, value in gpr.items():
            state.gpr[REGISTERS.index(name)] = value
        self.vcpu.set_state(state)

    def run(self, budget: int = 10_000) -> Exit:
        return self.vcpu.run(budget)

    def run_to_halt(self, budget: int = 10_000) -> None:
        """Run; anything but a HLT is a failure."""
        exit = self.vcpu.run(budget)
        assert isinstance(exit, Halt), exit

    def __getattr__(self, name: str) -> int:
        """General registers by their 64-bit names; `rip`, `rflags`."""
        if name in REGISTERS:
            return self.cpu.r[REGISTERS.index(name)]
        if name == "rip":
            return self.cpu.rip
        if name == "rflags":
            return self.cpu.get_rflags()
        raise AttributeError(name)


REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip


def real_mode(at: int = CODE) -> CpuState:
    """CS such that offset 0 is `at`; other segments 0, stack below 0x8000; IVT at 0."""
    state = CpuState(rip=0, cs=Segment(at >> 4, at, 0xFFFF, 0x9B), idtr=DescriptorTable(0, 0x3FF))
    state.gpr[4] = 0x8000
    return state


def _tables(state: CpuState, idt_limit: int) -> CpuState:
    state.gdtr = DescriptorTable(GDT, 0x1FF)
    state.idtr = DescriptorTable(IDT, idt_limit)
    state.tr = Segment(TSS_SELECTOR, TSS, 0x67 + 0x2001, 0x8B)
    return state


def protected(user: bool = False) -> CpuState:
    """Flat 32-bit protected mode, no paging; `user`: ring 3 with IOPL 0."""
    ring = 3 if user else 0
    state = CpuState(cr0=CR0_PE | 0x30, rip=CODE)
    state.cs = Segment((USER_CODE32 if user else CODE32), 0, 0xFFFFFFFF, 0xC09B | ring << 5)
    data = Segment(USER_DATA if user else DATA32, 0, 0xFFFFFFFF, 0xC093 | ring << 5)
    for name in ("ss", "ds", "es", "fs", "gs"):
        setattr(state, name, Segment(data.selector, 0, data.limit, data.access))
    state.gpr[4] = USER_STACK if user else STACK
    return _tables(state, 0x7FF)


def long_mode(user: bool = False, compat: bool = False) -> CpuState:
    """64-bit (or compatibility) mode over identity-mapped 4 KiB user pages; see `map_identity`."""
    state = protected(user)
    ring = 3 if user else 0
    if not compat:
        state.cs = Segment(USER_CODE64 if user else CODE64, 0, 0xFFFFFFFF, 0xA09B | ring << 5)
    state.cr0 |= CR0_PG
    state.cr3 = PML4
    state.cr4 = CR4_PAE
    state.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE
    return _tables(state, 0xFFF)


def map_identity(lab: Lab) -> None:
    """4-level tables: the first 2 MiB, user, writable, 4 KiB pages. RAM ends at 1 MiB; the rest is device."""
    for table, entry in ((PML4, PDPT), (PDPT, PD), (PD, PT)):
        lab.put(table, entry | 7, 8)
    for n in range(512):
        lab.put(PT + 8 * n, n << 12 | 7, 8)
