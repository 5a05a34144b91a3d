"""What the random tester tries: every claimed instruction that ring 3 may execute, and why not the rest."""

from collections.abc import Iterable, Mapping

from iced_x86 import OpCodeInfo

from minihv.verify.features import code_names
from minihv.verify.generate import Subject

LEFT_OUT: Mapping[str, str] = {
    "CPUID": "its results are the machine's own",
    "RDTSC": "time",
    "RDTSCP": "time",
    "RDPMC": "counters of the host",
    "RDPID": "IA32_TSC_AUX is the host's in ring 3 under PVM",
    "XGETBV": "XCR0 is the host's in ring 3 under PVM",
    "SYSCALL": "goes to ring 0, or to the host's kernel",
    "SYSENTER": "goes to ring 0, or to the host's kernel",
    "SYSEXITD": "a KVM below this host's kernel emulates it on #UD, with #GP",
    "SYSEXITQ": "as SYSEXITD",
    "SGDT": "a host with UMIP answers for it",
    "SIDT": "a host with UMIP answers for it",
    "SLDT": "a host with UMIP answers for it",
    "SMSW": "a host with UMIP answers for it",
    "STR": "a host with UMIP answers for it",
    "INT_IMM8": "a gate of the host's; KVM on PVM gives #UD",
    "INT1": "the host's own #DB; KVM on PVM reports it before the instruction",
    "UD0": "processors differ in how much of it they decode",
}
"""Name of an iced-x86 code, or its part before the first `_` -> why it is not tried."""


def left_out(name: str) -> str | None:
    """Why the code of that name is not tried; None where it is."""
    return LEFT_OUT.get(name) or LEFT_OUT.get(name.partition("_")[0])


def subjects(codes: Iterable[int]) -> list[Subject]:
    """Every one of `codes` that is tried, in the modes that have it."""
    names = code_names()
    found = []
    for code in codes:
        if left_out(names[code]) is not None:
            continue
        info = OpCodeInfo(code)  # type: ignore[arg-type]
        if info.mode64:
            found.append(Subject(code, 64))
        if info.mode32:
            found.append(Subject(code, 32))
    return found
