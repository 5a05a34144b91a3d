"""One run of the `out` loop through minihv's public library, in a process of its own; prints JSON.

python -m benchlib.worker plain|clock|growth EXITS

- plain: nothing but the run.
- clock: `fcntl.ioctl` is wrapped before minihv is imported, and sums the time between the return of one
  KVM_RUN and the call of the next, less what the wrapper itself costs (measured on the spot).
- growth: allocated blocks and resident memory are read after 10 %, 90 % and 100 % of the exits.
"""

import fcntl
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchlib.guests import MARK_PORT, out_loop

KVM_RUN = 0xAE80
MEMORY = 4 << 20


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


def run(batches: tuple[int, ...], marks: list[tuple[int, int]] | None = None) -> dict[str, Any]:
    """Run the loop; with `marks`, append (allocated blocks, resident bytes) after each batch."""
    from minihv import Machine, MachineConfig

    config = MachineConfig(engine="kvm", memory=MEMORY, format="flat32", serial="null")
    with Machine(config) as machine:
        machine.load(out_loop(*batches), "out-loop")
        if marks is not None:

            def mark(value: int) -> None:
                gc.collect()
                marks.append((sys.getallocatedblocks(), resident()))

            machine.on_port(MARK_PORT, write=mark)
        cpu = time.process_time_ns()
        report = machine.run()
        cpu = time.process_time_ns() - cpu
    vcpu = report.vcpus[0]
    return {
        "outcome": report.outcome.reason,
        "exits": vcpu.exits,
        "wall_ns": report.wall_ns,
        "cpu_ns": cpu,
        "vmm_ns": vcpu.vmm_ns,
    }


def main(mode: str, exits: int) -> dict[str, Any]:
    """See the module's docstring."""
    if mode == "plain":
        return run((exits,))
    if mode == "clock":
        clock = RunClock(fcntl.ioctl)
        fcntl.ioctl = clock  # type: ignore[assignment]
        found = run((exits,))
        return {**found, "outside_ns": clock.outside_ns, "gaps": clock.gaps, "wrapper_ns": wrapper_cost()}
    assert mode == "growth", mode
    tenth = exits // 10
    marks: list[tuple[int, int]] = []
    # The first mark makes the site of the handler; only the later ones are compared.
    found = run((tenth // 2, tenth - tenth // 2, exits - 2 * tenth, tenth), marks)
    (_, early, late, _), between = marks, exits - 2 * tenth
    return {**found, "between": between, "blocks": late[0] - early[0], "rss": late[1] - early[1]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
