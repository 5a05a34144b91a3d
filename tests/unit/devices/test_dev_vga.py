"""VGA text mode: memory, CRTC, status, and the screen as text."""

import pytest

from minihv.devices.vga import COLUMNS, ROWS, VgaText


def put(vga: VgaText, cell: int, text: bytes) -> None:
    for index, byte in enumerate(text):
        vga.memory.write((cell + index) * 2, 2, 0x0700 | byte)


def crtc(vga: VgaText, register: int, value: int) -> None:
    vga.crtc.write(0, 1, register)
    vga.crtc.write(1, 1, value)


@pytest.fixture
def vga() -> VgaText:
    return VgaText()


def test_a_new_screen_is_blank(vga: VgaText) -> None:
    assert vga.text() == [" " * COLUMNS] * ROWS
    assert vga.cursor() == (0, 0)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_memory_reads_back_at_any_width(vga: VgaText, size: int) -> None:
    value = int.from_bytes(bytes(range(1, size + 1)), "little")
    vga.memory.write(0x8000 - size, size, value)
    assert vga.memory.read(0x8000 - size, size) == value
    assert len(vga.memory.store) == 0x8000


def test_text_shows_lines(vga: VgaText) -> None:
    put(vga, 0, b"first")
    put(vga, 24 * COLUMNS + 75, b"last!")
    lines = vga.text()
    assert lines[0].rstrip() == "first"
    assert lines[24] == " " * 75 + "last!"


def test_text_is_safe_to_print(vga: VgaText) -> None:
    put(vga, 0, bytes(range(256)))
    text = "".join(vga.text())
    assert text.isprintable()
    assert text.startswith(" " + "." * 31 + ' !"#')
    assert text[0x7F] == "."
    assert text[0xC9] == "╔"
    assert all(len(line) == COLUMNS for line in vga.text())


def test_start_address_scrolls_and_wraps(vga: VgaText) -> None:
    put(vga, COLUMNS, b"second")
    crtc(vga, 0x0D, COLUMNS)
    assert vga.text()[0].rstrip() == "second"
    crtc(vga, 0x0C, 0x3F)
    crtc(vga, 0x0D, 0xFF)  # the last cell, then the first ones
    put(vga, 0, b"abc")
    assert vga.text()[0].startswith(" abc")
    crtc(vga, 0x0C, 0xFF)
    assert vga.text()[0].startswith(" abc")


def test_cursor_registers_read_back(vga: VgaText) -> None:
    crtc(vga, 0x0E, 0x01)
    crtc(vga, 0x0F, 0x45)
    assert vga.crtc.read(0, 1) == 0x0F
    assert vga.crtc.read(1, 1) == 0x45
    assert vga.cursor() == divmod(0x145, COLUMNS)
    crtc(vga, 0x0A, 0x2D)
    assert vga.cursor() is None
    crtc(vga, 0x0A, 0x0D)
    crtc(vga, 0x0E, 0x40)
    assert vga.cursor() is None  # off the screen


def test_absent_crtc_registers_are_harmless(vga: VgaText) -> None:
    crtc(vga, 0xFF, 0xAA)
    assert vga.crtc.read(0, 1) == 0x3F
    assert vga.crtc.read(1, 1) == 0


def test_status_toggles_retrace(vga: VgaText) -> None:
    assert [vga.status.read(0, 1) for _ in range(4)] == [9, 0, 9, 0]


def test_the_store_can_be_somebody_elses(vga: VgaText) -> None:
    store = bytearray(0x8000)
    shared = VgaText(memoryview(store))
    store[0] = ord("Z")
    assert shared.text()[0].rstrip() == "Z"
    shared.memory.write(0, 1, ord("Y"))
    assert store[0] == ord("Y")


def test_register_names(vga: VgaText) -> None:
    assert vga.memory.register(6, True) == "TEXT"
    assert (vga.crtc.register(0, True), vga.crtc.register(1, True)) == ("CRTC_INDEX", "CRTC_DATA")
    assert (vga.status.register(0, False), vga.status.register(0, True)) == (
        "INPUT_STATUS_1",
        "FEATURE_CONTROL",
    )
