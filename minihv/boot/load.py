"""The one way in: recognise an image, or take the user's word, and make its BootPlan.

Nothing is guessed by fall-through: what no row of the table recognises is refused in words.
"""

from collections.abc import Callable
from importlib import import_module

from minihv.boot.elf import MAGIC as ELF_MAGIC
from minihv.boot.elf import parse_elf
from minihv.boot.image import ImageFile
from minihv.boot.mbheader import find_header, find_magic
from minihv.boot.plan import BoardFacts, BootPlan, LoadRequest
from minihv.errors import ImageError, UsageError

Loader = Callable[[LoadRequest, BoardFacts], BootPlan]


def _lazy(module: str, function: str) -> Loader:
    """A loader whose module is imported when it is called: a run needs one format of eight."""

    def loader(request: LoadRequest, facts: BoardFacts) -> BootPlan:
        plan: BootPlan = getattr(import_module(f"minihv.boot.{module}"), function)(request, facts)
        return plan

    return loader


FORMATS: dict[str, Loader] = {
    "flat16": _lazy("flat", "load_flat16"),
    "flat32": _lazy("flat", "load_flat32"),
    "flat64": _lazy("flat", "load_flat64"),
    "bootsector": _lazy("sector", "load_bootsector"),
    "elf32": _lazy("elfload", "load_elf32"),
    "elf64": _lazy("elfload", "load_elf64"),
    "multiboot": _lazy("multiboot", "load_multiboot"),
    "pvh": _lazy("pvh", "load_pvh"),
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


def load_firmware(name: str, data: bytes, facts: BoardFacts) -> BootPlan:
    """See `minihv.boot.firmware.load_firmware`."""
    from minihv.boot.firmware import load_firmware as make_plan

    return make_plan(name, data, facts)


def sniff(data: bytes, name: str) -> str:
    """The name in `FORMATS` of what `data` is. `name` decides only whether a boot sector may be one.

    Multiboot comes before ELF, because multiboot kernels usually are ELF files. Raises ImageError.
    """
    image = ImageFile(name, data)
    if find_header(image) is not None:
        return "multiboot"
    if image.starts_with(ELF_MAGIC):
        from minihv.boot.pvh import find_entry

        return "pvh" if find_entry(image) is not None else f"elf{parse_elf(image).bits}"
    if image.starts_with(b"HdrS", 0x202) and image.is_boot_sector:
        raise image.refuse(
            "is a Linux bzImage, which minihv cannot start yet; use the uncompressed vmlinux of a kernel "
            "built with CONFIG_PVH=y"
        )
    if image.is_boot_sector and name.lower().endswith(".img"):
        return "bootsector"
    raise _explain(image)


def _explain(image: ImageFile) -> ImageError:
    if not len(image):
        return image.refuse("expected a guest image, found an empty file")
    if find_magic(image, checked=False) is not None:
        from minihv.boot.multiboot import explain_missing

        return explain_missing(image)
    if image.is_boot_sector:
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
