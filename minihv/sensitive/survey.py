"""The whole of `minihv sensitive`: a process of the host, then every engine."""

from collections.abc import Mapping, Sequence

from minihv.sensitive.guest import run_guest
from minihv.sensitive.model import SensitiveReport, Subject
from minihv.sensitive.native import run_native


def take(
    engines: Sequence[str], *, native: bool = True, passed_over: Mapping[str, str] | None = None
) -> SensitiveReport:
    """Run everything once. Raises what starting a machine raises."""
    subjects: list[Subject] = [run_native()] if native else []
    host: dict[str, str] = {}
    for engine in engines:
        seen, described = run_guest(engine)
        subjects += seen
        host = {**described, **host}
    return SensitiveReport(host, tuple(subjects), passed_over or {})
