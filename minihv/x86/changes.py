"""What an instruction changed, in a few words: `rax=0x3, +PF -ZF`."""

from minihv.x86.registers import RFLAGS_NAMES
from minihv.x86.state import GPR_NAMES, SEGMENT_NAMES, CpuState

MOVING_MSRS = frozenset((0x10, 0xE7, 0xE8))
"""TSC, MPERF, APERF: they change without anybody's doing."""
_DEBUG = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
_XMM, _ST0 = 160, 32
"""Offsets in the XSAVE area (SDM Vol. 1, 13.4.1)."""


def changes(before: CpuState, after: CpuState) -> list[str]:
    """`name=value` for each register that changed, RIP and moving MSRs left out, and `+CF -ZF` for flags."""
    found = [f"{name}={new:#x}" for name, old, new in _numbers(before, after) if old != new]
    flags = _flags(before.rflags, after.rflags)
    if flags:
        found.append(flags)
    return found


def _numbers(before: CpuState, after: CpuState) -> list[tuple[str, int, int]]:
    """(name, old, new) of everything that may have changed."""
    rows = list(zip(GPR_NAMES, before.gpr, after.gpr, strict=True))
    for name in (*SEGMENT_NAMES, "ldtr", "tr"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            rows.append((name, old.selector, new.selector))
            rows.append((f"{name}.base", old.base, new.base))
    for name in ("gdtr", "idtr"):
        rows.append((f"{name}.base", getattr(before, name).base, getattr(after, name).base))
    rows += [
        (name, getattr(before, name), getattr(after, name))
        for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "xcr0")
    ]
    rows += zip(_DEBUG, before.dr, after.dr, strict=True)
    if before.msrs != after.msrs:
        for index, value in after.msrs.items():
            if index not in MOVING_MSRS:
                rows.append((f"msr[{index:#x}]", before.msrs.get(index, 0), value))
    if before.xsave != after.xsave:
        rows += _floating(before.xsave, after.xsave)
    return rows


def _floating(before: bytes, after: bytes) -> list[tuple[str, int, int]]:
    """The control words, ST0 and the XMM registers; the deeper stack only moves along."""

    def row(name: str, at: int, size: int) -> tuple[str, int, int]:
        old, new = (int.from_bytes(area[at : at + size], "little") for area in (before, after))
        return name, old, new

    words = [row("fcw", 0, 2), row("fsw", 2, 2), row("mxcsr", 24, 4), row("st0", _ST0, 10)]
    return words + [row(f"xmm{n}", _XMM + 16 * n, 16) for n in range(16)]


def _flags(before: int, after: int) -> str:
    changed = before ^ after
    if not changed:
        return ""
    return " ".join(
        ("+" if after & bit else "-") + name for bit, name in sorted(RFLAGS_NAMES.items()) if changed & bit
    )
