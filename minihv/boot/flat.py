"""Flat images: bytes without any header, loaded and entered where the user says.

flat32 and flat64 go to 1 MiB by default, flat16 to 0x7c00 (where a boot sector would be). The entry
defaults to the first byte.
"""

from minihv.boot.bios16 import enter_real16
from minihv.boot.entry import enter_long64, enter_protected32, finish, refuse_options
from minihv.boot.image import ImageFile
from minihv.boot.lowmem import BOOT_SECTOR, LEGACY_HOLE_END
from minihv.boot.place import Layout
from minihv.boot.plan import BoardFacts, BootPlan, Chunk, LoadRequest


def load_flat16(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Real mode, with the tiny BIOS behind it unless the image brings its own IVT (`enter_real16`)."""
    layout, entry = _add_flat(request, facts, "flat16", BOOT_SECTOR)
    if entry >= LEGACY_HOLE_END:
        raise ImageFile(request.name, b"").refuse(
            f"expected a real-mode entry below 1 MiB, found {entry:#x}; choose another --entry"
        )
    return finish("flat16", layout, enter_real16(layout, facts, entry))


def load_flat32(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Flat 32-bit protected mode, paging off."""
    layout, entry = _add_flat(request, facts, "flat32", LEGACY_HOLE_END)
    return finish("flat32", layout, enter_protected32(layout, entry))


def load_flat64(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Long mode with the low 4 GiB identity-mapped."""
    layout, entry = _add_flat(request, facts, "flat64", LEGACY_HOLE_END)
    return finish("flat64", layout, enter_long64(layout, entry))


def _add_flat(request: LoadRequest, facts: BoardFacts, format: str, default: int) -> tuple[Layout, int]:
    refuse_options(request, format, allowed=("load_address", "entry"))
    image = ImageFile(request.name, request.data)
    if not request.data:
        raise image.refuse("expected a flat image, found an empty file")
    start = default if request.load_address is None else request.load_address
    entry = start if request.entry is None else request.entry
    layout = Layout(image, facts)
    layout.add_image(Chunk(start, request.data, len(request.data), "flat image"))
    if not layout.holds(entry):
        raise image.refuse(
            f"expected an entry inside the image ({start:#x}..{start + len(request.data) - 1:#x}), "
            f"found {entry:#x}; choose another --entry or --load-address"
        )
    return layout, entry
