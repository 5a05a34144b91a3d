"""One run of the `out` loop through minihv's public library, in a process of its own; prints JSON.

python -m benchlib.worker plain|history|timeline|trace|clock|growth EXITS

- plain: wall time and CPU time of the vCPU's thread for EXITS exits, after a few to warm up.
- history, timeline, trace: the same with that recorder.
- clock: `fcntl.ioctl` is wrapped before minihv is imported, and sums the time between the return of one
  KVM_RUN and the call of the next, less what the wrapper itself costs (measured on the spot).
- growth: allocated blocks and resident memory are read after 10 % and after 90 % of the exits.
"""

import fcntl
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchlib.guests import MARK_PORT, WARM_UP, out_loop

KVM_RUN = 0xAE80
MEMORY = 4 << 20


RECORDERS: dict[str, dict[str, Any]] = {
    "history": {"history": True},
    "timeline": {"timeline": os.devnull},
    "trace": {"trace": os.devnull},
}
"""Mode -> what is recorded beside the counters."""


class RunClock:
    """Stands in for `fcntl.ioctl` and times the gaps between two calls of KVM_RUN."""

    def __init__(self, ioctl: Any) -> None:
        self._ioctl = ioctl
        self._left = 0
        self.outside_ns = 0
        self.gaps = 0

    def __call__(self, fd: int, request: int, *rest: Any) -> Any:
        called = time.perf_counter_ns()
        if request != KVM_RUN:
            return self._ioctl(fd, request, *rest)
        if self._left:
            self.outside_ns += called - self._left
            self.gaps += 1
        try:
            return self._ioctl(fd, request, *rest)
        finally:
            self._left = time.perf_counter_ns()


def wrapper_cost() -> float:
    """ns that a RunClock adds to each gap: what it measures around calls that do nothing in between."""
    clock = RunClock(lambda fd, request: 0)
    rounds = 20_000
    for _ in range(rounds):
        clock(0, KVM_RUN)
    return clock.outside_ns / clock.gaps


def resident() -> int:
    """Resident memory of this process in bytes (proc(5), /proc/pid/statm)."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(
    batches: tuple[int, ...], sample: Callable[[], tuple[int, int]], **recorders: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Run the loop: what the report says, and what `sample` gave on the vCPU's thread after each batch.

    `recorders` are fields of the config.
    """
    from minihv import Machine, MachineConfig

    samples: list[tuple[int, int]] = []
    config = MachineConfig(engine="kvm", memory=MEMORY, format="flat32", serial="null", **recorders)
    with Machine(config) as machine:
        machine.load(out_loop(*batches), "out-loop")
        machine.on_port(MARK_PORT, write=lambda value: samples.append(sample()))
        report = machine.run()
    vcpu = report.vcpus[0]
    return {"outcome": report.outcome.reason, "exits": vcpu.exits, "vmm_ns": vcpu.vmm_ns}, samples


def clocks() -> tuple[int, int]:
    """Wall and the calling thread's CPU time, in ns."""
    return time.perf_counter_ns(), time.thread_time_ns()


def allocations() -> tuple[int, int]:
    """Allocated blocks, and resident bytes."""
    gc.collect()
    return sys.getallocatedblocks(), resident()


def main(mode: str, exits: int) -> dict[str, Any]:
    """See the module's docstring."""
    if mode == "growth":
        tenth = exits // 10
        # The first sample makes the site of the handler; only the later ones are compared.
        found, samples = run((tenth // 2, tenth - tenth // 2, exits - 2 * tenth, tenth), allocations)
        (blocks, rss), (more_blocks, more_rss) = samples[1:3]
        return {**found, "between": exits - 2 * tenth, "blocks": more_blocks - blocks, "rss": more_rss - rss}
    clock = RunClock(fcntl.ioctl)
    if mode == "clock":
        fcntl.ioctl = clock  # type: ignore[assignment]
    recorders = RECORDERS.get(mode, {})
    found, [(wall, cpu), (wall_end, cpu_end)] = run((WARM_UP, exits), clocks, **recorders)
    found.update(wall_ns=wall_end - wall, cpu_ns=cpu_end - cpu)
    if mode == "clock":
        found.update(outside_ns=clock.outside_ns, gaps=clock.gaps, wrapper_ns=wrapper_cost())
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
