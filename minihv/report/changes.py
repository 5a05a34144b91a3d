"""`minihv stats A.json B.json`: what changed from one recorded run to another, by kind and by site."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from minihv.report.escape import visible
from minihv.report.model import Exits, Report

TOP = 12


class Change(NamedTuple):
    """One line of a comparison: counts and handling times (ns) before and after."""

    what: str
    before: int
    after: int
    before_ns: int = 0
    after_ns: int = 0

    @property
    def delta(self) -> int:
        return self.after - self.before


def changes(
    before: Exits, after: Exits, key: Callable[[Exits], Mapping[str, tuple[int, int]]]
) -> list[Change]:
    """What `key` names, with (count, ns), in either of two runs; the largest change of counts first."""
    old, new = key(before), key(after)
    found = []
    for what in dict.fromkeys((*old, *new)):
        (count, ns), (count_after, ns_after) = old.get(what, (0, 0)), new.get(what, (0, 0))
        found.append(Change(what, count, count_after, ns, ns_after))
    return sorted(found, key=lambda c: (-abs(c.delta), -c.after, c.what))


def by_kind(exits: Exits) -> dict[str, tuple[int, int]]:
    """Exit name -> (count, handling ns)."""
    return {name: (group.total, group.sum_ns) for name, group in exits.by("name").items()}


def by_detail(exits: Exits) -> dict[str, tuple[int, int]]:
    """ "io out 0x3f8 byte serial.THR" -> (count, handling ns)."""
    return {f"{e.name} {e.detail}": (e.count, e.sum_ns) for e in exits if e.detail}


def by_site(exits: Exits) -> dict[str, tuple[int, int]]:
    """Place and exit -> (count, handling ns). Places go by symbol where there is one: an address changes
    with every build."""
    found: dict[str, tuple[int, int]] = {}
    for site, e in exits.sites:
        key = f"{site.symbol or hex(site.address)}: {e.name} {e.detail}".rstrip()
        count, ns = found.get(key, (0, 0))
        found[key] = count + site.count, ns + site.sum_ns
    return found


def changes_text(a: Report, b: Report, name_a: str, name_b: str) -> str:
    """The whole comparison, ending in a newline."""
    lines = [*_runs(a, b, name_a, name_b), *_differences(a, b)]
    kinds = changes(a.exits, b.exits, by_kind)
    lines += ["", *_table("VM-EXIT", [c._replace(what=c.what.upper()) for c in kinds], len(kinds))]
    for title, key in (("what", by_detail), ("where", by_site)):
        changed = [c for c in changes(a.exits, b.exits, key) if c.delta]
        if changed:
            lines += ["", *_table(title, changed, TOP)]
    lines += _counters(a, b)
    lines += ["", _sentence(a, b, kinds)]
    return "\n".join(map(visible, lines)) + "\n"


def _runs(a: Report, b: Report, name_a: str, name_b: str) -> Iterator[str]:
    for label, name, r in (("A", name_a, a), ("B", name_b, b)):
        yield (
            f"{label}: {name}: {r.guest.get('name', '?')} on {r.engine}, {r.outcome.reason}, status "
            f"{r.outcome.status}, {r.total_exits} exits, {r.wall_ns / 1e6:.1f} ms"
        )


def _differences(a: Report, b: Report) -> Iterator[str]:
    """What makes a comparison of times doubtful."""
    pairs = {"engine": (a.engine, b.engine)}
    for group, left, right in (("guest", a.guest, b.guest), ("host", a.host, b.host)):
        for key in dict.fromkeys((*left, *right)):
            if key != "kvm_words":
                pairs[f"{group} {key}"] = str(left.get(key, "-")), str(right.get(key, "-"))
    for what, (old, new) in pairs.items():
        if old != new:
            yield f"Not the same: {what}: {old or '(none)'} in A, {new or '(none)'} in B."


def _table(title: str, rows: list[Change], top: int) -> Iterator[str]:
    yield f"{'A':>10} {'B':>10} {'change':>10} {'%':>8} {'time A':>11} {'time B':>11}  {title}"
    for c in rows[:top]:
        yield (
            f"{c.before:>10} {c.after:>10} {c.delta:>+10} {_share(c):>8} {c.before_ns / 1000:>9.1f}us "
            f"{c.after_ns / 1000:>9.1f}us  {c.what}"
        )
    if len(rows) > top:
        yield f"{'':>10} (+{len(rows) - top} more)"


def _share(c: Change) -> str:
    if not c.before:
        return "new" if c.after else "-"
    return f"{100 * c.delta / c.before:+.1f}%" if c.after else "gone"


def _counters(a: Report, b: Report) -> Iterator[str]:
    old, new = a.kernel_counters, b.kernel_counters
    found = [Change(n, old.get(n, 0), new.get(n, 0)) for n in dict.fromkeys((*old, *new))]
    changed = sorted((c for c in found if c.delta), key=lambda c: (-abs(c.delta), c.what))
    if changed:
        yield ""
        yield f"{'A':>20} {'B':>20} {'change':>20} {'%':>8}  counted by the engine"
    for c in changed[:TOP]:
        yield f"{c.before:>20} {c.after:>20} {c.delta:>+20} {_share(c):>8}  {c.what}"
    if len(changed) > TOP:
        yield f"{'':>20} (+{len(changed) - TOP} more)"


def _sentence(a: Report, b: Report, kinds: list[Change]) -> str:
    delta = b.total_exits - a.total_exits
    if not any(c.delta for c in kinds):
        details = [c for c in changes(a.exits, b.exits, by_detail) if c.delta]
        if not details:
            return f"The same exits: {a.total_exits} in both runs."
        return f"{a.total_exits} exits in both runs, but of other kinds: most changed {details[0].what}."
    share = f" ({100 * delta / a.total_exits:+.1f}%)" if a.total_exits else ""
    words = f"{abs(delta)} exits {'more' if delta > 0 else 'fewer'} than A" if delta else "as many exits as A"
    return f"B has {words}{share if delta else ''}; the largest change: {kinds[0].what}, {kinds[0].delta:+}."
