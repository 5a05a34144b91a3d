"""What an exit costs in minihv, held against the smallest C program that serves the same guest."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchlib.guests import LOAD_GPA, WARM_UP, out_loop, out_loop_exits
from benchlib.host import lacks_tool
from benchlib.process import BenchError, run_json
from benchlib.result import Claim, Result, number
from benchlib.sample import Series, difference, interleave, ratio, series

EXITS = 200_000
ALL_EXITS = out_loop_exits(WARM_UP, EXITS)
SOURCE = Path(__file__).with_name("out_loop.c")
MAX_RATIO = 1.25
ABOUT_10_US = 8.0
"""The ratio has a target only on hosts where an exit costs about 10 us: this much or more in C."""
MAX_VMM_US = 2.5
MAX_BLOCKS = 64
MAX_RSS = 256 * 1024


def measure(rounds: int, explain: bool) -> Result:
    """See --help. With `explain`, a profile of the Python side is added."""
    result = Result("exits", f"{EXITS} port writes (COM1 THR, serial to nobody), statistics on")
    with TemporaryDirectory(prefix="minihv-bench-") as folder:
        twin = _compile(Path(folder), result)
        contestants: dict[str, Callable[[], Any]] = {"minihv": lambda: _minihv("plain")}
        if twin is not None:
            contestants["c"] = lambda: _check(run_json(twin))
            contestants["c clock"] = lambda: _check(run_json([*twin, "clock"]))
        contestants["minihv clock"] = lambda: _minihv("clock")
        taken = interleave(rounds, contestants, warm_up=False)
    _report(result, taken)
    _growth(result)
    if explain:
        result.notes.extend(profile())
    return result


def _minihv(mode: str) -> dict[str, Any]:
    return _check(run_json([sys.executable, "-P", "-m", "benchlib.worker", mode, str(EXITS)]))


def _check(found: dict[str, Any]) -> dict[str, Any]:
    if found["exits"] != ALL_EXITS:
        raise BenchError(f"expected {ALL_EXITS} exits, found {found}")
    return found


def _compile(folder: Path, result: Result) -> list[str] | None:
    """The command of the C twin; None, with the reason in `result`, where it cannot be built."""
    reason = lacks_tool("gcc", "gcc libc6-dev linux-libc-dev")
    if reason is None:
        program = folder / "out_loop"
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            image = folder / "out_loop.bin"
            image.write_bytes(out_loop(WARM_UP, EXITS))
            return [str(program), str(image), hex(LOAD_GPA)]
        reason = f"gcc cannot compile {SOURCE.name}: {done.stderr.strip().partition(chr(10))[0]}"
    result.missing.append(f"the ratio to a C program, because {reason}")
    return None


def _report(result: Result, taken: dict[str, list[Any]]) -> None:
    mine, mine_cpu = _per_exit("minihv, wall", taken["minihv"], "wall_ns"), _cpu("minihv", taken)
    result.series += [mine, mine_cpu]
    if "c" in taken:
        theirs, theirs_cpu = _per_exit("C, wall", taken["c"], "wall_ns"), _cpu("c", taken)
        outside = _per_exit("C, between two KVM_RUNs (own pass)", taken["c clock"], "outside_ns", ALL_EXITS)
        result.series += [theirs, theirs_cpu, outside]
        wall, cpu = ratio("minihv / C, wall", mine, theirs), ratio("minihv / C, CPU", mine_cpu, theirs_cpu)
        result.series += [wall, cpu]
        applies = theirs.median >= ABOUT_10_US
        result.claims.append(Claim("wall time, minihv / C", wall.median, "x", MAX_RATIO if applies else None))
        result.claims.append(Claim("CPU time, minihv / C", cpu.median, "x"))
        more = difference("minihv - C, CPU", mine_cpu, theirs_cpu)
        result.series += [difference("minihv - C, wall", mine, theirs), more]
        if not applies:
            result.notes.append(
                f"the ratio's target is for hosts where an exit costs about 10 us; here it is "
                f"{number(theirs.median)} us in C"
            )
            projected = (10 + more.median) / 10
            label = "the same difference in CPU time, beside an exit of 10 us"
            result.claims.append(Claim(label, projected, "x", MAX_RATIO))
        label = "VMM time an exit: minihv's CPU time less C's, and C's own between two KVM_RUNs"
        result.claims.append(Claim(label, more.median + outside.median, "us", MAX_VMM_US))
    _own_clocks(result, taken)


def _per_exit(label: str, runs: list[Any], key: str, exits: int = EXITS) -> Series:
    """us an exit; `exits` is how many the time is of."""
    return series(label, "us an exit", [run[key] for run in runs], 1e-3 / exits)


def _cpu(who: str, taken: dict[str, list[Any]]) -> Series:
    return _per_exit(f"{'C' if who == 'c' else who}, CPU", taken[who], "cpu_ns")


def _own_clocks(result: Result, taken: dict[str, list[Any]]) -> None:
    """The VMM time without any C program: a clock around ioctl, and the report's own sum."""
    gaps = [
        (run["outside_ns"] / run["gaps"] - run["wrapper_ns"]) / 1000
        for run in taken["minihv clock"]
        if run["gaps"]
    ]
    if gaps:
        direct = series("minihv, between two KVM_RUNs (own pass)", "us an exit", gaps)
        result.series.append(direct)
        result.claims.append(Claim("VMM time an exit: clock around ioctl", direct.median, "us", MAX_VMM_US))
    else:
        result.missing.append("time between two KVM_RUNs, because minihv no longer calls fcntl.ioctl")
    own = _per_exit("minihv, handling, by its report", taken["minihv"], "vmm_ns", ALL_EXITS)
    result.series.append(own)
    result.claims.append(
        Claim("VMM time an exit: the report's vmm_ns, bookkeeping left out", own.median, "us", MAX_VMM_US)
    )


def _growth(result: Result) -> None:
    found = _minihv_growth()
    between = found["between"]
    result.claims.append(Claim(f"blocks allocated over {between} exits", found["blocks"], "", MAX_BLOCKS))
    result.claims.append(
        Claim(f"resident memory over {between} exits", found["rss"] / 1024, "KiB", MAX_RSS / 1024)
    )


def _minihv_growth() -> dict[str, Any]:
    found: dict[str, Any] = run_json([sys.executable, "-P", "-m", "benchlib.worker", "growth", str(EXITS)])
    return found


def profile() -> list[str]:
    """Where the Python side spends its time: cProfile of the vCPU's thread, in its own process."""
    command = [sys.executable, "-P", "-m", "benchlib.profiled", str(EXITS // 4)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:].strip()}")
    return done.stdout.splitlines()
