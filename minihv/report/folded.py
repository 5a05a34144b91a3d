"""--folded: stacks for flame graphs, one a line: guest symbol;exit;device count."""

from minihv.report.escape import visible
from minihv.report.model import Report


def folded(report: Report) -> str:
    """The whole file. Places without a symbol go by their address."""
    lines: dict[str, int] = {}
    for site, e in report.exits.sites:
        place = site.symbol.rpartition("+0x")[0] or site.symbol or f"{site.address:#x}"
        frames = [place, f"{e.name} {e.direction}".strip(), e.register or "-"]
        stack = ";".join(_frame(frame) for frame in frames)
        lines[stack] = lines.get(stack, 0) + site.count
    return "".join(f"{stack} {count}\n" for stack, count in sorted(lines.items()))


def _frame(text: str) -> str:
    """A frame's name without what the format gives a meaning."""
    return visible(text).replace(";", ":").strip() or "-"
