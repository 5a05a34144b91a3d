"""The random tester as a whole: cases for all subjects, through judges and engines, differences collected."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from minihv.engine.select import ENGINES
from minihv.errors import CannotStart, EngineUnavailable
from minihv.verify import layout as at
from minihv.verify.allowances import ALLOWANCES
from minihv.verify.case import Case
from minihv.verify.compare import differences
from minihv.verify.features import claimed_codes, claimed_features, code_names
from minihv.verify.generate import Generator, Subject
from minihv.verify.native import why_not_native
from minihv.verify.session import NATIVE, Outcome, Session
from minihv.verify.subjects import subjects

CHUNK = 4 * at.BATCH


class Failure(NamedTuple):
    """One case whose results differ, and how."""

    name: str
    """Of the iced-x86 code."""
    case: Case
    lines: list[str]


class Tally(NamedTuple):
    """What a campaign did."""

    cases: int
    by_subject: Counter[Subject]
    vectors: Counter[int]
    """How the cases ended, by the judge."""
    failures: list[Failure]
    seconds: float
    unsteady: list[int]
    """One number: results of a judge that did not come again when the same cases ran again."""


def judges(bits: int, wanted: Sequence[str] = ()) -> list[str]:
    """The judges that this host has for code of `bits` bits, the best first.

    On a PVM host KVM emulates 32-bit code of a guest, so only the native process judges that.
    """
    found = [NATIVE] if why_not_native() is None else []
    if bits == 64 and ENGINES["kvm"].probe() is None:
        found.append("kvm")
    return [name for name in wanted or found if name in found]


class Campaign:
    """A context manager that holds one session for each judge and for the engine under test."""

    def __init__(self, engine: str = "interpret", judge: Sequence[str] = (), strict: bool = False) -> None:
        """`judge`: only these of "native" and "kvm". Raises EngineUnavailable where there is no judge."""
        self._stack = ExitStack()
        self.strict = strict
        self.engine = self._stack.enter_context(Session(engine))
        self.judges: dict[int, list[Session]] = {}
        open_sessions: dict[str, Session] = {}
        for bits in (64, 32):
            self.judges[bits] = [
                open_sessions.setdefault(name, Session(name)) for name in judges(bits, judge)
            ]
        for session in open_sessions.values():
            self._stack.enter_context(session)
        if not open_sessions:
            raise EngineUnavailable(
                "expected a processor to compare with, found none; use x86-64 Linux, or a host with /dev/kvm"
            )
        self.names = code_names()
        self.features = claimed_features(self.engine)
        self.missing_here = self.features - claimed_features(next(iter(open_sessions.values())))
        """Features that the engine claims and this host's processor lacks: they cannot be judged here."""
        codes = claimed_codes(self.features - self.missing_here)
        self.subjects = [subject for subject in subjects(codes) if self.judges[subject.bits]]

    def run(
        self, cases: int, seed: int, only: Sequence[str] = (), stop_after: int = 100,
        progress: Callable[[Tally], None] | None = None,
    ) -> Tally:  # fmt: skip
        """At least `cases` random cases, spread evenly over all subjects (or those whose name starts like
        one of `only`), ending early after `stop_after` failures."""
        chosen = [s for s in self.subjects if self._matches(s, only)]
        generator = Generator(frozenset(self.subjects), seed)
        tally = Tally(0, Counter(), Counter(), [], 0.0, [0])
        started = time.perf_counter()
        source = self._endless(chosen, generator) if chosen else iter(())
        while tally.cases < cases and len(tally.failures) < stop_after and chosen:
            chunk = [next(source) for _ in range(min(CHUNK, cases - tally.cases))]
            self._chunk(chunk, tally)
            tally = tally._replace(cases=tally.cases + len(chunk), seconds=time.perf_counter() - started)
            if progress is not None:
                progress(tally)
        return tally

    def check(self, cases: Sequence[Case]) -> list[Failure]:
        """The failures among given cases."""
        tally = Tally(0, Counter(), Counter(), [], 0.0, [0])
        self._chunk([(Subject(0, case.bits), case) for case in cases], tally)
        return tally.failures

    def differs(self, case: Case) -> list[str]:
        """How the results of one case differ; empty where they do not."""
        return [line for failure in self.check([case]) for line in failure.lines]

    def _matches(self, subject: Subject, only: Sequence[str]) -> bool:
        name = self.names[subject.code]
        return not only or any(name == word.upper() or name.startswith(word.upper() + "_") for word in only)

    def _endless(self, chosen: Sequence[Subject], generator: Generator) -> Iterator[tuple[Subject, Case]]:
        while True:
            got = False
            for subject in chosen:
                case = generator.case(subject)
                if case is not None:
                    got = True
                    yield subject, case
            if not got:
                raise CannotStart("none of the chosen instructions can be encoded")

    def _chunk(self, chunk: Sequence[tuple[Subject, Case]], tally: Tally) -> None:
        for bits, sessions in self.judges.items():
            part = [(subject, case) for subject, case in chunk if case.bits == bits]
            if not part or not sessions:
                continue
            cases = [case for _, case in part]
            ours = self.engine.run(cases)
            tally.by_subject.update(subject for subject, _ in part)
            for number, session in enumerate(sessions):
                theirs = session.run(cases)
                if not number:
                    tally.vectors.update(-1 if isinstance(r, str) else r.vector for r in theirs)
                failures = list(self._failures(part, session.name, theirs, ours))
                if failures:
                    # A host that interrupts at a bad moment may spoil a result; what is wrong stays wrong.
                    again = {f.case for f in self._failures(part, session.name, session.run(cases), ours)}
                    tally.unsteady[0] += sum(f.case not in again for f in failures)
                    failures = [f for f in failures if f.case in again]
                tally.failures.extend(failures)

    def _failures(
        self, part: Sequence[tuple[Subject, Case]], judge: str, theirs: Sequence[Outcome],
        ours: Sequence[Outcome],
    ) -> Iterator[Failure]:  # fmt: skip
        for (subject, case), a, b in zip(part, theirs, ours, strict=True):
            lines = differences(case, judge, a, b, ALLOWANCES, self.strict)
            if lines:
                yield Failure(self.names[subject.code], case, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
