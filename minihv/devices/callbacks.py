"""A device made of two Python functions, for ports that a host program wants to answer itself."""

from collections.abc import Callable

ReadHandler = Callable[[int, int], int]
"""(offset, size in bytes) -> value"""
WriteHandler = Callable[[int, int, int], None]
"""(offset, size in bytes, value)"""


class PortHandler:
    """Calls `read` and `write`; what has no handler reads all ones and swallows writes.

    Whatever a handler raises goes up to the machine, which stops and reports it as `HandlerFailed`.
    """

    def __init__(
        self,
        read: ReadHandler | None = None,
        write: WriteHandler | None = None,
        name: str = "PORT",
        max_width: int = 4,
    ) -> None:
        """`max_width`: widest access in bytes that the handlers want to see; wider ones are split."""
        self.name = name
        self.max_width = max_width
        self._read = read
        self._write = write

    def read(self, offset: int, size: int) -> int:
        """Ask the handler. Raises TypeError when it answers with anything but an int."""
        if self._read is None:
            return (1 << 8 * size) - 1
        value: object = self._read(offset, size)
        if not isinstance(value, int):
            raise TypeError(
                f"the read handler of {self.name} must return an int, not {type(value).__name__}; "
                f"return the {size}-byte value of the register"
            )
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Tell the handler."""
        if self._write is not None:
            self._write(offset, size, value)

    def register(self, offset: int, write: bool) -> str:
        """The handler's name; with the offset where there is one."""
        return self.name if offset == 0 else f"{self.name}+{offset}"

    def reset(self) -> None:
        """Handlers keep their own state."""

    def close(self) -> None:
        """Nothing to give back."""
