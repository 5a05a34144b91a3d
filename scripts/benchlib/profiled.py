"""The vCPU thread under cProfile: python -m benchlib.profiled EXITS. Shows shares, not costs."""

import cProfile
import pstats
import sys
import threading

from benchlib.worker import clocks, run


def main(exits: int) -> None:
    """Profile every thread that the run starts, and print the functions with most time of their own."""
    profiles: list[cProfile.Profile] = []
    body = threading.Thread.run

    def profiled_body(thread: threading.Thread) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.runcall(body, thread)

    setattr(threading.Thread, "run", profiled_body)  # noqa: B010 (mypy refuses the plain assignment)
    run((exits,), clocks)
    stats = pstats.Stats(*profiles, stream=sys.stdout)
    stats.sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main(int(sys.argv[1]))
