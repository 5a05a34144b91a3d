"""Flat images in three modes, boot sectors, firmware ROMs."""

import pytest
from boot_images import FACTS, boot_sector, bytes_at, check_plan, chunk_named

from minihv.boot.load import load, load_firmware
from minihv.boot.plan import BoardFacts, BootPlan, LoadRequest
from minihv.errors import ImageError, UsageError


def boot(request: LoadRequest, facts: BoardFacts = FACTS) -> BootPlan:
    plan = load(request, facts)
    check_plan(plan, facts)
    return plan


def flat(
    format: str, size: int = 16, load_address: int | None = None, entry: int | None = None
) -> LoadRequest:
    return LoadRequest("code.bin", b"\xf4" * size, format, load_address, entry)


def target(plan: BootPlan) -> tuple[int, int, int, int]:
    """CS, IP, SS, SP that the BIOS is told to start the guest with."""
    words = [int.from_bytes(bytes_at(plan, 0xFF00A + 2 * i, 2), "little") for i in range(4)]
    return words[1], words[0], words[3], words[2]


@pytest.mark.parametrize(("format", "cr0"), [("flat32", 0x11), ("flat64", 0x80000033)])
def test_protected_and_long_mode_default_to_1_mib(format: str, cr0: int) -> None:
    plan = boot(flat(format))
    assert (plan.format, plan.state.rip, plan.state.cr0) == (format, 0x100000, cr0)
    plan = boot(flat(format, load_address=0x2000, entry=0x2008))
    assert plan.state.rip == 0x2008
    assert bytes_at(plan, 0x2000, 16) == b"\xf4" * 16


def test_flat16_starts_through_the_bios() -> None:
    plan = boot(flat("flat16"))
    assert target(plan) == (0, 0x7C00, 0, 0x7C00)
    assert plan.state.cs.selector == 0xF000
    assert plan.state.cr0 == 0x10
    assert plan.state.idtr.limit == 0x3FF


def test_flat16_above_64_kib_is_entered_by_segment() -> None:
    assert target(boot(flat("flat16", load_address=0x12345)))[:2] == (0x1234, 5)


def test_flat16_stack_avoids_the_image() -> None:
    _, _, ss, sp = target(boot(flat("flat16", size=0x1000, load_address=0x7000)))
    assert ss * 16 + sp <= 0x7000 or ss * 16 + sp - 0x1000 >= 0x8000


def test_flat16_stack_in_a_high_segment() -> None:
    plan = boot(flat("flat16", size=0x20000, load_address=0x600))
    _, _, ss, sp = target(plan)
    assert ss * 16 + sp == chunk_named(plan, "stack").end


def test_flat16_over_the_ivt_brings_its_own_and_is_entered_at_once() -> None:
    plan = boot(flat("flat16", size=0x1000, load_address=0, entry=0x500))
    assert [chunk.name for chunk in plan.chunks] == ["flat image"]
    assert (plan.state.cs.selector, plan.state.rip) == (0, 0x500)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (flat("flat32", size=0), "expected a flat image, found an empty file"),
        (flat("flat32", entry=0x100010), "inside the image (0x100000..0x10000f), found 0x100010"),
        (flat("flat64", load_address=-4096), "does not fit into guest RAM"),
        (flat("flat64", load_address=0xFFFFFF), "does not fit into guest RAM"),
        (flat("flat32", load_address=0x9FFFF), "covers video memory and BIOS"),
        (flat("flat16", load_address=0x100000), "real-mode entry below 1 MiB, found 0x100000"),
    ],
)
def test_flat_refused(request_: LoadRequest, sentence: str) -> None:
    with pytest.raises(ImageError) as refused:
        boot(request_)
    assert sentence in str(refused.value)


def test_flat16_needs_ram_for_the_bios() -> None:
    with pytest.raises(ImageError, match="real-mode BIOS at 0xff000"):
        boot(flat("flat16"), BoardFacts(512 * 1024))


def test_flat_takes_no_command_line() -> None:
    with pytest.raises(UsageError, match="format flat32 cannot take a command line"):
        boot(LoadRequest("code.bin", b"x", "flat32", cmdline="x"))


def test_boot_sector_is_at_7c00_with_the_file_as_disk() -> None:
    data = boot_sector(b"second sector")
    plan = boot(LoadRequest("a.IMG", data))
    assert plan.format == "bootsector"
    assert bytes_at(plan, 0x7C00, 512) == data[:512]
    assert plan.disk == data.ljust(1024, b"\0")
    assert target(plan) == (0, 0x7C00, 0, 0x7C00)


def test_boot_sector_by_format_whatever_its_name() -> None:
    assert boot(LoadRequest("sector", boot_sector(), "bootsector")).disk == boot_sector()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (bytes(511), "a boot sector takes 0x200 bytes at file offset 0x0"),
        (bytes(512), "55 aa at file offset 0x1fe, found 00 00"),
    ],
)
def test_boot_sector_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        boot(LoadRequest("x.img", data, "bootsector"))


@pytest.mark.parametrize("size", [64 << 10, 256 << 10, 16 << 20])
def test_firmware_ends_at_4_gib_and_below_1_mib(size: int) -> None:
    data = bytes(size - 16) + b"\xea" * 16
    plan = load_firmware("rom.bin", data, FACTS)
    high, low = plan.roms
    assert (high.gpa, high.end) == ((1 << 32) - size, 1 << 32)
    assert (low.end, low.size) == (0x100000, min(size, 128 << 10))
    assert bytes(low.data[-16:]) == b"\xea" * 16
    assert plan.state.cs.base + plan.state.rip == 0xFFFFFFF0
    assert not plan.needs_bios_tables
    assert plan.chunks == ()


@pytest.mark.parametrize("size", [0, 1, 32 << 10, (64 << 10) + 1, 96 << 10, 17 << 20])
def test_firmware_of_odd_size_is_refused(size: int) -> None:
    with pytest.raises(ImageError, match=f"a multiple of 64 KiB, found {size} bytes"):
        load_firmware("rom.bin", bytes(size), FACTS)


def test_firmware_over_a_window_is_refused() -> None:
    facts = BoardFacts(16 << 20, reserved=((0xFFFF0000, 0xFFFF1000, "I/O memory"),))
    with pytest.raises(ImageError, match="covers I/O memory at 0xffff0000"):
        load_firmware("rom.bin", bytes(64 << 10), facts)
