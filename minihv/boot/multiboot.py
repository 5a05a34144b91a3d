"""Multiboot 1 images (Multiboot Specification 0.6.96, chapter 3), ELF or with address fields."""

from struct import calcsize, pack

from minihv.boot.elf import MAGIC as ELF_MAGIC
from minihv.boot.elf import add_segments, parse_elf, physical_entry
from minihv.boot.entry import check_reachable, enter_protected32, finish, refuse_options
from minihv.boot.image import ImageFile
from minihv.boot.mbheader import HEADER_MAGIC, find_header, find_magic
from minihv.boot.memmap import high_memory_kib, low_memory_kib, memory_map
from minihv.boot.place import Layout
from minihv.boot.plan import BoardFacts, BootPlan, Chunk, LoadRequest
from minihv.boot.strings import c_string, place_modules
from minihv.errors import ImageError

LOADER_MAGIC = 0x2BADB002
_KNOWN_REQUIREMENTS = 0b111
"""Bits 0-15 must be understood or the image refused (3.1.2): page-aligned modules, memory, video mode.
A video mode is a wish; the guest learns from the info flags that it got none."""
_INFO_MEMORY, _INFO_CMDLINE, _INFO_MODULES, _INFO_MMAP, _INFO_LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9

_INFO = "<IIIIIIIIIIIIIIIIIIIIII"
"""flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length,
mmap_addr, drives_length, drives_addr, config_table, boot_loader_name, apm_table, four VBE words (3.3)."""
_RAX, _RBX = 0, 3


def load_multiboot(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """32-bit flat entry with EAX = 0x2BADB002 and EBX = the GPA of the information structure.

    The command line is the file's own name followed by the user's words, as boot loaders pass it.
    """
    refuse_options(request, "multiboot", allowed=("cmdline", "modules"))
    image = ImageFile(request.name, request.data)
    header = find_header(image)
    if header is None:
        raise explain_missing(image)
    unknown = header.flags & 0xFFFF & ~_KNOWN_REQUIREMENTS
    if unknown:
        raise image.refuse(
            f"the multiboot header at file offset {header.offset:#x} requires features {unknown:#x} that "
            f"minihv does not have (known: {_KNOWN_REQUIREMENTS:#x})"
        )
    layout = Layout(image, facts)
    symbols = b""
    if header.addresses is not None:
        entry = _add_by_addresses(image, layout, header.offset, header.addresses)
    elif image.starts_with(ELF_MAGIC):
        elf = parse_elf(image)
        add_segments(elf, layout)
        entry = physical_entry(elf, elf.entry)
        check_reachable(image, entry)
        symbols = request.data
    else:
        raise image.refuse(
            f"the multiboot header at file offset {header.offset:#x} has no address fields (flag bit 16), "
            "so expected an ELF file, found something else"
        )
    info = _place_info(request, facts, layout, image)
    state = enter_protected32(layout, entry)
    state.gpr[_RAX] = LOADER_MAGIC
    state.gpr[_RBX] = info.gpa
    return finish("multiboot", layout, state, symbols=symbols)


def explain_missing(image: ImageFile) -> ImageError:
    """Why `find_header` finds none: no magic, or a wrong checksum behind it."""
    at = find_magic(image, checked=False)
    if at is None:
        return image.refuse(
            f"expected a multiboot header (magic {HEADER_MAGIC:#x}, 4-byte aligned) in the first 8 KiB, "
            "found none"
        )
    flags, checksum = image.unpack("<II", at + 4, "the multiboot header")
    return image.refuse(
        f"the multiboot header at file offset {at:#x} has a wrong checksum: expected "
        f"{-(HEADER_MAGIC + flags) & 0xFFFFFFFF:#x}, found {checksum:#x}"
    )


def _add_by_addresses(
    image: ImageFile, layout: Layout, at: int, addresses: tuple[int, int, int, int, int]
) -> int:
    """Load what the header's address fields describe (3.1.3); the entry GPA."""
    header_addr, load_addr, load_end, bss_end, entry = addresses
    where = f"the multiboot header at file offset {at:#x}"
    start = at - (header_addr - load_addr)
    if load_addr > header_addr or start < 0:
        raise image.refuse(
            f"{where} puts itself at {header_addr:#x} and the load address at {load_addr:#x}; expected the "
            f"load address at most {at:#x} bytes below the header"
        )
    size = load_end - load_addr if load_end else len(image) - start
    memory = bss_end - load_addr if bss_end else size
    if size <= 0 or memory < size:
        raise image.refuse(
            f"{where} has load address {load_addr:#x}, load end {load_end:#x} and bss end {bss_end:#x}; "
            "expected them in ascending order (0: to the end of the file, no bss)"
        )
    data = image.slice(start, size, "the part described by " + where)
    layout.add_image(Chunk(load_addr, data, memory, f"multiboot image (file offset {start:#x})"))
    if not layout.holds(entry):
        raise image.refuse(
            f"{where} has entry {entry:#x}; expected one in {load_addr:#x}..{load_addr + memory - 1:#x}"
        )
    return entry


def _place_info(request: LoadRequest, facts: BoardFacts, layout: Layout, image: ImageFile) -> Chunk:
    modules = place_modules(request, layout)
    program = "_".join(request.name.rsplit("/", 1)[-1].split()) or "kernel"
    cmdline = layout.place(c_string(image, f"{program} {request.cmdline}".rstrip()), "command line")
    records = b""
    for gpa, end, name in modules:
        label = layout.place(c_string(image, name), "module name")
        records += pack("<IIII", gpa, end, label.gpa, 0)
    mods = layout.place(records or bytes(16), "multiboot modules")
    entries = memory_map(facts)
    # The size field does not count itself (3.3).
    mmap = layout.place(b"".join(pack("<IQQI", 20, e.start, e.size, e.type) for e in entries), "memory map")
    loader = layout.place(c_string(image, "minihv"), "loader name")
    flags = _INFO_MEMORY | _INFO_CMDLINE | _INFO_MODULES | _INFO_MMAP | _INFO_LOADER
    fields = [flags, low_memory_kib(entries), high_memory_kib(entries), 0, cmdline.gpa]
    fields += [len(modules), mods.gpa, 0, 0, 0, 0, len(mmap.data), mmap.gpa, 0, 0, 0, loader.gpa]
    fields += [0] * (calcsize(_INFO) // 4 - len(fields))
    return layout.place(pack(_INFO, *fields), "multiboot information")
