"""What was seen: plain frozen data, and its JSON form ("minihv.sensitive/1").

schema        "minihv.sensitive/1"
citation      whose list it is
host          what stands behind the engines: kvm, kvm_words, cpu, kernel ...
subjects[]    name, where ("native" or the engine), ring, why ("" or why there is nothing to see)
instructions[] name, shown, kind, why, original, seen {subject: {value, vector, words} or null}
passed_over   engines that do not work here -> why
conclusions[] sentences that follow
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from minihv.sensitive.instructions import CITATION, INSTRUCTIONS

SCHEMA = "minihv.sensitive/1"
NATIVE = "native"


class Seen(NamedTuple):
    """What one instruction saw: a value, or the vector of the exception that it ended in."""

    value: int
    vector: int | None


class Subject(NamedTuple):
    """Somebody who tried them all in one ring."""

    where: str
    """NATIVE, or an engine's name."""
    ring: int
    seen: Mapping[str, Seen]
    why: str = ""
    """Why there is nothing to see, or not everything."""
    helped: tuple[str, ...] = ()
    """Instructions that the engine gave up and minihv's interpreter executed, as disassembled."""
    exits: int = 0
    """Exits to minihv that were neither console output nor the end, both rings together."""

    @property
    def name(self) -> str:
        return f"{self.where} ring {self.ring}"


class SensitiveReport(NamedTuple):
    """Everything that `minihv sensitive` found."""

    host: Mapping[str, str]
    subjects: tuple[Subject, ...]
    passed_over: Mapping[str, str]

    def subject(self, where: str, ring: int) -> Subject | None:
        """The one of that place and ring, if it saw anything."""
        return next((s for s in self.subjects if (s.where, s.ring) == (where, ring) and s.seen), None)

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that were asked."""
        return tuple(dict.fromkeys(s.where for s in self.subjects if s.where != NATIVE))

    def to_dict(self) -> dict[str, Any]:
        """The object that --json writes."""
        from minihv.sensitive.conclusions import conclusions
        from minihv.sensitive.words import seen_words

        def one(subject: Subject, name: str, kind: str) -> dict[str, Any] | None:
            seen = subject.seen.get(name)
            if seen is None:
                return None
            words = seen_words(kind, seen, subject.where == NATIVE)
            return {"value": seen.value, "vector": seen.vector, "words": words}

        return {
            "schema": SCHEMA,
            "citation": CITATION,
            "host": dict(self.host),
            "subjects": [
                {"name": s.name, "where": s.where, "ring": s.ring, "why": s.why, "helped": list(s.helped)}
                for s in self.subjects
            ],
            "instructions": [
                {**i._asdict(), "seen": {s.name: one(s, i.name, i.kind) for s in self.subjects}}
                for i in INSTRUCTIONS
            ],
            "passed_over": dict(self.passed_over),
            "conclusions": conclusions(self),
        }
