"""The same bytes in a process of the host: taken out of the guest's image, and sent to `child`."""

import json
import platform
import signal
import subprocess
import sys
from pathlib import Path

from minihv.boot.symbols import SymbolTable
from minihv.machine.machine import Machine
from minihv.sensitive.guest import GUEST
from minihv.sensitive.instructions import INSTRUCTIONS
from minihv.sensitive.model import NATIVE, Seen, Subject

RING = 3
TIMEOUT = 30


def shared_code() -> tuple[bytes, dict[str, int]]:
    """The position-independent part of the image, and offsets in it by symbol."""
    plan = Machine().load(GUEST).plan
    assert plan is not None
    symbols = SymbolTable.from_elf(plan.symbols)
    names = ["attempt", "shared_end", "on_signal", *(f"try_{i.name}" for i in INSTRUCTIONS)]
    addresses = {name: symbols.find(name) for name in names}
    missing = [name for name, address in addresses.items() if address is None]
    assert not missing, missing  # a test holds the image to it
    found = {name: address for name, address in addresses.items() if address is not None}
    start, end = found["attempt"], found["shared_end"]
    [code] = [c.data[start - c.gpa : end - c.gpa] for c in plan.chunks if c.gpa <= start < c.end]
    return bytes(code), {name: address - start for name, address in found.items()}


def run_native() -> Subject:
    """What a process of this host sees; a subject without anything seen tells why."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
        return Subject(
            NATIVE, RING, {}, f"this host is {sys.platform} on {platform.machine()}, not x86-64 Linux"
        )
    code, offsets = shared_code()
    job = json.dumps({"code": code.hex(), "offsets": offsets})
    home = Path(__file__).resolve().parent.parent.parent
    start = f"import sys; sys.path.insert(0, {str(home)!r}); import runpy; "
    start += "runpy.run_module('minihv.sensitive.child', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start], input=job, capture_output=True, text=True, timeout=TIMEOUT
    )
    return subject(done.stdout, done.returncode)


def subject(output: str, status: int) -> Subject:
    """From the child's lines "NAME VECTOR-or-minus VALUE" and its status."""
    seen: dict[str, Seen] = {}
    why = ""
    for line in output.splitlines():
        name, vector, value = line.split(" ", 2)
        if name == "!":
            why = f"the host does not let user space run code of its own: {value}"
        else:
            seen[name] = Seen(int(value), None if vector == "-" else int(vector))
    if status < 0:
        after = f" after {list(seen)[-1]}" if seen else ""
        why = f"the process was ended by {signal.Signals(-status).name}{after}"
    elif status and not why:
        why = f"the process ended with status {status}"
    return Subject(NATIVE, RING, seen, why)
