"""The sentences under the table. Each follows from what was seen, and is left out where it does not."""

from collections.abc import Iterator

from minihv.sensitive.instructions import INSTRUCTIONS
from minihv.sensitive.model import NATIVE, SensitiveReport, Subject
from minihv.sensitive.words import IF, LINUX_UMIP_VALUES, exception_name

FULL_ACCESS = {"popf": IF, "verr": 1, "verw": 1}
"""What a kernel expects: flags that obey, segments that may be read and written."""
GUEST_USER_CODE = 0x23
"""USER_CODE of guests/lib/guest.h."""
SELECTORS = ("push", "call", "jmp", "mov")
"""Instructions whose value carries the privilege level that the processor runs at."""


def conclusions(report: SensitiveReport) -> list[str]:
    """All of them, in the order of the argument."""
    found: list[str] = []
    for make in (_silent, _umip, _kernels, _users, _leaks, _helpers, _exits, _missing):
        found += make(report)
    return found


def _silent(report: SensitiveReport) -> Iterator[str]:
    native = report.subject(NATIVE, 3)
    if native is None:
        return
    trapped = [
        f"{i.name} ({exception_name(vector)})"
        for i in INSTRUCTIONS
        if i.name in native.seen and (vector := native.seen[i.name].vector) is not None
    ]
    quiet = len(native.seen) - len(trapped)
    yield (
        f"Natively, at ring 3, {quiet} of {len(native.seen)} did something else than in ring 0 or told what "
        "only ring 0 should know, and did not trap: a VMM that waits for traps never hears of them. "
        f"Trapped: {', '.join(trapped) or 'none'}."
    )


def _umip(report: SensitiveReport) -> Iterator[str]:
    native = report.subject(NATIVE, 3)
    if native is None or "sgdt" not in native.seen:
        return
    seen = native.seen["sgdt"]
    if seen.vector is not None:
        yield "UMIP is on: sgdt traps at ring 3, as it should always have; that came in 2017."
    elif seen.value in LINUX_UMIP_VALUES:
        yield (
            "UMIP is on: the processor did trap at sgdt, sidt, sldt, smsw and str, and Linux answered with "
            f"values of its own making ({seen.value:#x} is no GDT), so that old programs go on. This is "
            "trap-and-emulate at last, for five of them; the others have no such switch."
        )
    else:
        yield f"UMIP is off: sgdt at ring 3 told where this kernel's GDT is, {seen.value:#x}."


def _kernels(report: SensitiveReport) -> Iterator[str]:
    believing = [name for name in report.engines if (s := report.subject(name, 0)) and _is_kernel(s)]
    if believing:
        yield (
            f"On {' and '.join(believing)} a guest's kernel in ring 0 sees what a kernel expects: its own "
            "tables, RPL 0, flags that obey. Its engine does not depend on traps at these instructions."
        )
    for name in report.engines:
        subject = report.subject(name, 0)
        if subject is not None and not _is_kernel(subject):
            yield f"On {name} a guest's kernel can tell that it is not in ring 0 of a machine of its own."


def _is_kernel(subject: Subject) -> bool:
    """Whether ring 0 of a guest looks like ring 0."""
    seen = subject.seen
    access = all(name in seen and seen[name].value == value for name, value in FULL_ACCESS.items())
    rings = all(name in seen and not seen[name].value & 3 for name in SELECTORS)
    return access and rings and all(one.vector is None for one in seen.values())


def _users(report: SensitiveReport) -> Iterator[str]:
    kept = [name for name in report.engines if (s := report.subject(name, 3)) and _keeps_if(s)]
    if kept:
        yield (
            f"On {' and '.join(kept)} popf in the guest's ring 3 kept the interrupt flag and did not trap: "
            "what would befall a kernel that trap-and-emulate moves there."
        )


def _keeps_if(subject: Subject) -> bool:
    seen = subject.seen.get("popf")
    return seen is not None and seen.vector is None and not seen.value & IF


def _leaks(report: SensitiveReport) -> Iterator[str]:
    """Where ring 3 runs on the processor under somebody else's tables, it sees these."""
    native = report.subject(NATIVE, 3)
    for name in report.engines:
        kernel, user = report.subject(name, 0), report.subject(name, 3)
        if kernel is None or user is None or not {"mov", "pushf"} <= user.seen.keys() & kernel.seen.keys():
            continue
        selector = user.seen["mov"].value
        if native is not None and selector == native.seen["mov"].value != GUEST_USER_CODE:
            yield (
                f"On {name} the guest's ring 3 finds {selector:#x} in CS, the host's selector; its "
                f"own kernel gave it {GUEST_USER_CODE:#x}. The host's privilege levels show through."
            )
        if user.seen["pushf"].value & IF and not kernel.seen["pushf"].value & IF:
            yield (
                f"On {name} pushf in ring 3 shows IF 1 while the guest runs with IF 0: the processor's flag, "
                "which the host keeps set."
            )


def _helpers(report: SensitiveReport) -> Iterator[str]:
    for name in report.engines:
        subject = report.subject(name, 0)
        if subject is not None and subject.helped:
            yield (
                f"On {name} minihv's interpreter had to execute {', '.join(subject.helped)}: the engine gave "
                "up there."
            )


def _exits(report: SensitiveReport) -> Iterator[str]:
    quiet = [name for name in report.engines if (s := report.subject(name, 0)) and not s.exits]
    if quiet:
        yield f"On {' and '.join(quiet)} none of them left the guest for minihv."
    for name in report.engines:
        subject = report.subject(name, 0)
        if subject is not None and subject.exits:
            yield f"On {name} they left the guest for minihv {subject.exits} times."


def _missing(report: SensitiveReport) -> Iterator[str]:
    for why, names in _by_reason(report).items():
        yield f"{' and '.join(names)}: {why}."
    for name, why in report.passed_over.items():
        yield f"Engine {name} was passed over: {why}."


def _by_reason(report: SensitiveReport) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for subject in report.subjects:
        if subject.why:
            found.setdefault(subject.why, []).append(subject.name)
    return found
