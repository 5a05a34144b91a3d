"""The one way in: recognise an image, or take the user's word, and make its BootPlan.

Nothing is guessed by fall-through: what no row of the table recognises is refused in words.
"""

from collections.abc import Callable

from minihv.boot.elf import MAGIC as ELF_MAGIC
from minihv.boot.elf import parse_elf
from minihv.boot.elfload import load_elf32, load_elf64
from minihv.boot.firmware import load_firmware
from minihv.boot.flat import load_flat16, load_flat32, load_flat64
from minihv.boot.image import ImageFile
from minihv.boot.multiboot import find_header, load_multiboot
from minihv.boot.plan import BoardFacts, BootPlan, LoadRequest
from minihv.boot.pvh import find_entry, load_pvh
from minihv.boot.sector import is_boot_sector, load_bootsector
from minihv.errors import ImageError, UsageError

__all__ = ["FORMATS", "load", "load_firmware", "sniff"]

Loader = Callable[[LoadRequest, BoardFacts], BootPlan]

FORMATS: dict[str, Loader] = {
    "flat16": load_flat16,
    "flat32": load_flat32,
    "flat64": load_flat64,
    "bootsector": load_bootsector,
    "elf32": load_elf32,
    "elf64": load_elf64,
    "multiboot": load_multiboot,
    "pvh": load_pvh,
}
"""What the user may name as format, in the order in which help texts list them."""


def load(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Make the plan for a guest image; pure: no file, no machine is touched.

    Raises ImageError where the image is refused (file, segment and offset are named), UsageError for an
    unknown format or an option that the format has no place for.
    """
    format = request.format
    if format is None:
        format = sniff(request.data, request.name)
    loader = FORMATS.get(format)
    if loader is None:
        raise UsageError(f"expected a format of {', '.join(FORMATS)}, found {format!r}")
    return loader(request, facts)


def sniff(data: bytes, name: str) -> str:
    """The name in `FORMATS` of what `data` is. `name` decides only whether a boot sector may be one.

    Multiboot comes before ELF, because multiboot kernels usually are ELF files. Raises ImageError.
    """
    image = ImageFile(name, data)
    if find_header(image) is not None:
        return "multiboot"
    if image.starts_with(ELF_MAGIC):
        return "pvh" if find_entry(image) is not None else f"elf{parse_elf(image).bits}"
    if image.starts_with(b"HdrS", 0x202) and is_boot_sector(image):
        raise image.refuse(
            "is a Linux bzImage, which minihv cannot start yet; use the uncompressed vmlinux of a kernel "
            "built with CONFIG_PVH=y"
        )
    if is_boot_sector(image) and name.lower().endswith(".img"):
        return "bootsector"
    raise _explain(image)


def _explain(image: ImageFile) -> ImageError:
    if not len(image):
        return image.refuse("expected a guest image, found an empty file")
    if is_boot_sector(image):
        return image.refuse(
            "looks like a boot sector (55 aa at file offset 0x1fe), but is not named .img; say "
            "--format bootsector if it is one"
        )
    if image.name.lower().endswith(".bin"):
        return image.refuse(
            "a flat .bin image does not say which mode it wants; say --format flat16, flat32 or flat64"
        )
    return image.refuse(
        "expected an ELF file, a multiboot image or a boot sector named .img, found a file that begins "
        f"{bytes(image.data[:8]).hex(' ')}; say --format flat16, flat32 or flat64 for code without a header"
    )
