"""From process start to the end of hello64, held against qemu's microvm."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchlib.guests import pvh_hello
from benchlib.host import lacks_tool
from benchlib.process import Ended, console_script, timed
from benchlib.result import Claim, Result
from benchlib.sample import interleave, ratio, series

HELLO = b"Hello from long mode!\n"
RUNS_A_ROUND = 4
"""A start takes a tenth of a second: several a round make the median steady."""
MAX_RATIO = 1.5
QEMU = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "qemu64", "-m", "64", "-nodefaults", "-no-user-config",
        "-nographic", "-serial", "stdio", "-no-reboot",
        "-device", "isa-debug-exit,iobase=0xf8,iosize=4"]  # fmt: skip
TARGET, STRIPPED = "qemu -M microvm", "qemu -M microvm, stripped"
MACHINES = {
    TARGET: "microvm",
    STRIPPED: "microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on",
}
"""The target is against the plain machine; the stripped one is shown as the fastest that qemu can do here."""
DEBUG_EXIT_ZERO = 1
"""qemu's status after a 0 at isa-debug-exit: (value << 1) | 1."""


def measure(rounds: int, explain: bool) -> Result:
    """See --help. With `explain`, the fifteen most expensive imports are added."""
    result = Result("start", "process start to the end of hello64, which prints 22 bytes")
    script = console_script()
    minihv = [script, "run", "hello64"]
    contestants: dict[str, Callable[[], Ended]] = {"minihv": lambda: timed(minihv, HELLO, 0)}
    python = [sys.executable, "-I", "-c", "pass"]
    contestants["python"] = lambda: timed(python, b"", 0)
    with TemporaryDirectory(prefix="minihv-bench-") as folder:
        reason = lacks_tool("qemu-system-x86_64", "qemu-system-x86")
        if reason is None:
            kernel = Path(folder) / "hello-pvh.elf"
            kernel.write_bytes(pvh_hello(HELLO))
            for name, machine in MACHINES.items():
                contestants[name] = _qemu(machine, kernel)
        else:
            result.missing.append(f"the ratio to qemu, because {reason}")
        taken = interleave(rounds * RUNS_A_ROUND, contestants)
    times = {name: series(name, "ms", [e.wall_ns for e in ended], 1e-6) for name, ended in taken.items()}
    result.series += times.values()
    result.series += [series(f"{name}, CPU", "ms", [e.cpu_ns for e in taken[name]], 1e-6) for name in taken]
    for name in MACHINES:
        if name in times:
            against = ratio(f"minihv / {name}", times["minihv"], times[name])
            result.series.append(against)
            target = MAX_RATIO if name == TARGET else None
            label = f"start to end, minihv / {name} (medians)"
            result.claims.append(Claim(label, times["minihv"].median / times[name].median, "x", target))
    result.notes.append(f"minihv was {script}; python is the bare interpreter's start and end")
    if explain:
        result.notes.extend(imports(minihv))
    return result


def _qemu(machine: str, kernel: Path) -> Callable[[], Ended]:
    command = [*QEMU, "-M", machine, "-kernel", str(kernel)]
    return lambda: timed(command, HELLO, DEBUG_EXIT_ZERO)


def imports(command: list[str], most: int = 15) -> list[str]:
    """What `command` (a Python script and its arguments) imports, the most expensive modules first."""
    traced = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(traced, capture_output=True, text=True, check=True)
    own: list[tuple[int, int, str]] = []
    for line in done.stderr.splitlines():
        cost = parse_import(line)
        if cost is not None:
            own.append(cost)
    total = sum(cost[0] for cost in own)
    own.sort(reverse=True)
    lines = [
        f"imports: {len(own)} modules, {total / 1000:.1f} ms in all under -X importtime; the dearest, in us:"
    ]
    lines.append(f"  {'own':>8}{'with theirs':>13}  module")
    lines += [f"  {self_us:>8}{cumulative:>13}  {name}" for self_us, cumulative, name in own[:most]]
    return lines


def parse_import(line: str) -> tuple[int, int, str] | None:
    """(own us, cumulative us, module) of a line of -X importtime; None for any other line."""
    prefix, _, rest = line.partition("import time:")
    fields = [part.strip() for part in rest.split("|")]
    if prefix or len(fields) != 3 or not fields[0].isdigit():
        return None
    return int(fields[0]), int(fields[1]), fields[2]
