"""What one case left behind on two judges, side by side, and whether it is the same as far as it must be."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from iced_x86 import Instruction

from minihv.verify import layout as at
from minihv.verify.case import Case, Result
from minihv.verify.instructions import decode
from minihv.verify.session import Outcome
from minihv.verify.undefined_flags import undefined_flags
from minihv.x86.registers import VECTOR_DB
from minihv.x86.state import GPR_NAMES

Fields = dict[str, int | bytes]


class Pair(NamedTuple):
    """One case with both results as fields: what an allowance looks at."""

    case: Case
    insn: Instruction
    judge: str
    theirs: Fields
    """The judge's: the real processor's."""
    ours: Fields
    """The engine's under test."""
    result: Result
    """The judge's, whole."""

    @property
    def faulted(self) -> bool:
        """The judge took an exception instead of the step trap."""
        return self.theirs["vector"] != VECTOR_DB


class Allowance(NamedTuple):
    """Something that may differ. `excuse` gives the names of the fields that it explains."""

    name: str
    why: str
    excuse: Callable[[Pair], set[str]]


def fields(result: Result) -> Fields:
    """A result by names a person can read."""
    found: Fields = {
        "vector": result.vector, "error": result.error, "cr2": result.cr2, "rip": result.rip,
        "cs": result.cs, "ss": result.ss, "rflags": result.rflags,
        "fs_base": result.fs_base, "gs_base": result.gs_base,
    }  # fmt: skip
    found.update(zip(GPR_NAMES, result.gpr, strict=True))
    found.update(zip(("ds", "es", "fs", "gs"), result.selectors, strict=True))
    fcw, fsw, ftw, fop, fip, fdp, mxcsr = struct.unpack_from("<HHBxHQQI", result.fx)
    found.update(fcw=fcw, fsw=fsw, ftw=ftw, fop=fop, fip=fip, fdp=fdp, mxcsr=mxcsr)
    for n in range(8):
        found[f"st{n}"] = int.from_bytes(result.fx[32 + 16 * n : 42 + 16 * n], "little")
    for n in range(16):
        found[f"xmm{n}"] = int.from_bytes(result.fx[160 + 16 * n : 176 + 16 * n], "little")
    found["window0"] = result.windows[: at.WINDOW0_SIZE]
    found["window1"] = result.windows[at.WINDOW0_SIZE :]
    return found


def differences(
    case: Case,
    judge: str,
    theirs: Outcome,
    ours: Outcome,
    allowances: tuple[Allowance, ...],
    strict: bool = False,
) -> list[str]:
    """Lines that tell what differs beyond what is allowed. `strict`: undefined flags count, too."""
    if theirs == ours:
        return []
    if isinstance(theirs, str) or isinstance(ours, str):
        return [f"{judge}: {_end(theirs)}; here: {_end(ours)}"]
    encoded = decode(case.code, case.bits, case.rip)
    if encoded is None:
        return ["the case is no instruction"]
    pair = Pair(case, encoded.insn, judge, fields(theirs), fields(ours), theirs)
    unequal = {name for name, value in pair.theirs.items() if value != pair.ours[name]}
    if "rflags" in unequal and not strict and not pair.faulted:
        mask = ~undefined_flags(pair.insn, case.gpr[1] & 0xFF)
        if _number(pair.theirs["rflags"]) & mask == _number(pair.ours["rflags"]) & mask:
            unequal.discard("rflags")
    for allowance in allowances:
        if not unequal:
            break
        unequal -= allowance.excuse(pair)
    return [_line(name, judge, pair) for name in pair.theirs if name in unequal]


def _end(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else f"vector {outcome.vector} at {outcome.rip:#x}"


def _number(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value


def _line(name: str, judge: str, pair: Pair) -> str:
    a, b = pair.theirs[name], pair.ours[name]
    if isinstance(a, bytes) and isinstance(b, bytes):
        n = next(n for n in range(len(a)) if a[n] != b[n])
        start = at.WINDOW0 if name == "window0" else at.WINDOW1
        return f"memory {start + n:#x}: {judge} {a[n : n + 16].hex()}, here {b[n : n + 16].hex()}"
    return f"{name}: {judge} {_number(a):#x}, here {_number(b):#x}"
