"""What a loader produces (BootPlan) and what it may know of the machine (BoardFacts)."""

from typing import NamedTuple

from minihv.x86.state import CpuState


class BoardFacts(NamedTuple):
    """The little a loader needs to know about the machine it prepares for.

    `reserved` lists (start, end, name) windows in guest-physical space that are not RAM or that a guest
    image must not cover. `rsdp` is the GPA at which the builder will put the ACPI RSDP.
    """

    ram_bytes: int
    cpus: int = 1
    reserved: tuple[tuple[int, int, str], ...] = ()
    rsdp: int = 0xE0000


class LoadRequest(NamedTuple):
    """What the user asked for. `name` is the file as the user wrote it, for messages."""

    name: str
    data: bytes
    format: str | None = None
    """None: recognise by content. Else a name from `minihv.boot.load.FORMATS`."""
    load_address: int | None = None
    entry: int | None = None
    cmdline: str = ""
    modules: tuple[tuple[str, bytes], ...] = ()
    """(name, contents), in order."""


class Chunk(NamedTuple):
    """`size` bytes at `gpa`: `data`, then zeros. `name` says what it is, for messages and maps."""

    gpa: int
    data: bytes | memoryview
    size: int
    name: str

    @property
    def end(self) -> int:
        return self.gpa + self.size


class BootPlan(NamedTuple):
    """Everything needed to start a guest: bytes to place, and the boot processor's first state.

    `chunks` are copied into RAM in order and do not overlap. `roms` become read-only memory of their own
    (firmware). `symbols` is an ELF file's bytes where the image (or the user) has symbols, else empty:
    it is parsed only when a report asks.
    """

    format: str
    chunks: tuple[Chunk, ...]
    state: CpuState
    roms: tuple[Chunk, ...] = ()
    symbols: bytes = b""
    needs_bios_tables: bool = True
    """False for firmware, which builds its own ACPI and MP tables."""
    disk: bytes = b""
    """Contents of the boot disk, whole 512-byte sectors; empty: the machine needs no boot disk."""
