"""What guests/NAME.toml says a guest does, read into values.

    console = "exact text"      or  console_pattern = 'regular expression for all of it'
    exits = [                   every io and mmio exit, those at PIC and PIT left out
        { name = "io", port = 0x3f8, direction = "out", size = 1, count = 22 },
        { name = "mmio", gpa = 0xb8000, direction = "read", size = 1, count = 1 },
    ]
    uncounted = [...]           like exits, without count: how many there are is chance
    [run]                       cpus, input, cmdline, modules ([file name, text] pairs), timeout (seconds)
    [outcome]                   reason, status (of the process)

`size` is the width of one element in bytes. A REP that KVM delivers whole counts as one exit.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
GUESTS = ROOT / "guests"
IMAGES = ROOT / "minihv" / "images"


@dataclass(frozen=True, slots=True, order=True)
class ExitKind:
    """One row of the exit statistics: `address` is a port or a GPA."""

    name: str
    address: int
    direction: str
    size: int


@dataclass(frozen=True, slots=True)
class Run:
    """How the guest is started."""

    cpus: int = 1
    input: str = ""
    cmdline: str = ""
    modules: tuple[tuple[str, str], ...] = ()
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Expectation:
    """Everything one expectation file says."""

    name: str
    console: str | None
    console_pattern: str | None
    exits: dict[ExitKind, int]
    uncounted: frozenset[ExitKind]
    run: Run
    reason: str
    status: int


def names() -> list[str]:
    """The names of all bundled guests, in order."""
    return sorted(path.stem for path in GUESTS.glob("*.toml"))


def image(name: str) -> Path:
    """The guest's image file."""
    [found] = (path for path in IMAGES.glob(f"{name}.*"))
    return found


def _kind(row: dict[str, object]) -> ExitKind:
    address = row["port"] if "port" in row else row["gpa"]
    assert isinstance(address, int)
    assert isinstance(row["size"], int)
    return ExitKind(str(row["name"]), address, str(row["direction"]), row["size"])


def expectation(name: str) -> Expectation:
    """Read guests/NAME.toml. A key that nobody reads is a mistake in the file, so it raises."""
    told = tomllib.loads((GUESTS / f"{name}.toml").read_text(encoding="utf-8"))
    run = told.pop("run", {})
    run["modules"] = tuple((module, text) for module, text in run.get("modules", ()))
    outcome = told.pop("outcome")
    found = Expectation(
        name,
        told.pop("console", None),
        told.pop("console_pattern", None),
        {_kind(row): row["count"] for row in told.pop("exits", ())},
        frozenset(_kind(row) for row in told.pop("uncounted", ())),
        Run(**run),
        outcome.pop("reason"),
        outcome.pop("status"),
    )
    if told or outcome:
        raise ValueError(f"{name}.toml: nobody reads {[*told, *outcome]}")
    return found
