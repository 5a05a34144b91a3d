"""Peak resident memory of a whole run, guest memory that was touched included."""

from functools import partial

from benchlib.process import console_script, peak_rss
from benchlib.result import Claim, Result
from benchlib.sample import interleave, series

GUESTS = ("hello64", "primes")
MAX_MIB = 60.0


def measure(rounds: int, explain: bool) -> Result:
    """See --help. There is nothing more to explain."""
    result = Result("rss", "peak resident memory of `minihv run`, the guest's touched pages included")
    script = console_script()

    once = {guest: partial(peak_rss, [script, "run", guest], 0) for guest in GUESTS}
    taken = interleave(rounds, once, warm_up=False)
    for guest in GUESTS:
        peak = series(guest, "MiB", taken[guest], 1 / (1 << 20))
        result.series.append(peak)
        result.claims.append(Claim(f"peak resident memory, {guest}", peak.high, "MiB", MAX_MIB))
    return result
