"""Debug ports: POST codes and the one-byte debug console.

Sources: IBM PC/AT technical reference (manufacturing port 0x80); Bochs "port 0xe9 hack", whose port
reads back its own number so that a guest can see that it is there. 0x402 is the same device as firmware
builds use it.
"""

from collections import deque

from minihv.interfaces import ByteSink

POST_HISTORY = 64
CONSOLE_SIGNATURE = 0xE9
_BYTE = tuple(bytes((value,)) for value in range(256))


class PostPort:
    """Records the last POST_HISTORY codes that the guest wrote; reads give the last one."""

    max_width = 1

    def __init__(self) -> None:
        self.codes: deque[int] = deque(maxlen=POST_HISTORY)

    def read(self, offset: int, size: int) -> int:
        """The last code, or 0."""
        return self.codes[-1] if self.codes else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Record one code."""
        self.codes.append(value & 0xFF)

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "CODE"

    def reset(self) -> None:
        """The history survives: codes from before a reset are what one wants to see."""

    def close(self) -> None:
        """Nothing to give back."""


class DebugConsole:
    """A byte out is a byte to `sink`."""

    max_width = 1

    def __init__(self, sink: ByteSink, signature: int = CONSOLE_SIGNATURE) -> None:
        """`signature` is what reads give."""
        self._send = sink.write
        self.signature = signature

    def read(self, offset: int, size: int) -> int:
        """The signature."""
        return self.signature

    def write(self, offset: int, size: int, value: int) -> None:
        """Send one byte."""
        self._send(_BYTE[value & 0xFF])

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "DATA"

    def reset(self) -> None:
        """No state."""

    def close(self) -> None:
        """Nothing to give back: the sink belongs to the host side."""
