"""8042 keyboard controller with a keyboard behind it; there is no auxiliary (mouse) port.

Sources: IBM PS/2 hardware interface technical reference, "Keyboard and Auxiliary Device Controller"
(commands, status, output port) and "101/102-Key Keyboard" (keyboard commands).

Scan codes put in by the host are delivered as they are: set 1, what a controller with translation on
gives its guests. Only the keyboard's own answers exist in both forms (the ID is translated).
"""

from collections import deque
from collections.abc import Callable
from threading import Lock

from minihv.interfaces import IrqLine

DATA, STATUS_COMMAND = 0, 4
"""Offsets: a PC has them at 0x60 and 0x64."""
KEYBOARD_QUEUE = 64
_REPLY_QUEUE = 16

STATUS_OUTPUT_FULL, STATUS_SYSTEM, STATUS_COMMAND_LAST = 0x01, 0x04, 0x08
STATUS_UNLOCKED, STATUS_TIMEOUT = 0x10, 0x40
MODE_IRQ1, MODE_SYSTEM, MODE_KEYBOARD_OFF, MODE_AUX_OFF, MODE_TRANSLATE = 0x01, 0x04, 0x10, 0x20, 0x40
OUTPUT_NOT_RESET, OUTPUT_A20, OUTPUT_IRQ1 = 0x01, 0x02, 0x10

_MODE_AFTER_POST = MODE_IRQ1 | MODE_SYSTEM | MODE_AUX_OFF | MODE_TRANSLATE
_OUTPUT_AFTER_POST = 0xC0 | OUTPUT_NOT_RESET | OUTPUT_A20
_ACK, _RESEND, _SELF_TEST_PASSED, _KEYBOARD_PASSED = 0xFA, 0xFE, 0x55, 0xAA
_NO_AUX = 0x01  # interface test: clock line stuck low
_KEYBOARD_ID = (0xAB, 0x83)
_KEYBOARD_ID_TRANSLATED = (0xAB, 0x41)
_TAKES_PARAMETER = frozenset((0xED, 0xF0, 0xF3))  # LEDs, scan code set, typematic rate
_ACK_ONLY = frozenset((0xF4, 0xF5, 0xF6))  # scanning on, off, defaults


class I8042:
    """Registers at offsets DATA and STATUS_COMMAND; attach the second one through `Shifted`.

    `press` may be called from another thread while the guest reads and writes.
    """

    max_width = 1

    def __init__(self, irq1: IrqLine, reset_machine: Callable[[], None]) -> None:
        self._irq1 = irq1
        self._reset_machine = reset_machine
        self._lock = Lock()
        self._level = False
        self._power_on()

    def _power_on(self) -> None:
        """As a BIOS leaves it after POST: interrupt and translation on, A20 open."""
        self.mode = _MODE_AFTER_POST
        self.output_port = _OUTPUT_AFTER_POST
        self.ram = bytearray(32)
        self.output: int | None = None
        self.replies: deque[int] = deque()
        self.keys: deque[int] = deque()
        self.pending_command: int | None = None
        self.pending_keyboard: int | None = None
        self.scan_code_set = 2
        self.last_sent = 0
        self.status_bits = STATUS_SYSTEM | STATUS_UNLOCKED

    def reset(self) -> None:
        """Back to the state after POST."""
        with self._lock:
            self._power_on()
            self._set_level(False)

    def close(self) -> None:
        """Nothing to give back."""

    def register(self, offset: int, write: bool) -> str:
        """DATA, STATUS or COMMAND."""
        if offset == DATA:
            return "DATA"
        return "COMMAND" if write else "STATUS"

    def press(self, scan_codes: bytes) -> int:
        """Queue scan codes (set 1, make and break) from the host; returns how many were taken."""
        with self._lock:
            taken = scan_codes[: max(KEYBOARD_QUEUE - len(self.keys), 0)]
            self.keys.extend(taken)
            self._load_output()
        return len(taken)

    def read(self, offset: int, size: int) -> int:
        """Status, or the byte in the output buffer (the last one again when it is empty)."""
        with self._lock:
            if offset != DATA:
                return self.status_bits | (STATUS_OUTPUT_FULL if self.output is not None else 0)
            if self.output is not None:
                self.last_sent = self.output
                self.output = None
                self.status_bits &= ~STATUS_TIMEOUT
                self._set_level(False)
                self._load_output()
            return self.last_sent

    def write(self, offset: int, size: int, value: int) -> None:
        """A controller command, its parameter, or a byte to the keyboard."""
        value &= 0xFF
        with self._lock:
            if offset != DATA:
                self.status_bits |= STATUS_COMMAND_LAST
                reset = self._command(value)
            else:
                self.status_bits &= ~STATUS_COMMAND_LAST
                command, self.pending_command = self.pending_command, None
                reset = False
                if command is None:
                    self._to_keyboard(value)
                else:
                    reset = self._parameter(command, value)
            self._load_output()
        if reset:
            self._reset_machine()  # outside the lock: it may call reset()

    # Output buffer and interrupt.

    def _load_output(self) -> None:
        """Fill the empty output buffer: controller replies first, keys unless the keyboard is off."""
        if self.output is None:
            if self.replies:
                self.output = self.replies.popleft()
            elif self.keys and not self.mode & MODE_KEYBOARD_OFF:
                self.output = self.keys.popleft()
        self._set_level(self.output is not None and bool(self.mode & MODE_IRQ1))

    def _set_level(self, level: bool) -> None:
        if level != self._level:
            self._level = level
            self._irq1(level)

    def _reply(self, *values: int) -> None:
        """Queue answers. Bounded: a guest that never reads loses them."""
        self.replies.extend(values[: max(_REPLY_QUEUE - len(self.replies), 0)])

    # Controller commands; both return whether the machine is to be reset.

    def _command(self, command: int) -> bool:
        self.pending_command = None
        if 0x20 <= command < 0x40:
            self._reply(self.mode if command == 0x20 else self.ram[command & 0x1F])
        elif 0x60 <= command < 0x80 or command in _WITH_PARAMETER:
            self.pending_command = command
        elif command >= 0xF0:
            return not command & OUTPUT_NOT_RESET  # pulse low the output port bits whose bit is 0
        elif command in _FIXED_REPLY:
            self._reply(_FIXED_REPLY[command])
            if command == 0xAA:
                self.mode |= MODE_SYSTEM
                self.status_bits |= STATUS_SYSTEM
        elif command == 0xD0:
            self._reply(self.output_port | (OUTPUT_IRQ1 if self.output is not None else 0))
        elif command in _MODE_CHANGE:
            clear, set_bits = _MODE_CHANGE[command]
            self.mode = self.mode & ~clear | set_bits
        elif command in (0xDD, 0xDF):
            self.output_port = self.output_port & ~OUTPUT_A20 | command & OUTPUT_A20
        return False

    def _parameter(self, command: int, value: int) -> bool:
        if command == 0xD1:
            self.output_port = value & ~OUTPUT_IRQ1
            return not value & OUTPUT_NOT_RESET
        if command in (0xD2, 0xD3):
            self._reply(value)  # 0xd3 without an auxiliary port: back as if from the keyboard
        elif command == 0xD4:
            self.status_bits |= STATUS_TIMEOUT  # nobody there to answer
            self._reply(_RESEND)
        elif command == 0x60:
            self.mode = value
            self.status_bits = self.status_bits & ~STATUS_SYSTEM | value & MODE_SYSTEM
        else:
            self.ram[command & 0x1F] = value
        return False

    # The keyboard.

    def _to_keyboard(self, value: int) -> None:
        self.mode &= ~MODE_KEYBOARD_OFF  # writing to the keyboard enables its interface
        command, self.pending_keyboard = self.pending_keyboard, None
        if command is not None and value < 0xED:
            self._keyboard_parameter(command, value)
        elif value in _TAKES_PARAMETER:
            self.pending_keyboard = value
            self._reply(_ACK)
        elif value in _ACK_ONLY:
            self._reply(_ACK)
        elif value == 0xFF:
            self.keys.clear()
            self._reply(_ACK, _KEYBOARD_PASSED)
        elif value == 0xF2:
            translated = self.mode & MODE_TRANSLATE
            self._reply(_ACK, *(_KEYBOARD_ID_TRANSLATED if translated else _KEYBOARD_ID))
        elif value == 0xEE:
            self._reply(0xEE)
        else:
            self._reply(self.last_sent if value == 0xFE else _RESEND)

    def _keyboard_parameter(self, command: int, value: int) -> None:
        if command == 0xF0 and value == 0:
            self._reply(_ACK, self.scan_code_set)
            return
        if command == 0xF0:
            self.scan_code_set = value
        self._reply(_ACK)


_WITH_PARAMETER = frozenset((0xD1, 0xD2, 0xD3, 0xD4))
_FIXED_REPLY = {
    0xA9: _NO_AUX,
    0xAA: _SELF_TEST_PASSED,
    0xAB: 0x00,  # keyboard interface test: no error
    0xC0: 0x80,  # input port: keyboard not locked
}
_MODE_CHANGE = {
    0xA7: (0, MODE_AUX_OFF),
    0xA8: (MODE_AUX_OFF, 0),
    0xAD: (0, MODE_KEYBOARD_OFF),
    0xAE: (MODE_KEYBOARD_OFF, 0),
}
