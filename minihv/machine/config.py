"""What the user wants, validated and frozen. Says nothing about how it is built."""

from typing import Any, NamedTuple, Self

from minihv.errors import UsageError

MIB = 1 << 20
MIN_MEMORY = 1 * MIB
MAX_MEMORY = 512 << 30
MAX_CPUS = 255
"""xAPIC ids are 8 bits, and 255 is the broadcast (SDM Vol. 3A, 11.6.2.1)."""
ENGINES = ("auto", "kvm", "interpret")
BOARDS = ("default", "testdev")
IRQCHIPS = ("kernel", "split", "none")
CLOCKS = ("real", "instructions")
DISPLAYS = ("none", "text", "live")
SERIAL_FORMS = "stdio, null, buffer or file:PATH"

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """ "64M", "1G", "65536" -> bytes. Raises UsageError."""
    upper = text.strip().upper().removesuffix("IB")
    upper = upper.removesuffix("B") if upper[-2:-1] in ("K", "M", "G") else upper
    digits = upper.rstrip("BKMG")
    unit = _UNITS.get(upper[len(digits) :])
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 30 or unit is None:
        raise UsageError(f"expected a size such as 64M or 1G, found {text!r}")
    return int(digits) * unit


class _Fields(NamedTuple):
    """The fields of MachineConfig, and their defaults."""

    engine: str = "auto"
    memory: int = 64 * MIB
    cpus: int = 1
    board: str = "default"
    irqchip: str = "kernel"
    format: str | None = None
    load_address: int | None = None
    entry: int | None = None
    cmdline: str = ""
    modules: tuple[str, ...] = ()
    firmware: str | None = None
    serial: str = "buffer"
    serial_input: bytes | None = None
    serial_input_file: str | None = None
    display: str = "none"
    timeout: float | None = None
    max_exits: int | None = None
    trace: str | None = None
    history: bool = False
    timeline: str | None = None
    metrics: str | None = None
    kernel_exits: bool = False
    clock: str = "real"
    rescue: bool = True
    trace_insns: str | None = None
    max_insns: int | None = None


class MachineConfig(_Fields):
    """One machine. Raises UsageError for a value that cannot be meant.

    `memory` is in bytes; `timeout` in seconds of host time; `load_address` and `entry` are GPAs for flat
    images. `modules` are paths. `serial` says where COM1 goes; `serial_input` feeds it from memory,
    `serial_input_file` from a file.

    What is recorded beside the counters: `trace` and `timeline` are files (JSON lines; Chrome trace),
    `history` puts exits over time into the report, `metrics` is a loopback port or a file (Prometheus text),
    `trace_insns` a file with a line for every instruction ("-": standard output), on engines that count them,
    `kernel_exits` adds the kernel's own exits where it lets us see them.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        self = super().__new__(cls, *args, **fields)
        self._check()
        return self

    def replace(self, **changes: Any) -> "MachineConfig":
        """A checked copy with some fields changed. Raises UsageError, also for an unknown field."""
        unknown = changes.keys() - set(self._fields)
        if unknown:
            raise UsageError(f"expected fields of MachineConfig, found {', '.join(sorted(unknown))}")
        return MachineConfig(**{**self._asdict(), **changes})

    def _check(self) -> None:
        _choice("engine", self.engine, ENGINES)
        _choice("board", self.board, BOARDS)
        _choice("irqchip", self.irqchip, IRQCHIPS)
        _choice("clock", self.clock, CLOCKS)
        _choice("display", self.display, DISPLAYS)
        if not MIN_MEMORY <= self.memory <= MAX_MEMORY or self.memory % 4096:
            raise UsageError(
                f"expected between 1M and 512G of memory in whole 4 KiB pages, found {self.memory} bytes"
            )
        if not 1 <= self.cpus <= MAX_CPUS:
            raise UsageError(f"expected 1 to {MAX_CPUS} CPUs, found {self.cpus}")
        if self.serial not in ("stdio", "null", "buffer") and not self.serial.startswith("file:"):
            raise UsageError(f"expected {SERIAL_FORMS} for the serial port, found {self.serial!r}")
        if self.serial == "file:":
            raise UsageError("expected a path after file: for the serial port, found none")
        if self.timeout is not None and not 0 < self.timeout < 1e9:
            raise UsageError(f"expected a time-out above 0 and below 1e9 seconds, found {self.timeout:g}")
        if self.max_exits is not None and self.max_exits < 1:
            raise UsageError(f"expected an exit budget of 1 or more, found {self.max_exits}")
        if self.max_insns is not None and self.max_insns < 1:
            raise UsageError(f"expected an instruction budget of 1 or more, found {self.max_insns}")
        for name in ("load_address", "entry"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1 << 52:
                raise UsageError(
                    f"expected a guest-physical address below {1 << 52:#x} for {name}, found {value:#x}"
                )
        if self.serial_input is not None and self.serial_input_file is not None:
            raise UsageError("expected console input from memory or from a file, found both; give one")
        if "\0" in self.cmdline:
            raise UsageError("expected a command line without NUL characters, found one")
        if self.irqchip == "none" and self.cpus > 1:
            raise UsageError(
                f"expected one CPU with irqchip none, found {self.cpus}; others are started through LAPICs"
            )
        if self.firmware is not None:
            self._check_firmware()

    def _check_firmware(self) -> None:
        """A ROM finds its own guest: what would go to one has no place."""
        nothing = (None, "", ())
        given = [
            n
            for n in ("format", "load_address", "entry", "cmdline", "modules")
            if getattr(self, n) not in nothing
        ]
        if given:
            raise UsageError(
                f"expected a firmware ROM alone, found {' and '.join(given)} with it; leave that out, "
                "a ROM finds its own guest"
            )


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"expected one of {', '.join(allowed)} for {name}, found {value!r}")
