"""A value that an instruction saw, in words."""

from collections.abc import Callable

from minihv.sensitive.model import Seen

REFUSED = (1 << 64) - 1
EXCEPTIONS = {6: "#UD", 10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF"}
LINUX_UMIP_VALUES = {0xFFFF_FFFF_FFFE_0000: "GDT", 0xFFFF_FFFF_FFFF_0000: "IDT"}
"""What Linux answers for the processor where UMIP is on (arch/x86/kernel/umip.c): no table is there."""
IF = 0x200


def exception_name(vector: int) -> str:
    """ "#GP"."""
    return EXCEPTIONS.get(vector, f"vector {vector}")


def seen_words(kind: str, seen: Seen, native: bool) -> str:
    """What was seen; for an exception its name. `native`: in a process of the host."""
    if seen.vector is not None:
        return f"trap {exception_name(seen.vector)}"
    if kind == "interrupt" and native:
        return "the host answered"
    return READERS[kind](seen.value)


def _address(value: int) -> str:
    return f"{value:#x}" + (" made up" if value in LINUX_UMIP_VALUES else "")


def _selector(value: int) -> str:
    return f"{value:#04x}, RPL {value & 3}"


def _flags(value: int) -> str:
    return f"{value:#x}, IF {int(bool(value & IF))}"


def _interrupts(value: int) -> str:
    return "IF flipped" if value & IF else "IF kept"


def _rights(value: int) -> str:
    return "refused by ZF" if value == REFUSED else f"{value:#x}"


def _allowed(value: int) -> str:
    return "yes" if value else "no, by ZF"


READERS: dict[str, Callable[[int], str]] = {
    "address": _address,
    "number": hex,
    "selector": _selector,
    "interrupt": _selector,
    "flags": _flags,
    "interrupts": _interrupts,
    "rights": _rights,
    "allowed": _allowed,
}
"""Kind of an instruction -> how to read its value."""
