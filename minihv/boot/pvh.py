"""PVH images: ELF files with a Xen note that names a 32-bit entry (Xen, docs/misc/pvh; start_info.h)."""

from struct import pack

from minihv.boot.elf import MAGIC as ELF_MAGIC
from minihv.boot.elf import ElfFile, add_segments, find_note, parse_elf, physical_entry
from minihv.boot.entry import check_reachable, enter_protected32, finish, refuse_options
from minihv.boot.image import ImageFile
from minihv.boot.memmap import memory_map
from minihv.boot.place import Layout
from minihv.boot.plan import BoardFacts, BootPlan, Chunk, LoadRequest
from minihv.boot.strings import c_string, place_modules

NOTE_OWNER = b"Xen"
NOTE_PHYS32_ENTRY = 18
START_MAGIC = 0x336EC578
_START_INFO = "<IIIIQQQQII"
"""magic, version, flags, nr_modules, modlist, cmdline, rsdp, memmap (GPAs), memmap_entries, reserved."""
_VERSION = 1
"""Version 1 adds the memory map to version 0."""
_RBX = 3


def find_entry(image: ImageFile) -> int | None:
    """The GPA that the note gives, or None for another kind of file. Raises ImageError for damaged notes."""
    if not image.starts_with(ELF_MAGIC):
        return None
    return _entry_of(parse_elf(image))


def load_pvh(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """32-bit flat entry with EBX = the GPA of hvm_start_info: memory map, command line, modules, RSDP."""
    refuse_options(request, "pvh", allowed=("cmdline", "modules"))
    image = ImageFile(request.name, request.data)
    elf = parse_elf(image)
    entry = _entry_of(elf)
    if entry is None:
        raise image.refuse(
            f"expected an ELF note of owner Xen and type {NOTE_PHYS32_ENTRY} (PVH entry), found none"
        )
    layout = Layout(image, facts)
    add_segments(elf, layout)
    entry = physical_entry(elf, entry)
    check_reachable(image, entry)
    info = _place_start_info(request, facts, layout, image)
    state = enter_protected32(layout, entry)
    state.gpr[_RBX] = info.gpa
    return finish("pvh", layout, state, symbols=request.data)


def _entry_of(elf: ElfFile) -> int | None:
    descriptor = find_note(elf, NOTE_OWNER, NOTE_PHYS32_ENTRY)
    if descriptor is None:
        return None
    if len(descriptor) not in (4, 8):
        raise elf.image.refuse(
            f"expected a PVH entry note of 4 or 8 bytes, found {len(descriptor)} bytes; the file is damaged"
        )
    return int.from_bytes(descriptor, "little")


def _place_start_info(request: LoadRequest, facts: BoardFacts, layout: Layout, image: ImageFile) -> Chunk:
    modules = place_modules(request, layout)
    cmdline = layout.place(c_string(image, request.cmdline), "command line")
    records = b""
    for gpa, end, name in modules:
        label = layout.place(c_string(image, name), "module name")
        records += pack("<QQQQ", gpa, end - gpa, label.gpa, 0)
    modlist = layout.place(records, "PVH module list").gpa if modules else 0
    entries = memory_map(facts)
    memmap = layout.place(b"".join(pack("<QQII", e.start, e.size, e.type, 0) for e in entries), "memory map")
    fields = (len(modules), modlist, cmdline.gpa, facts.rsdp, memmap.gpa, len(entries), 0)
    return layout.place(pack(_START_INFO, START_MAGIC, _VERSION, 0, *fields), "PVH start info")
