"""What each recorder adds to an exit: its code alone, and a whole run with it less one without."""

import inspect
import os
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

from benchlib.host import lacks_kvm
from benchlib.process import BenchError, run_json
from benchlib.result import Claim, Result
from benchlib.sample import difference, interleave, series

CALLS = 200_000
EXITS = 100_000
MAX_COUNTERS_US = 0.3
MAX_TIMELINE_US = 3.0
FIRST, LAST = "counter = lane.counters.get(", "counter.histogram["
"""Where the run loop's counting begins and ends, in its source."""


def measure(rounds: int, explain: bool) -> Result:
    """See --help. There is nothing more to explain."""
    result = Result("recorders", f"cost an exit: {CALLS} calls alone, and {EXITS} exits of a whole run")
    alone: dict[str, Callable[[], float]] = {"counters": _counters, **_observers()}
    taken = interleave(rounds, alone)
    limits = {"counters": MAX_COUNTERS_US, "timeline and history": MAX_TIMELINE_US}
    for name, values in taken.items():
        cost = series(f"{name}, alone", "us an exit", values, 1e-3)
        result.series.append(cost)
        result.claims.append(Claim(f"{name}, alone", cost.median, "us", limits.get(name)))
    reason = lacks_kvm()
    if reason is not None:
        result.missing.append(f"whole runs, because {reason}")
        return result
    _whole_runs(result, rounds)
    return result


def _whole_runs(result: Result, rounds: int) -> None:
    modes = ("plain", "history", "timeline", "trace")
    taken = interleave(rounds, {mode: lambda mode=mode: _run(mode) for mode in modes}, warm_up=False)  # type: ignore[misc]
    costs = {mode: series(f"run, {mode}, CPU", "us an exit", taken[mode], 1e-3 / EXITS) for mode in modes}
    result.series += costs.values()
    for mode in modes[1:]:
        more = difference(f"{mode}, whole run", costs[mode], costs["plain"])
        limit = MAX_TIMELINE_US if mode == "timeline" else None
        result.claims.append(Claim(f"{mode}, whole run less one without", more.median, "us", limit))


def _run(mode: str) -> float:
    """CPU time in ns of the vCPU's thread for EXITS exits."""
    found = run_json([sys.executable, "-P", "-m", "benchlib.worker", mode, str(EXITS)])
    return float(found["cpu_ns"])


def _loop_ns(body: Callable[[int], Any]) -> float:
    """ns of one call of `body`, the loop around it included: what the run loop pays for the call."""
    start = time.perf_counter_ns()
    for n in range(CALLS):
        body(n)
    return (time.perf_counter_ns() - start) / CALLS


def counting_source() -> str:
    """The run loop's own lines that count an exit."""
    from minihv.machine.loop import VcpuLoop

    lines = textwrap.dedent(inspect.getsource(VcpuLoop._run)).splitlines()
    begin = next((n for n, line in enumerate(lines) if line.strip().startswith(FIRST)), None)
    end = next((n for n, line in enumerate(lines) if line.strip().startswith(LAST)), None)
    if begin is None or end is None or not 0 < end - begin < 20:
        raise BenchError(f"the run loop no longer counts between {FIRST!r} and {LAST!r}")
    return textwrap.dedent("\n".join(lines[begin : end + 1]))


def _counters() -> float:
    """ns that the run loop's counting takes, executed from its own source; the loop's cost is taken off."""
    from minihv.exits import IoOut
    from minihv.stats import Counter, SiteInfo

    body = textwrap.indent(counting_source(), "        ")
    code = (
        "def count(lane, key, exit, left, clock, self, calls):\n"
        f"    for _ in range(calls):\n{body}\n"
        "def nothing(calls):\n"
        "    for _ in range(calls):\n        pass\n"
    )
    names: dict[str, Any] = {}
    exec(compile(code, "<the run loop's counting>", "exec"), names)

    class Lane:
        counters: dict[object, Counter]

    def key(exit: IoOut) -> object:
        return exit.port, exit.size, exit.rip

    lane, exit = Lane(), IoOut(0x3F8, 1, 1, b"x", 0x100010)
    lane.counters = {key(exit): Counter(SiteInfo("io", "out", 0x3F8, 1, "serial.THR"))}
    clock = time.perf_counter_ns
    start = clock()
    names["count"](lane, key, exit, start, clock, None, CALLS)
    middle = clock()
    names["nothing"](CALLS)
    return ((middle - start) - (clock() - middle)) / CALLS


def _observers() -> dict[str, Callable[[], float]]:
    from minihv.exits import IoOut
    from minihv.machine.history import Track
    from minihv.machine.recorders import call_all
    from minihv.machine.timeline import Ring
    from minihv.machine.trace import Trace
    from minihv.stats import SiteInfo

    exit, info = IoOut(0x3F8, 1, 1, b"x", 0x100010), SiteInfo("io", "out", 0x3F8, 1, "serial.THR")

    def cost(make: Callable[[], Any]) -> Callable[[], float]:
        def once() -> float:
            observe = make()
            return _loop_ns(lambda n: observe(0, exit, info, n * 10_000, 1500))

        return once

    def trace() -> float:
        file = Trace(os.devnull)
        try:
            return _loop_ns(lambda n: file.write(0, exit, info, n * 10_000, 1500))
        finally:
            file.close()

    return {
        "history": cost(lambda: Track().add),
        "timeline and history": cost(lambda: call_all([Track().add, Ring(1 << 16).add])),
        "trace": trace,
    }
