"""From the construction of a Machine to its guest's first exit, in a process that has run one before."""

import time

from benchlib.process import BenchError
from benchlib.result import Claim, Result
from benchlib.sample import interleave, series

RUNS_A_ROUND = 4
"""5 rounds give the 20 measurements of the target."""
MAX_MS = 5.0


class FirstByte:
    """A console that notes when its first byte arrived: hello64's first exit is a byte to COM1."""

    def __init__(self) -> None:
        self.at_ns = 0

    def write(self, data: bytes, /) -> None:
        """Take `data`."""
        if not self.at_ns:
            self.at_ns = time.perf_counter_ns()


def measure(rounds: int, explain: bool) -> Result:
    """See --help. There is nothing more to explain."""
    result = Result("first-exit", "Machine() to the first exit of hello64, in a warm process")
    taken = interleave(rounds * RUNS_A_ROUND, {"minihv": _once})["minihv"]
    times = series("minihv", "ms", taken, 1e-6)
    result.series.append(times)
    result.claims.append(Claim(f"first exit, median of {len(taken)}", times.median, "ms", MAX_MS))
    return result


def _once() -> int:
    from minihv import Machine, MachineConfig

    first = FirstByte()
    started = time.perf_counter_ns()
    with Machine(MachineConfig(engine="kvm"), console=first) as machine:
        report = machine.load("hello64").run()
    if not first.at_ns or report.outcome.reason != "exit":
        raise BenchError(f"expected hello64 to print and exit, found {report.outcome}")
    return first.at_ns - started
