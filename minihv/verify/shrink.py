"""Make a failing case simpler as long as it fails: what is left is what matters."""

from collections.abc import Callable, Iterator

from minihv.verify.case import Case
from minihv.verify.instructions import decode

_FX_PARTS = ((32, 160), *((160 + 16 * n, 176 + 16 * n) for n in range(16)), (24, 28), (0, 8))
_FX_INITIAL = bytes.fromhex("7f03") + bytes(22) + (0x1F80).to_bytes(4, "little") + bytes(484)


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The simplest case found that `fails` still says yes to; one pass over everything, twice."""
    for _ in range(2):
        before = case
        for attempt in _attempts(case):
            candidate = attempt(case)
            if candidate is not None and candidate != case and fails(candidate):
                case = candidate
        if case == before:
            break
    return case


Attempt = Callable[[Case], Case | None]


def _attempts(case: Case) -> Iterator[Attempt]:
    for _ in range(len(case.code) - 1):
        yield _without_prefix
    yield lambda c: c._replace(rflags=0x202)
    for bit in (0, 2, 4, 6, 7, 10, 11, 14, 18, 21):
        yield lambda c, bit=bit: c._replace(rflags=c.rflags & ~(1 << bit))  # type: ignore[misc]
    yield lambda c: c._replace(fs_base=0)
    yield lambda c: c._replace(gs_base=0)
    for start, end in _FX_PARTS:
        yield (
            lambda c, a=start, b=end: c._replace(  # type: ignore[misc]
                fx=c.fx[:a] + _FX_INITIAL[a:b] + c.fx[b:]
            )
        )
    for n in range(16):
        yield lambda c, n=n: c._replace(gpr=(*c.gpr[:n], 0, *c.gpr[n + 1 :]))  # type: ignore[misc]
    for size in (512, 128, 16):
        for start in range(0, len(case.windows), size):
            yield (
                lambda c, a=start, n=size: c._replace(  # type: ignore[misc]
                    windows=c.windows[:a] + bytes(n) + c.windows[a + n :]
                )
            )


def _without_prefix(case: Case) -> Case | None:
    """The first byte left out, if it is a legacy prefix and what remains is the same kind of instruction."""
    if case.code[0] not in b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65":
        return None
    old, new = decode(case.code, case.bits, case.rip), decode(case.code[1:], case.bits, case.rip)
    if old is None or new is None or old.insn.mnemonic != new.insn.mnemonic:
        return None
    return case._replace(code=case.code[1:])
