"""ELF files as far as a loader needs them: header, program headers, notes (System V ABI, chapters 4, 5).

Addresses: segments go where `p_paddr` says, as most boot loaders do it. Linkers for kernels often give
the entry point as a virtual address; see `physical_entry`.
"""

from typing import NamedTuple

from minihv.boot.image import ImageFile
from minihv.boot.place import Layout
from minihv.boot.plan import Chunk

MAGIC = b"\x7fELF"
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
EM_386, EM_X86_64 = 3, 62
MAX_SEGMENTS = 256
"""Kernels have a handful; more is taken for a damaged or hostile file."""
MAX_NOTE_BYTES = 1 << 20

_ET_EXEC, _ET_DYN = 2, 3
_TYPES = {0: "no type", 1: "a relocatable object", 4: "a core dump"}
_CLASSES = {1: 32, 2: 64}
_MACHINES = {32: EM_386, 64: EM_X86_64}
_MACHINE_NAMES = {
    EM_386: "i386", EM_X86_64: "x86-64", 40: "ARM", 183: "AArch64", 243: "RISC-V", 8: "MIPS", 21: "PowerPC64",
}  # fmt: skip
# After e_ident: type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, shentsize,
# shnum, shstrndx.
HEADER_LAYOUTS = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}
_PHDR_LAYOUTS = {32: "<IIIIIIII", 64: "<IIQQQQQQ"}
_PHDR_SIZES = {32: 32, 64: 56}
IDENT_SIZE = 16


class ElfSegment(NamedTuple):
    """One program header: `filesz` bytes at file `offset` go to GPA `paddr`, zeros up to `memsz`."""

    number: int
    header: int
    """File offset of the program header itself."""
    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int

    @property
    def where(self) -> str:
        return f"segment {self.number} (program header at file offset {self.header:#x})"


class ElfFile(NamedTuple):
    """A checked header with its program headers. `bits` is 32 or 64; `entry` as the file gives it."""

    image: ImageFile
    bits: int
    entry: int
    segments: tuple[ElfSegment, ...]

    @property
    def loadable(self) -> tuple[ElfSegment, ...]:
        """PT_LOAD segments that occupy memory."""
        return tuple(s for s in self.segments if s.type == PT_LOAD and s.memsz)


def parse_elf(image: ImageFile) -> ElfFile:
    """Read the headers. Raises ImageError for anything that cannot be an x86 kernel image."""
    bits = _parse_ident(image)
    header = image.unpack(HEADER_LAYOUTS[bits], IDENT_SIZE, "the ELF header")
    kind, machine, _, entry, phoff, _, _, _, phentsize, phnum = header[:10]
    if kind not in (_ET_EXEC, _ET_DYN):
        found = _TYPES.get(kind, f"type {kind}")
        raise image.refuse(
            f"expected an executable ELF file (e_type 2 at file offset 0x10), found {found}; link it"
        )
    if machine != _MACHINES[bits]:
        expected = _MACHINES[bits]
        raise image.refuse(
            f"expected machine {expected} ({_MACHINE_NAMES[expected]}) in a {bits}-bit ELF file (e_machine "
            f"at file offset 0x12), found {machine} ({_MACHINE_NAMES.get(machine, 'unknown')})"
        )
    if phnum > MAX_SEGMENTS:
        raise image.refuse(
            f"expected at most {MAX_SEGMENTS} program headers (e_phnum at file offset "
            f"{0x2C if bits == 32 else 0x38:#x}), found {phnum}"
        )
    if phnum and phentsize != _PHDR_SIZES[bits]:
        raise image.refuse(f"expected program headers of {_PHDR_SIZES[bits]} bytes, found {phentsize}")
    segments = tuple(_parse_segment(image, bits, phoff, index) for index in range(phnum))
    return ElfFile(image, bits, entry, segments)


def add_segments(elf: ElfFile, layout: Layout) -> None:
    """Put all loadable segments into `layout` at their physical addresses.

    Raises ImageError, also for a program that asks for a dynamic linker or has nothing to load.
    """
    for segment in elf.segments:
        if segment.type == PT_INTERP:
            raise elf.image.refuse(
                f"{segment.where} asks for a dynamic linker: this is a program for an operating system, "
                "not a kernel; expected a statically linked image"
            )
    if not elf.loadable:
        raise elf.image.refuse("has no loadable segment (PT_LOAD with a size); expected at least one")
    for segment in elf.loadable:
        _check_segment(elf, segment)
        data = elf.image.slice(segment.offset, segment.filesz, segment.where)
        name = f"segment {segment.number} (file offset {segment.offset:#x})"
        layout.add_image(Chunk(segment.paddr, data, segment.memsz, name))


def physical_entry(elf: ElfFile, entry: int) -> int:
    """The GPA of `entry`.

    An address inside a segment's physical range is taken as it is; else one inside a segment's virtual
    range is moved by that segment's p_paddr - p_vaddr, because execution starts with identity mapping.
    Raises ImageError where `entry` lies in neither.
    """
    for segment in elf.loadable:
        if segment.paddr <= entry < segment.paddr + segment.memsz:
            return entry
    for segment in elf.loadable:
        if segment.vaddr <= entry < segment.vaddr + segment.memsz:
            return entry - segment.vaddr + segment.paddr
    ranges = ", ".join(f"{s.paddr:#x}..{s.paddr + s.memsz - 1:#x}" for s in elf.loadable[:8])
    raise elf.image.refuse(f"expected an entry point inside a loadable segment ({ranges}), found {entry:#x}")


def find_note(elf: ElfFile, owner: bytes, kind: int) -> memoryview | None:
    """Descriptor of the first ELF note of `owner` (without NUL) and type `kind`, or None.

    Raises ImageError for notes that do not fit into their segment, or of absurd size.
    """
    left = MAX_NOTE_BYTES
    for segment in elf.segments:
        if segment.type != PT_NOTE:
            continue
        left -= segment.filesz
        if left < 0:
            raise elf.image.refuse(
                f"{segment.where} makes more than {MAX_NOTE_BYTES:#x} bytes of notes; the file is damaged"
            )
        found = _find_in_notes(elf, segment, owner, kind)
        if found is not None:
            return found
    return None


def _parse_ident(image: ImageFile) -> int:
    ident = image.slice(0, IDENT_SIZE, "the ELF identification")
    if ident[:4] != MAGIC:
        raise image.refuse(f"expected the ELF magic 7f 45 4c 46 at file offset 0, found {ident[:4].hex(' ')}")
    if ident[4] not in _CLASSES:
        raise image.refuse(f"expected ELF class 1 or 2 at file offset 0x4, found {ident[4]}")
    if ident[5] != 1:
        raise image.refuse(f"expected a little-endian ELF file (1 at file offset 0x5), found {ident[5]}")
    return _CLASSES[ident[4]]


def _parse_segment(image: ImageFile, bits: int, phoff: int, index: int) -> ElfSegment:
    header = phoff + index * _PHDR_SIZES[bits]
    fields = image.unpack(_PHDR_LAYOUTS[bits], header, f"program header {index}")
    if bits == 32:
        kind, offset, vaddr, paddr, filesz, memsz = fields[:6]
    else:
        kind, _, offset, vaddr, paddr, filesz, memsz = fields[:7]
    return ElfSegment(index, header, kind, offset, vaddr, paddr, filesz, memsz)


def _check_segment(elf: ElfFile, segment: ElfSegment) -> None:
    if segment.filesz > segment.memsz:
        raise elf.image.refuse(
            f"{segment.where} has {segment.filesz:#x} bytes in the file but only {segment.memsz:#x} in memory"
            "; expected no more in the file than in memory"
        )
    for kind, start in (("physical", segment.paddr), ("virtual", segment.vaddr)):
        if start + segment.memsz > 1 << elf.bits:
            raise elf.image.refuse(
                f"{segment.where} wraps around the end of the {elf.bits}-bit {kind} address space: "
                f"{segment.memsz:#x} bytes at {start:#x}"
            )


def _find_in_notes(elf: ElfFile, segment: ElfSegment, owner: bytes, kind: int) -> memoryview | None:
    data = elf.image.slice(segment.offset, segment.filesz, segment.where)
    at = 0
    while at + 12 <= len(data):
        namesz, descsz, found = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4, 8))
        name_at = at + 12
        desc_at = name_at + (namesz + 3 & -4)
        if desc_at + descsz > len(data):
            raise elf.image.refuse(
                f"note at file offset {segment.offset + at:#x} ({segment.where}) claims {namesz} + {descsz} "
                f"bytes, more than its segment has; the file is damaged"
            )
        if found == kind and bytes(data[name_at : name_at + namesz]).rstrip(b"\0") == owner:
            return data[desc_at : desc_at + descsz]
        at = desc_at + (descsz + 3 & -4)
    return None
