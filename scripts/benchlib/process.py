"""Child processes: their wall time from start to end, their output, their peak memory."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

TIMEOUT = 120.0
"""Seconds after which a child that does not end is killed and the benchmark fails."""


class BenchError(Exception):
    """A benchmark's own run went wrong: what was expected, what was found."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended; `wall_ns` from before its start until it was waited for, `cpu_ns` its own
    user and system time (which a busy host disturbs less)."""

    wall_ns: int
    cpu_ns: int
    status: int
    output: bytes


def timed(command: Sequence[str], expect: bytes, status: int) -> Ended:
    """Run `command` without input; raises BenchError unless it prints `expect` and ends with `status`.

    Output goes to an unlinked file: a pipe would make the child wait for this process to be scheduled.
    """
    with TemporaryFile() as out, TemporaryFile() as err:
        cpu, started = _children_cpu(), time.perf_counter_ns()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=TIMEOUT, check=False
        )
        wall = time.perf_counter_ns() - started
        ended = Ended(wall, _children_cpu() - cpu, done.returncode, _content(out.fileno()))
        if ended.status != status or ended.output != expect:
            raise BenchError(
                f"{command[0]}: expected status {status} and {expect!r}, found {ended.status} and "
                f"{ended.output[-200:]!r}; stderr: {_content(err.fileno())[-500:].decode(errors='replace')}"
            )
        return ended


def _children_cpu() -> int:
    """User and system time of all children that were waited for, in ns."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def _content(fd: int) -> bytes:
    return os.pread(fd, 1 << 20, 0)


_PEAK = """
import os, sys
null = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def peak_rss(command: Sequence[str], status: int) -> int:
    """Peak resident set in bytes of `command`. Raises BenchError unless it ends with `status`.

    Linux starts a child's peak with that of the process that spawned it, so a small one does the spawning.
    """
    helper = [sys.executable, "-I", "-S", "-c", _PEAK, *command]
    done = subprocess.run(helper, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    fields = done.stdout.split()
    if done.returncode or len(fields) != 2 or int(fields[0]) != status:
        raise BenchError(
            f"{command[0]}: expected status {status}, found {done.stdout!r} {done.stderr[-500:]}"
        )
    return int(fields[1]) * 1024


def run_json(command: Sequence[str]) -> Any:
    """The JSON object that `command` prints. Raises BenchError."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:].strip()}")
    return json.loads(done.stdout)


def console_script() -> str:
    """`minihv` of the environment that runs the benchmark. Raises BenchError where there is none."""
    path = Path(sys.executable).with_name("minihv")
    if not path.exists():
        raise BenchError(
            f"expected the console script {path}, found none; install minihv into this environment"
        )
    return str(path)
