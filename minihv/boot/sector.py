"""Boot sectors: the first 512 bytes of a disk, entered as a PC BIOS enters them."""

from minihv.boot.bios16 import enter_real16
from minihv.boot.entry import finish, refuse_options
from minihv.boot.image import ImageFile
from minihv.boot.lowmem import BOOT_SECTOR
from minihv.boot.place import Layout
from minihv.boot.plan import BoardFacts, BootPlan, Chunk, LoadRequest

SECTOR_SIZE = 512


def load_bootsector(request: LoadRequest, facts: BoardFacts) -> BootPlan:
    """Sector 0 at 0000:7c00 in real mode with DL = drive; the whole file is the boot disk (INT 13h).

    A file whose size is no multiple of 512 is padded with zeros.
    """
    refuse_options(request, "bootsector")
    image = ImageFile(request.name, request.data)
    sector = image.slice(0, SECTOR_SIZE, "a boot sector")
    if not image.is_boot_sector:
        raise image.refuse(
            f"expected a boot sector with 55 aa at file offset 0x1fe, found {sector[-2:].hex(' ')}"
        )
    padding = -len(request.data) % SECTOR_SIZE
    disk = request.data + bytes(padding) if padding else request.data
    layout = Layout(image, facts)
    layout.add_image(Chunk(BOOT_SECTOR, sector, SECTOR_SIZE, "boot sector"))
    state = enter_real16(layout, facts, BOOT_SECTOR, disk_sectors=len(disk) // SECTOR_SIZE)
    return finish("bootsector", layout, state, disk=disk)
