"""The harness guest as bytes in memory, and the state it starts in."""

import struct

from minihv.memory import GuestMemory
from minihv.verify import layout as at
from minihv.verify import stubs
from minihv.x86 import registers as x
from minihv.x86.state import CpuState, DescriptorTable, Segment

_PRESENT, WRITE, USER = 1, 2, 4
PAGES = (
    (at.CODE, at.GPA_CODE, 2, WRITE | USER),
    (at.ARENA, at.GPA_ARENA, 2, WRITE | USER),
    (at.LOW, at.GPA_ARENA, 2, WRITE | USER),
    (at.READ_ONLY, at.GPA_READ_ONLY, 1, USER),
    (at.SUPERVISOR, at.GPA_SUPERVISOR, 1, WRITE),
    (at.STUBS, at.GPA_HARNESS, 1, USER),
    (at.VARS, at.GPA_HARNESS + 0x1000, 1, WRITE | USER),
    (at.KERNEL_STACK & ~0xFFF, at.GPA_HARNESS + 0x2000, 1, WRITE | USER),
    (at.RING0, at.GPA_HARNESS + 0x3000, 2, WRITE),
    (at.INPUT, at.GPA_INPUT, at.BATCH * at.RECORD >> 12, USER),
    (at.OUTPUT, at.GPA_OUTPUT, at.BATCH * at.RECORD >> 12, WRITE | USER),
)
"""(linear address, GPA, pages, rights)."""

_DESCRIPTORS = {
    at.KERNEL_CODE: 0x00AF9B000000FFFF,
    at.KERNEL_DATA: 0x00CF93000000FFFF,
    at.USER_CODE32: 0x00CFFB000000FFFF,
    at.USER_DATA: 0x00CFF3000000FFFF,
    at.USER_CODE64: 0x00AFFB000000FFFF,
}
_WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
"""SDM Vol. 3A, table 6-1."""
_FOR_RING_3 = frozenset((x.VECTOR_BP, x.VECTOR_OF))
"""INT3; INTO, and the harness's own INT 4. (INT 0x80 would be plainer, but PVM gives #UD for it.)"""
_OTHER = 32
"""The handler of all vectors from here on."""
_HANDLER_BYTES = 32
_DONE = at.HANDLERS + _HANDLER_BYTES * (_OTHER + 1)
"""Where the batch ends: OUT, and after it the next one."""
_SAVE_FRAME, _LOAD_FRAME = at.FRAMES, at.FRAMES + 64


def build(memory: GuestMemory) -> CpuState:
    """Write the harness into `memory` (at.RAM bytes from 0 on); the state in which it waits for a batch."""
    _map_pages(memory)
    _ring0(memory)
    memory.write(at.GPA_HARNESS, stubs.CODE)
    memory.write(at.GPA_READ_ONLY, bytes(range(256)) * 16)
    return _start()


class _Tables:
    """4-level page tables (SDM Vol. 3A, 4.5), built in guest memory."""

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self.next = at.GPA_TABLES + 0x1000

    def map(self, linear: int, gpa: int, rights: int) -> None:
        table = at.GPA_TABLES
        for shift in (39, 30, 21):
            table = self._below(table + 8 * (linear >> shift & 511))
        self.memory.write(table + 8 * (linear >> 12 & 511), (gpa | rights | _PRESENT).to_bytes(8, "little"))

    def _below(self, entry: int) -> int:
        value = self.memory.read_int(entry, 8)
        if not value:
            value = self.next | _PRESENT | WRITE | USER
            self.next += 0x1000
            assert self.next <= at.GPA_TABLES_END
            self.memory.write(entry, value.to_bytes(8, "little"))
        return value & ~0xFFF


def _map_pages(memory: GuestMemory) -> None:
    tables = _Tables(memory)
    for linear, gpa, pages, rights in PAGES:
        for n in range(pages):
            tables.map(linear + (n << 12), gpa + (n << 12), rights)


def _gpa(linear: int) -> int:
    return linear - at.HARNESS + at.GPA_HARNESS


def _ring0(memory: GuestMemory) -> None:
    for selector, raw in _DESCRIPTORS.items():
        memory.write(_gpa(at.GDT) + (selector & ~7), raw.to_bytes(8, "little"))
    base = at.TSS
    memory.write(
        _gpa(at.GDT) + at.TSS_SELECTOR,
        struct.pack("<HHBBBBII", 0x67, base & 0xFFFF, base >> 16 & 0xFF, 0x89, 0, base >> 24 & 0xFF,
                    base >> 32, 0),
    )  # fmt: skip
    memory.write(_gpa(at.TSS) + 4, at.KERNEL_STACK.to_bytes(8, "little"))
    memory.write(_gpa(at.TSS) + 0x66, (0x68).to_bytes(2, "little"))  # no permission bitmap: no ports
    for frame, entry in ((_SAVE_FRAME, stubs.SAVE), (_LOAD_FRAME, stubs.LOAD)):
        memory.write(
            _gpa(frame),
            struct.pack(
                "<5Q",
                at.STUBS + entry,
                at.USER_CODE64,
                x.RFLAGS_FIXED | x.RFLAGS_IF,
                at.VARS + 0x1000,
                at.USER_DATA,
            ),
        )
    for vector in range(_OTHER + 1):
        memory.write(_gpa(at.HANDLERS) + _HANDLER_BYTES * vector, _handler(vector))
    memory.write(_gpa(_DONE), bytes((0xE6, at.DONE_PORT)) + _return_by(_LOAD_FRAME))  # out, al
    for vector in range(256):
        _gate(memory, vector, at.HANDLERS + _HANDLER_BYTES * min(vector, _OTHER))


def _return_by(frame: int) -> bytes:
    """mov rsp, frame; iretq"""
    return b"\x48\xbc" + frame.to_bytes(8, "little") + b"\x48\xcf"


def _handler(vector: int) -> bytes:
    """Complete the frame by error code and vector, note CR2 of a page fault, and go to SAVE; INT 4 with no
    cases left ends the batch."""
    code = b"" if vector in _WITH_ERROR_CODE else b"\x6a\x00"  # push 0
    code += bytes((0x6A, vector))  # push vector
    if vector == x.VECTOR_PF:
        # push rax; mov rax, cr2; mov [KERNEL_STACK], rax; pop rax
        code += b"\x50\x0f\x20\xd0\x48\xa3" + at.KERNEL_STACK.to_bytes(8, "little") + b"\x58"
    if vector == x.VECTOR_OF:
        # cmp qword ptr [rip + VARS + 16], 0; jz DONE
        at_cmp = at.HANDLERS + _HANDLER_BYTES * vector + len(code)
        code += b"\x48\x83\x3d" + (at.VARS + 16 - at_cmp - 8).to_bytes(4, "little", signed=True) + b"\0"
        code += b"\x0f\x84" + (_DONE - at_cmp - 14).to_bytes(4, "little", signed=True)
    return code + _return_by(_SAVE_FRAME)


def _gate(memory: GuestMemory, vector: int, handler: int) -> None:
    kind = 0xEE if vector in _FOR_RING_3 else 0x8E
    raw = struct.pack(
        "<HHBBHII", handler & 0xFFFF, at.KERNEL_CODE, 0, kind, handler >> 16 & 0xFFFF, handler >> 32, 0
    )
    memory.write(_gpa(at.IDT) + 16 * vector, raw)


def _start() -> CpuState:
    """Ring 0, just before the IRETQ that goes to LOAD."""
    state = CpuState(
        rip=_DONE + 2,
        cr0=x.CR0_PE | x.CR0_MP | x.CR0_ET | x.CR0_NE | x.CR0_WP | x.CR0_AM | x.CR0_PG,
        cr3=at.GPA_TABLES,
        cr4=x.CR4_PAE | x.CR4_OSFXSR | x.CR4_OSXMMEXCPT | x.CR4_FSGSBASE | x.CR4_OSXSAVE,
        efer=x.EFER_LME | x.EFER_LMA | x.EFER_NXE | x.EFER_SCE,
        xcr0=x.XCR0_X87 | x.XCR0_SSE,
    )
    state.gpr[4] = at.KERNEL_STACK
    state.cs = Segment(at.KERNEL_CODE, 0, 0xFFFFFFFF, 0xA09B)
    for name in ("ss", "ds", "es", "fs", "gs"):
        setattr(state, name, Segment(at.KERNEL_DATA, 0, 0xFFFFFFFF, 0xC093))
    state.gdtr = DescriptorTable(at.GDT, 0x4F)
    state.idtr = DescriptorTable(at.IDT, 0xFFF)
    state.tr = Segment(at.TSS_SELECTOR, at.TSS, 0x67, 0x8B)
    state.ldtr = Segment(0, 0, 0xFFFF, 0x10082)
    return state
