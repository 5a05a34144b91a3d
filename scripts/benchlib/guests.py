"""The guests that only benchmarks need, put together here so that no toolchain is wanted."""

from struct import pack

LOAD_GPA = 0x100000
COM1 = 0x3F8
PLAIN_EXIT = 0xF8
MARK_PORT = 0x5F0
"""Nobody's port on the default board: a benchmark puts a handler there, or lets the write go nowhere."""
WARM_UP = 1000
"""Exits before a measured batch: handlers, caches, specialized byte code."""


def out_loop(*batches: int) -> bytes:
    """A flat 32-bit image for LOAD_GPA: for each number a loop of so many `out` to COM1's THR.

    After each batch comes one byte to MARK_PORT, at the end one to PLAIN_EXIT. All batches run the same
    instructions, so that a second batch brings no new exit sites.
    """
    tail = b"\x90" * 2  # the table is aligned to 4 bytes
    table = LOAD_GPA + 36
    code = (
        b"\xfc"  # 00 cld
         b"\xbe" + pack("<I", table)  # 01 mov esi, table
        + b"\xad"  # 06 next: lodsd
        + b"\x85\xc0"  # 07 test eax, eax
        + b"\x74\x10"  # 09 jz done (1b)
        + b"\x91"  # 0b xchg ecx, eax
        + b"\x66\xba" + pack("<H", COM1)  # 0c mov dx, COM1
        + b"\xee"  # 10 again: out dx, al
        + b"\x49"  # 11 dec ecx
        + b"\x75\xfc"  # 12 jnz again
        + b"\x66\xba" + pack("<H", MARK_PORT)  # 14 mov dx, MARK_PORT
        + b"\xee"  # 18 out dx, al
        + b"\xeb\xeb"  # 19 jmp next
        + b"\x66\xba" + pack("<H", PLAIN_EXIT)  # 1b done: mov dx, PLAIN_EXIT
        + b"\xee"  # 1f out dx, al (al is 0)
        + b"\xf4"  # 20 hlt
    )  # fmt: skip
    image = (code + tail).ljust(table - LOAD_GPA, b"\x90")
    return image + pack(f"<{len(batches) + 1}I", *batches, 0)


def out_loop_exits(*batches: int) -> int:
    """How many exits `out_loop(*batches)` causes."""
    return sum(batches) + len(batches) + 1


def pvh_hello(message: bytes) -> bytes:
    """hello64's twin for VMMs that start ELF kernels by their PVH note: same loop, same bytes, same ports.

    An ELF32 file with one segment for everything and the note's (Xen public headers, elfnote.h: type 18,
    XEN_ELFNOTE_PHYS32_ENTRY).
    """
    headers = 52 + 2 * 32
    note = pack("<III4sI", 4, 4, 18, b"Xen\0", LOAD_GPA + headers + 20)
    start = headers + len(note)
    code = (
        b"\xfc"  # 00 cld
         b"\xbe" + pack("<I", LOAD_GPA + start + 27)  # 01 mov esi, message
        + b"\xba" + pack("<I", COM1)  # 06 mov edx, COM1
        + b"\xac"  # 0b print: lodsb
        + b"\x84\xc0"  # 0c test al, al
        + b"\x74\x03"  # 0e jz done
        + b"\xee"  # 10 out dx, al
        + b"\xeb\xf8"  # 11 jmp print
        + b"\xba" + pack("<I", PLAIN_EXIT)  # 13 done: mov edx, PLAIN_EXIT
        + b"\xee"  # 18 out dx, al (al is 0)
        + b"\xeb\xfe"  # 19 jmp $
    )  # fmt: skip
    body = note + code + message + b"\0"
    size = headers + len(body)
    ident = b"\x7fELF" + bytes((1, 1, 1)) + bytes(9)
    header = ident + pack("<HHIIIIIHHHHHH", 2, 3, 1, LOAD_GPA + start, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    load = pack("<8I", 1, 0, LOAD_GPA, LOAD_GPA, size, size, 7, 4096)
    notes = pack("<8I", 4, headers, LOAD_GPA + headers, LOAD_GPA + headers, len(note), len(note), 4, 4)
    return header + load + notes + body
