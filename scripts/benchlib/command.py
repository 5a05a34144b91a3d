"""The command line of scripts/bench."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchlib import exits, firstexit, interpreter, recorders, rss, start
from benchlib.host import describe, lacks_kvm
from benchlib.process import BenchError
from benchlib.result import Result

SCHEMA = "minihv.bench/1"
ROUNDS = 5
BENCHMARKS: dict[str, Callable[[int, bool], Result]] = {
    "exits": exits.measure,
    "start": start.measure,
    "first-exit": firstexit.measure,
    "rss": rss.measure,
    "interpreter": interpreter.measure,
    "recorders": recorders.measure,
}
NEEDS_NO_KVM = frozenset(("interpreter", "recorders"))
HELP = """\
Measures minihv against programs that do the same job, here and now.

Everything that is compared is measured in turns (A B A B ...) in one run; a ratio is the median of the
rounds' ratios or of the medians, as its line says. Compare numbers of one run only: a shared host changes
its speed from minute to minute, and the spread (highest less lowest, by median) shows it.

  exits       A guest writes 200 000 bytes to COM1: minihv's library with statistics on (as always), and
              a minimal C program (benchlib/out_loop.c, compiled by gcc) with the same guest and the same
              interrupt controllers. The VMM time, from the return of one KVM_RUN to the next call, is
              found in three ways: minihv's time less C's, plus what C itself spends there; a clock
              around ioctl; minihv's own report. Allocated blocks and resident memory must not grow.
  start       `minihv run hello64` from process start to end, and qemu-system-x86_64 -M microvm -accel kvm
              -cpu qemu64 with a guest of the same loop and bytes that ends through isa-debug-exit. The
              plain microvm is the target's; a stripped one (no option ROMs, PIT, PIC, RTC) is shown too.
  first-exit  Machine() to the first exit of hello64 in a warm process, through the library.
  rss         Peak resident memory of `minihv run hello64` and `minihv run primes`.
  interpreter Guest instructions a second on four kernels: minihv's interpreter and Unicorn without hooks,
              both from nothing to HLT; and how long Python's bare loop takes on this host.
  recorders   What is added to an exit by the counters that are always on, by --stats-json's history, by
              --timeline and by --trace: their code alone (the counters' is the run loop's own source), and
              the vCPU thread's CPU time of whole runs with each less that of runs without.

What cannot run here (no /dev/kvm, gcc, qemu) says so. The exit status is 0 when everything that could be
measured was, targets held or not; 1 when a benchmark failed; 2 for a wrong argument.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the process's exit status."""
    options = _parse(arguments)
    machine = describe()
    for key, words in machine.items():
        print(f"{key:8} {words}")
    reason = lacks_kvm()
    if reason is not None:
        print(f"what needs KVM cannot be measured here: {reason}")
    results: list[Result] = []
    failed = False
    for name in options.only or BENCHMARKS:
        if reason is not None and name not in NEEDS_NO_KVM:
            result = Result(name, "needs KVM", missing=[reason])
        else:
            try:
                result = BENCHMARKS[name](options.rounds, options.explain)
            except BenchError as error:
                failed = True
                result = Result(name, "failed", missing=[str(error)])
        results.append(result)
        print()
        for line in result.lines():
            print(line, flush=True)
    if options.json is not None:
        found = {
            "schema": SCHEMA,
            "machine": machine,
            "rounds": options.rounds,
            "benchmarks": [result.to_dict() for result in results],
        }
        try:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        except OSError as error:
            print(
                f"{options.json}: cannot be written: {error.strerror}; choose another file", file=sys.stderr
            )
            return 1
    return int(failed)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(BENCHMARKS),
        metavar="NAME",
        help=f"only this benchmark ({', '.join(BENCHMARKS)}); may be repeated",
    )
    parser.add_argument(
        "--rounds", type=_positive, default=ROUNDS, help=f"rounds of each benchmark (default {ROUNDS})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as one JSON object")
    parser.add_argument(
        "--explain", action="store_true", help="add the dearest imports (start) and a profile (exits)"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more rounds, found {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
