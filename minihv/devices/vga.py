"""VGA colour text mode: 32 KiB of character cells, the CRTC's index and data ports, input status 1.

Source: IBM VGA technical reference (PS/2 Model 50 and 60), "CRT Controller Registers", "Input Status
Register 1". No graphics, no attribute controller, no fonts: what a text-mode guest writes can be shown.
"""

COLUMNS, ROWS = 80, 25
TEXT_SIZE = 32 * 1024
CRTC_INDEX, CRTC_DATA = 0, 1
_CURSOR_START, _START_HIGH, _START_LOW, _CURSOR_HIGH, _CURSOR_LOW = 0x0A, 0x0C, 0x0D, 0x0E, 0x0F
_CURSOR_OFF = 0x20
_DISPLAY_DISABLED, _VERTICAL_RETRACE = 0x01, 0x08
_BLANK_CELL = b" \x07"
_CRTC_REGISTERS = 0x19


class TextMemory:
    """The window at 0xb8000; `store` (32 KiB) may also be mapped as RAM by an engine that can."""

    max_width = 8

    def __init__(self, store: bytearray | memoryview | None = None) -> None:
        self.store = bytearray(TEXT_SIZE) if store is None else store
        self.reset()

    def read(self, offset: int, size: int) -> int:
        """The `size` bytes at `offset`."""
        return int.from_bytes(self.store[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Replace the `size` bytes at `offset`."""
        self.store[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def register(self, offset: int, write: bool) -> str:
        """One name for all: a name per cell would drown the statistics."""
        return "TEXT"

    def reset(self) -> None:
        """Blank cells, grey on black."""
        self.store[:] = _BLANK_CELL * (TEXT_SIZE // 2)

    def close(self) -> None:
        """Nothing to give back: `store` belongs to whoever made it."""


class Crtc:
    """Index at offset 0, data at offset 1. All registers read back; cursor and start address matter."""

    max_width = 1

    def __init__(self) -> None:
        self.reset()

    def read(self, offset: int, size: int) -> int:
        """The index, or the register it selects (0 where there is none)."""
        if offset == CRTC_INDEX:
            return self.index
        return self.registers[self.index] if self.index < _CRTC_REGISTERS else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the index, or the register it selects."""
        if offset == CRTC_INDEX:
            self.index = value & 0x3F
        elif self.index < _CRTC_REGISTERS:
            self.registers[self.index] = value & 0xFF

    def register(self, offset: int, write: bool) -> str:
        """INDEX or DATA."""
        return "CRTC_INDEX" if offset == CRTC_INDEX else "CRTC_DATA"

    def reset(self) -> None:
        """Cursor in scan lines 13 and 14, at the top left."""
        self.index = 0
        self.registers = bytearray(_CRTC_REGISTERS)
        self.registers[_CURSOR_START : _CURSOR_START + 2] = b"\x0d\x0e"

    def close(self) -> None:
        """Nothing to give back."""

    @property
    def start(self) -> int:
        """Cell at the top left of the screen."""
        return self.registers[_START_HIGH] << 8 | self.registers[_START_LOW]

    @property
    def cursor(self) -> int | None:
        """Cell of the cursor, or None while it is off."""
        if self.registers[_CURSOR_START] & _CURSOR_OFF:
            return None
        return self.registers[_CURSOR_HIGH] << 8 | self.registers[_CURSOR_LOW]


class InputStatus1:
    """Port 0x3da. Retrace comes and goes with every read, so that a guest waiting for either goes on."""

    max_width = 1

    def __init__(self) -> None:
        self.value = 0

    def read(self, offset: int, size: int) -> int:
        """Both retrace bits, the other way round than at the last read."""
        self.value ^= _DISPLAY_DISABLED | _VERTICAL_RETRACE
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        """The feature control register: nothing to control."""

    def register(self, offset: int, write: bool) -> str:
        """FEATURE_CONTROL or INPUT_STATUS_1."""
        return "FEATURE_CONTROL" if write else "INPUT_STATUS_1"

    def reset(self) -> None:
        """Not in retrace."""
        self.value = 0

    def close(self) -> None:
        """Nothing to give back."""


def _printable_table() -> str:
    """Code page 437 with a space for NUL and NBSP, and a dot for what a terminal would obey."""
    table = list(bytes(range(256)).decode("cp437"))
    table[0] = table[0xFF] = " "
    for code in (*range(1, 32), 0x7F):
        table[code] = "."
    return "".join(table)


class VgaText:
    """The three devices of one text-mode adapter, and what its screen shows."""

    def __init__(self, store: bytearray | memoryview | None = None) -> None:
        """`store`: 32 KiB to keep the cells in; its own when not given."""
        self.memory = TextMemory(store)
        self.crtc = Crtc()
        self.status = InputStatus1()

    def text(self) -> list[str]:
        """ROWS lines of COLUMNS characters; safe to print, whatever the guest wrote."""
        table = _printable_table()
        cells = bytes(self.memory.store[0::2])
        start = self.crtc.start % len(cells)
        shown = (cells + cells)[start : start + ROWS * COLUMNS]  # addresses wrap at the window's end
        lines = (shown[row * COLUMNS : (row + 1) * COLUMNS] for row in range(ROWS))
        return ["".join(table[code] for code in line) for line in lines]

    def cursor(self) -> tuple[int, int] | None:
        """(row, column) of the cursor; None while it is off or outside the screen."""
        cell = self.crtc.cursor
        if cell is None or not 0 <= cell - self.crtc.start < ROWS * COLUMNS:
            return None
        row, column = divmod(cell - self.crtc.start, COLUMNS)
        return row, column
