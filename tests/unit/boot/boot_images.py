"""Small valid images, built with struct: no toolchain, and every field can be bent by a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import pack

from minihv.boot.plan import BoardFacts, BootPlan, Chunk
from minihv.memory import ram_layout

CODE = b"\xf4" * 32
FACTS = BoardFacts(ram_bytes=16 << 20, reserved=((0xA0000, 0x100000, "video memory and BIOS"),))


@dataclass
class Segment:
    """A program header with its contents; `filesz` and `memsz` default to the length of `data`."""

    paddr: int = 0x100000
    data: bytes = CODE
    vaddr: int | None = None
    type: int = 1
    filesz: int | None = None
    memsz: int | None = None
    offset: int | None = None


@dataclass
class Elf:
    """An ELF file. `data` of the segments follows the program headers, 16-byte aligned."""

    bits: int = 64
    entry: int = 0x100000
    segments: Sequence[Segment] = (Segment(),)
    type: int = 2
    machine: int | None = None
    encoding: int = 1
    elf_class: int | None = None
    phnum: int | None = None
    phentsize: int | None = None
    symtab: Sequence[tuple[str, int, int, int]] = ()
    """(name, value, size, type)."""

    def build(self) -> bytes:
        wide = self.bits == 64
        ehsize, phsize = (64, 56) if wide else (52, 32)
        at = ehsize + phsize * len(self.segments)
        headers, body = b"", b""
        for segment in self.segments:
            pad = -(at + len(body)) % 16
            body += bytes(pad)
            headers += self._program_header(segment, at + len(body))
            body += segment.data
        sections, shoff, shnum = self._sections(at + len(body))
        ident = b"\x7fELF" + bytes((self.elf_class or (2 if wide else 1), self.encoding, 1)) + bytes(9)
        machine = self.machine if self.machine is not None else (62 if wide else 3)
        header = pack(
            "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
            self.type, machine, 1, self.entry, ehsize, shoff, 0, ehsize,
            phsize if self.phentsize is None else self.phentsize,
            len(self.segments) if self.phnum is None else self.phnum,
            64 if wide else 40, shnum, 0,
        )  # fmt: skip
        return ident + header + headers + body + sections

    def _program_header(self, segment: Segment, offset: int) -> bytes:
        size = len(segment.data)
        filesz = size if segment.filesz is None else segment.filesz
        memsz = max(filesz, size) if segment.memsz is None else segment.memsz
        vaddr = segment.paddr if segment.vaddr is None else segment.vaddr
        where = offset if segment.offset is None else segment.offset
        if self.bits == 64:
            return pack("<IIQQQQQQ", segment.type, 7, where, vaddr, segment.paddr, filesz, memsz, 16)
        return pack("<IIIIIIII", segment.type, where, vaddr, segment.paddr, filesz, memsz, 7, 16)

    def _sections(self, at: int) -> tuple[bytes, int, int]:
        """String table, symbol table and three section headers (null, symtab, strtab)."""
        if not self.symtab:
            return b"", 0, 0
        strings, symbols = b"\0", b""
        for name, value, size, kind in self.symtab:
            name_at = len(strings)
            strings += name.encode() + b"\0"
            if self.bits == 64:
                symbols += pack("<IBBHQQ", name_at, kind, 0, 1, value, size)
            else:
                symbols += pack("<IIIBBH", name_at, value, size, kind, 0, 1)
        layout = "<IIQQQQIIQQ" if self.bits == 64 else "<IIIIIIIIII"
        null = pack(layout, *[0] * 10)
        symtab = pack(layout, 0, 2, 0, 0, at, len(symbols), 2, 0, 8, 24 if self.bits == 64 else 16)
        strtab = pack(layout, 0, 3, 0, 0, at + len(symbols), len(strings), 0, 0, 1, 0)
        return symbols + strings + null + symtab + strtab, at + len(symbols) + len(strings), 3


def multiboot_header(flags: int = 0, *addresses: int, checksum: int | None = None) -> bytes:
    """Magic, flags, checksum and, where given, the five address fields."""
    right = -(0x1BADB002 + flags) & 0xFFFFFFFF
    fields = (0x1BADB002, flags, right if checksum is None else checksum, *addresses)
    return pack(f"<{len(fields)}I", *fields)


def multiboot_flat(size: int = 64, base: int = 0x100000, bss: int = 0x1000) -> bytes:
    """An image without ELF: header at its start, loaded at `base`, entered after the header."""
    addresses = (base, base, base + size, base + size + bss, base + 32)
    return multiboot_header(1 << 16, *addresses).ljust(size, b"\xf4")


def xen_note(entry: int, size: int = 4) -> bytes:
    """The ELF note that names a PVH entry, behind another note that must be skipped."""
    other = pack("<III", 4, 5, 1) + b"GNU\0" + b"hello\0\0\0"
    return other + pack("<III", 4, size, 18) + b"Xen\0" + entry.to_bytes(size, "little")


def pvh_elf(entry: int = 0x100000, bits: int = 64) -> bytes:
    """An ELF kernel with the note."""
    return Elf(bits, segments=(Segment(), Segment(paddr=0x200000, data=xen_note(entry), type=4))).build()


def boot_sector(extra: bytes = b"") -> bytes:
    """512 bytes with signature, then `extra`."""
    return b"\xfa\xf4".ljust(510, b"\0") + b"\x55\xaa" + extra


def content(plan: BootPlan, name: str) -> bytes:
    """Bytes of the chunk called `name`."""
    return bytes(chunk_named(plan, name).data)


def chunk_named(plan: BootPlan, name: str) -> Chunk:
    """The only chunk whose name begins with `name`."""
    (found,) = [chunk for chunk in plan.chunks if chunk.name.startswith(name)]
    return found


def bytes_at(plan: BootPlan, gpa: int, size: int) -> bytes:
    """What guest memory would hold at `gpa`, inside one chunk."""
    for chunk in plan.chunks:
        if chunk.gpa <= gpa and gpa + size <= chunk.end:
            return bytes(chunk.data).ljust(chunk.size, b"\0")[gpa - chunk.gpa :][:size]
    raise AssertionError(f"no chunk holds {gpa:#x}..{gpa + size - 1:#x}")


def text_at(plan: BootPlan, gpa: int) -> str:
    """The NUL-terminated string at the start of a chunk at `gpa`."""
    (chunk,) = [chunk for chunk in plan.chunks if chunk.gpa == gpa]
    return bytes(chunk.data).split(b"\0")[0].decode()


def check_plan(plan: BootPlan, facts: BoardFacts) -> None:
    """What must hold for every plan that a loader lets through."""
    ram = [(gpa, gpa + size) for gpa, _, size in ram_layout(facts.ram_bytes)]
    chunks = sorted(plan.chunks, key=lambda chunk: chunk.gpa)
    for chunk in chunks:
        assert chunk.size > 0
        assert len(chunk.data) <= chunk.size
        assert any(start <= chunk.gpa and chunk.end <= end for start, end in ram), chunk.name
    for low, high in pairwise(chunks):
        assert low.end <= high.gpa, (low.name, high.name)
    entry = plan.state.cs.base + plan.state.rip
    assert any(chunk.gpa <= entry < chunk.end for chunk in (*chunks, *plan.roms))
    assert plan.state.rflags == 2
