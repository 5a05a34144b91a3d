"""Where everything lies in the harness guest. Linear addresses; GPAs are named so.

What a tested instruction is meant to touch lies below 4 GiB, so that 32-bit code reaches it; what the
harness needs for itself lies where a wild address hardly ever hits.
"""

CODE = 0x400000
"""Two pages, writable; the tested instruction lies in them."""
ARENA = 0x500000
"""Two data pages; the pages before and after are not mapped."""
ARENA_END = ARENA + 0x2000
READ_ONLY = 0x504000
SUPERVISOR = 0x506000
LOW = 0x8000
"""The arena once more, for 16-bit addresses."""

WINDOW0, WINDOW0_SIZE = ARENA + 0x1000 - 192, 384
"""Part of the arena that every case loads and saves: around the page boundary."""
WINDOW1, WINDOW1_SIZE = ARENA_END - 640, 640
"""And the end of it, behind which nothing is mapped; starts 64-byte aligned, for XSAVE areas."""

HARNESS = 0x7_0000_0000
STUBS = HARNESS
VARS = HARNESS + 0x1000
"""Quadwords: next case, next result, cases left, RAX while it is saved."""
KERNEL_STACK = HARNESS + 0x2FF0
"""RSP0. The frame of the last exception lies below it, and ring 3 may read it; CR2 is stored at it."""
FRAME = KERNEL_STACK - 7 * 8
"""Vector, error code, RIP, CS, RFLAGS, RSP, SS, CR2."""
RING0 = HARNESS + 0x3000
"""GDT, TSS, frames for IRETQ, exception handlers: supervisor pages."""
GDT, TSS, FRAMES, HANDLERS = RING0, RING0 + 0x100, RING0 + 0x200, RING0 + 0x400
IDT = HARNESS + 0x4000
INPUT = HARNESS + 0x10_0000
OUTPUT = HARNESS + 0x40_0000
RECORD = 2048
"""Bytes of a case, and of a result."""
BATCH = 512
"""Cases of one entry into the guest, at most."""

KERNEL_CODE, KERNEL_DATA, USER_CODE32, USER_DATA, USER_CODE64, TSS_SELECTOR = (
    0x10,
    0x18,
    0x23,
    0x2B,
    0x33,
    0x40,
)
"""As Linux has them: on a PVM host ring 3 runs with the host's own descriptor table."""

RAM = 4 << 20
GPA_TABLES, GPA_TABLES_END = 0x10000, 0x30000
GPA_CODE, GPA_ARENA, GPA_READ_ONLY, GPA_SUPERVISOR = 0x40000, 0x42000, 0x44000, 0x45000
GPA_HARNESS = 0x50000
GPA_INPUT, GPA_OUTPUT = 0x10_0000, 0x20_0000

# Offsets in a record. Input and output share the first two and the windows.
FXSAVE, GPR, WINDOWS = 0, 512, 768
IN_FRAME, IN_CODE_AT, IN_CODE_SIZE, IN_FS_BASE, IN_GS_BASE, IN_SELECTORS, IN_CODE = (
    640, 680, 688, 696, 704, 712, 720,
)  # fmt: skip
"""RIP, CS, RFLAGS, RSP, SS for IRETQ; place and length of the code; bases; DS, ES, FS, GS; the code."""
OUT_FRAME, OUT_FS_BASE, OUT_GS_BASE, OUT_SELECTORS = 640, 704, 712, 720
USED = WINDOWS + WINDOW0_SIZE + WINDOW1_SIZE
CODE_ROOM = 32
"""Bytes of code that a case may bring."""

DONE_PORT = 0x80
"""The guest tells by an OUT to this port that the batch is done."""
