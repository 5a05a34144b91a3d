"""Plain ELF kernels: entered in the mode of their class, without any information structure."""

from minihv.boot.elf import add_segments, parse_elf, physical_entry
from minihv.boot.entry import check_reachable, enter_long64, enter_protected32, finish, refuse_options
from minihv.boot.image import ImageFile
from minihv.boot.place import Layout
from minihv.boot.plan import BoardFacts, BootPlan, LoadRequest

_ENTERS = {32: enter_protected32, 64: enter_long64}


def load_elf32(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Flat 32-bit protected mode, paging off, ESP at the end of a stack."""
    return _load(request, facts, 32)


def load_elf64(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Long mode, ring 0, the low 4 GiB identity-mapped, RSP (16-byte aligned) at the end of a stack."""
    return _load(request, facts, 64)


def _load(request: LoadRequest, facts: BoardFacts, bits: int) -> BootPlan:
    format = f"elf{bits}"
    refuse_options(request, format, allowed=("entry",))
    image = ImageFile(request.name, request.data)
    elf = parse_elf(image)
    if elf.bits != bits:
        raise image.refuse(f"expected a {bits}-bit ELF file, found a {elf.bits}-bit one; use elf{elf.bits}")
    layout = Layout(image, facts)
    add_segments(elf, layout)
    entry = physical_entry(elf, elf.entry if request.entry is None else request.entry)
    check_reachable(image, entry)
    return finish(format, layout, _ENTERS[bits](layout, entry), symbols=request.data)
