"""The bundled guest on one engine: ring 0 and ring 3 of one run."""

from collections.abc import Mapping

from minihv.machine.config import MachineConfig
from minihv.machine.machine import Machine
from minihv.machine.outcome import REASONS
from minihv.report.model import Report
from minihv.sensitive.model import Seen, Subject

GUEST = "sensitive"
TIMEOUT = 30.0
RINGS = (0, 3)
PORTS = frozenset((0x3F8, 0xF8))


def run_guest(engine: str) -> tuple[tuple[Subject, ...], Mapping[str, str]]:
    """Both rings, and what the engine is. Raises what starting a machine raises."""
    with Machine(MachineConfig(engine=engine, memory=16 << 20, timeout=TIMEOUT)) as machine:
        report = machine.load(GUEST).run()
        console = machine.console.decode("ascii", "replace")
    return subjects(engine, console, report), report.host


def subjects(engine: str, console: str, report: Report) -> tuple[Subject, ...]:
    """From what the guest printed and the machine counted."""
    end = report.outcome
    why = ""
    if (end.reason, end.status) != ("exit", 0):
        why = f"the guest did not finish: {REASONS[end.reason][1]}"
    helped = tuple(e.register for e in report.exits if e.name == "rescued")
    exits = sum(e.count for e in report.exits if e.address not in PORTS and e.name != "rescued")
    seen = parse(console)
    return tuple(Subject(engine, ring, seen[ring], why, helped, exits) for ring in RINGS)


def parse(console: str) -> dict[int, dict[str, Seen]]:
    """Ring -> instruction -> what it saw; of lines "NAME RING VECTOR-or-minus 0xVALUE". Others are dropped:
    a guest that was stopped in the middle of one has told why elsewhere."""
    found: dict[int, dict[str, Seen]] = {ring: {} for ring in RINGS}
    for line in console.splitlines():
        match line.split(" "):
            case [name, ("0" | "3") as ring, vector, value] if value.startswith("0x"):
                trapped = None if vector == "-" else int(vector)
                found[int(ring)][name] = Seen(int(value, 16), trapped)
    return found
