"""What loaders share: the tables behind an entry state, the finished plan, and options that do not apply."""

from minihv.boot.image import ImageFile
from minihv.boot.place import LIMIT_4G, Layout
from minihv.boot.plan import BootPlan, LoadRequest
from minihv.boot.states import PAGE_TABLES_SIZE, gdt, long64, page_tables, protected32
from minihv.errors import UsageError
from minihv.x86.state import CpuState

STACK_SIZE = 16 * 1024
"""Bytes of stack that a 32- or 64-bit guest is given; it can make its own larger one."""


def enter_protected32(layout: Layout, entry: int) -> CpuState:
    """Place GDT and stack; the state that starts at GPA `entry` in flat 32-bit protected mode."""
    table = layout.place(gdt(long=False), "GDT")
    return protected32(entry, table.gpa, _place_stack(layout))


def enter_long64(layout: Layout, entry: int) -> CpuState:
    """Place page tables, GDT and stack; the state that starts at GPA `entry` in long mode."""
    tables = layout.place(b"", "page tables", size=PAGE_TABLES_SIZE, align=4096)
    layout.fill(tables, page_tables(tables.gpa))
    table = layout.place(gdt(long=True), "GDT")
    return long64(entry, table.gpa, tables.gpa, _place_stack(layout))


def check_reachable(image: ImageFile, entry: int) -> None:
    """Raises ImageError for an entry beyond the 4 GiB that 32-bit code and the first page tables reach."""
    if entry >= LIMIT_4G:
        raise image.refuse(f"expected an entry point below 4 GiB, found {entry:#x}; link it lower")


def refuse_options(request: LoadRequest, format: str, *, allowed: tuple[str, ...] = ()) -> None:
    """Raises UsageError where the user gave something that `format` has no place for.

    `allowed` names fields of LoadRequest. Dropping a command line silently would mislead.
    """
    for field, option in _OPTIONS.items():
        value = getattr(request, field)
        if field not in allowed and value not in (None, "", ()):
            raise UsageError(
                f"{request.name}: an image of format {format} cannot take {option}; leave {_IT[field]} out "
                f"or use {_INSTEAD[field]}"
            )


def finish(format: str, layout: Layout, state: CpuState, symbols: bytes = b"", disk: bytes = b"") -> BootPlan:
    """The plan from a complete layout."""
    return BootPlan(format, layout.chunks, state, symbols=symbols, disk=disk)


def _place_stack(layout: Layout) -> int:
    return layout.place(b"", "stack", size=STACK_SIZE, align=16).end


_OPTIONS = {
    "cmdline": "a command line",
    "modules": "modules",
    "load_address": "a load address",
    "entry": "an entry address",
}
_IT = {"cmdline": "it", "modules": "them", "load_address": "it", "entry": "it"}
_INSTEAD = {
    "cmdline": "a multiboot or PVH image",
    "modules": "a multiboot or PVH image",
    "load_address": "a flat image",
    "entry": "a flat or ELF image",
}
