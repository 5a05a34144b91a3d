"""The shipped real-mode BIOS and the parameters it is given."""

from struct import unpack_from

import pytest
from boot_images import boot_sector, content

from minihv.boot.bios16 import PARAMETERS, PARAMETERS_AT, read_bios16
from minihv.boot.load import load
from minihv.boot.plan import BoardFacts, LoadRequest


def bios(sectors: int, ram_bytes: int = 64 << 20) -> bytes:
    data = boot_sector(bytes(512 * (sectors - 1)))
    return content(load(LoadRequest("d.img", data), BoardFacts(ram_bytes)), "real-mode BIOS")


def test_reset_vector_is_a_far_jump_into_the_bios() -> None:
    code = read_bios16()
    assert code[0xFF0] == 0xEA
    offset, segment = unpack_from("<HH", code, 0xFF1)
    assert segment == 0xF000
    assert 0xF000 < offset < 0xFFF0


def test_memory_parameters() -> None:
    fields = unpack_from(PARAMETERS, bios(1), PARAMETERS_AT)
    assert fields[8:] == (639, 63 * 1024, 15 * 1024, 48 * 16, 3)
    entries = [unpack_from("<QQI", bios(1), 40 + 20 * i) for i in range(3)]
    assert entries == [(0, 0x9FC00, 1), (0x9FC00, 0x60400, 2), (0x100000, 63 << 20, 1)]


def test_memory_parameters_are_capped_to_their_words() -> None:
    fields = unpack_from(PARAMETERS, bios(1, 8 << 30), PARAMETERS_AT)
    assert fields[9:12] == (0xFFFF, 0x3C00, (0xC0000000 - (16 << 20)) >> 16)
    assert fields[12] == 4


@pytest.mark.parametrize(
    ("sectors", "expected"), [(1, (0x80, 16, 63, 1)), (4, (0x80, 16, 63, 4)), (2880, (0, 2, 18, 2880))]
)
def test_disk_parameters(sectors: int, expected: tuple[int, ...]) -> None:
    assert unpack_from(PARAMETERS, bios(sectors), PARAMETERS_AT)[4:8] == expected
