"""What a benchmark found: series, claims against targets, and remarks; as text and as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchlib.sample import Series


@dataclass(frozen=True)
class Claim:
    """One number against its target. `target` None: just reported, or no target applies on this host."""

    what: str
    value: float
    unit: str
    target: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the number is at most the target; None without one."""
        return None if self.target is None else self.value <= self.target

    def to_dict(self) -> dict[str, object]:
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "holds": self.holds,
        }


@dataclass
class Result:
    """Of one benchmark. `missing` says why it, or a part of it, cannot run here."""

    name: str
    title: str
    series: list[Series] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "title": self.title,
            "series": [s.to_dict() for s in self.series],
            "claims": [c.to_dict() for c in self.claims],
            "notes": self.notes,
            "missing": self.missing,
        }

    def lines(self) -> Iterator[str]:
        """The text form."""
        yield f"{self.name}: {self.title}"
        for reason in self.missing:
            yield f"  not measured: {reason}"
        if self.series:
            yield f"  {'':52}{'median':>11}{'min':>11}{'max':>11}{'spread':>8}{'rounds':>8}"
        for s in self.series:
            numbers = "".join(f"{number(v):>11}" for v in (s.median, s.low, s.high))
            yield f"  {s.label + ', ' + s.unit:52}{numbers}{s.spread:>8.0%}{len(s.values):>8}"
        for claim in self.claims:
            yield f"  {_verdict(claim)}"
        for note in self.notes:
            yield f"  {note}"


def number(value: float) -> str:
    """Three significant digits or more, never an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(claim: Claim) -> str:
    text = f"{claim.what}: {number(claim.value)} {claim.unit}"
    if claim.target is None:
        return f"     -  {text}"
    return f"{'  holds' if claim.holds else ' MISSED'} {text} (target: at most {number(claim.target)})"
