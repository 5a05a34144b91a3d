"""Why a hypervisor cares about an instruction: it is privileged, I/O-sensitive, sensitive, or trapped.

Popek and Goldberg (1974): trap-and-emulate needs every sensitive instruction to be a privileged one. On x86
seventeen are not (Robin and Irvine, 2000): run in ring 3 they do not fault, and show or change the wrong
state.
"""

from typing import NamedTuple

PRIVILEGED = "privileged"
IO_SENSITIVE = "I/O-sensitive"
UNPRIVILEGED = "sensitive, unprivileged"
TRAPPED = "trapped by hardware virtualization"


class Mark(NamedTuple):
    """One reason: its class, why in words, where the manual says so."""

    kind: str
    why: str
    source: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.why} ({self.source})"


_PRIVILEGED = "SDM Vol. 3A, 5.9"
_EXITS = "SDM Vol. 3C, 26.1"
_TABLE: dict[str, Mark] = {
    "lgdt": Mark(PRIVILEGED, "sets where segment descriptors are found", _PRIVILEGED),
    "lidt": Mark(PRIVILEGED, "sets where interrupts and exceptions go", _PRIVILEGED),
    "lldt": Mark(PRIVILEGED, "sets the local descriptor table", _PRIVILEGED),
    "ltr": Mark(PRIVILEGED, "sets the task state segment", _PRIVILEGED),
    "lmsw": Mark(PRIVILEGED, "writes CR0", _PRIVILEGED),
    "clts": Mark(PRIVILEGED, "writes CR0.TS", _PRIVILEGED),
    "hlt": Mark(PRIVILEGED, "stops the processor until an interrupt", _PRIVILEGED),
    "invd": Mark(PRIVILEGED, "throws the caches away", _PRIVILEGED),
    "wbinvd": Mark(PRIVILEGED, "writes the caches back", _PRIVILEGED),
    "invlpg": Mark(PRIVILEGED, "forgets one page's translation", _PRIVILEGED),
    "rdmsr": Mark(PRIVILEGED, "reads a model-specific register", _PRIVILEGED),
    "wrmsr": Mark(PRIVILEGED, "writes a model-specific register", _PRIVILEGED),
    "swapgs": Mark(PRIVILEGED, "exchanges the bases of GS", "SDM Vol. 2B, SWAPGS"),
    "sysret": Mark(PRIVILEGED, "leaves for ring 3", "SDM Vol. 2B, SYSRET"),
    "sysretq": Mark(PRIVILEGED, "leaves for ring 3", "SDM Vol. 2B, SYSRET"),
    "sysexit": Mark(PRIVILEGED, "leaves for ring 3", "SDM Vol. 2B, SYSEXIT"),
    "xsetbv": Mark(PRIVILEGED, "sets which state XSAVE knows; always an exit under VT-x", _EXITS),
    "invpcid": Mark(PRIVILEGED, "forgets translations", "SDM Vol. 2A, INVPCID"),
    "in": Mark(IO_SENSITIVE, "talks to a device; needs CPL <= IOPL or the I/O bitmap", "SDM Vol. 1, 19.5"),
    "out": Mark(IO_SENSITIVE, "talks to a device; needs CPL <= IOPL or the I/O bitmap", "SDM Vol. 1, 19.5"),
    "cli": Mark(IO_SENSITIVE, "switches interrupts off; needs CPL <= IOPL", "SDM Vol. 1, 19.5"),
    "sti": Mark(IO_SENSITIVE, "switches interrupts on; needs CPL <= IOPL", "SDM Vol. 1, 19.5"),
    "sgdt": Mark(UNPRIVILEGED, "shows the real GDT's place to any ring", "SDM Vol. 2B, SGDT"),
    "sidt": Mark(UNPRIVILEGED, "shows the real IDT's place to any ring", "SDM Vol. 2B, SIDT"),
    "sldt": Mark(UNPRIVILEGED, "shows the real LDT's selector to any ring", "SDM Vol. 2B, SLDT"),
    "str": Mark(UNPRIVILEGED, "shows the real task register to any ring", "SDM Vol. 2B, STR"),
    "smsw": Mark(UNPRIVILEGED, "shows the real CR0 to any ring", "SDM Vol. 2B, SMSW"),
    "pushf": Mark(UNPRIVILEGED, "shows the real IF and IOPL", "SDM Vol. 2B, PUSHF"),
    "popf": Mark(UNPRIVILEGED, "leaves IF and IOPL alone in ring 3, silently", "SDM Vol. 2B, POPF"),
    "lar": Mark(UNPRIVILEGED, "looks into the real descriptor tables with the real CPL", "SDM Vol. 2A, LAR"),
    "lsl": Mark(UNPRIVILEGED, "looks into the real descriptor tables with the real CPL", "SDM Vol. 2A, LSL"),
    "verr": Mark(UNPRIVILEGED, "asks the real descriptor tables with the real CPL", "SDM Vol. 2B, VERR"),
    "verw": Mark(UNPRIVILEGED, "asks the real descriptor tables with the real CPL", "SDM Vol. 2B, VERW"),
    "int": Mark(UNPRIVILEGED, "goes through the real IDT", "SDM Vol. 2A, INT n"),
    "iret": Mark(UNPRIVILEGED, "pops CS with the real CPL, leaves IF alone in ring 3", "SDM Vol. 2A, IRET"),
    "retf": Mark(UNPRIVILEGED, "pops CS with the real CPL", "SDM Vol. 2B, RET"),
    "cpuid": Mark(TRAPPED, "always an exit under VT-x: a guest has its own CPUID", "SDM Vol. 3C, 26.1.2"),
    "xgetbv": Mark(TRAPPED, "shows XCR0 to any ring", "SDM Vol. 2D, XGETBV"),
    "rdtsc": Mark(TRAPPED, "an exit if the hypervisor wants it", "SDM Vol. 3C, 26.1.3"),
    "rdtscp": Mark(TRAPPED, "an exit if the hypervisor wants it", "SDM Vol. 3C, 26.1.3"),
    "rdpmc": Mark(TRAPPED, "needs CR4.PCE above ring 0; an exit if wanted", "SDM Vol. 3C, 26.1.3"),
    "pause": Mark(TRAPPED, "an exit if the hypervisor wants it", "SDM Vol. 3C, 26.1.3"),
    "monitor": Mark(TRAPPED, "an exit if the hypervisor wants it", "SDM Vol. 3C, 26.1.3"),
    "mwait": Mark(TRAPPED, "an exit if the hypervisor wants it", "SDM Vol. 3C, 26.1.3"),
    "vmcall": Mark(TRAPPED, "calls the hypervisor: always an exit", "SDM Vol. 3C, 26.1.2"),
    "vmmcall": Mark(TRAPPED, "calls the hypervisor: always an exit", "APM Vol. 3, VMMCALL"),
}  # fmt: skip
"""Mnemonic (lower case, size suffixes of string, flag and return instructions dropped) -> why."""

_CONTROL = Mark(
    PRIVILEGED, "moves a control register, which decides about paging and protection", _PRIVILEGED
)
_DEBUG = Mark(PRIVILEGED, "moves a debug register", _PRIVILEGED)
_SEGMENT = Mark(
    UNPRIVILEGED, "moves a segment register: its RPL shows the real CPL", "SDM Vol. 2B, MOV, PUSH and POP"
)
_FAR = Mark(UNPRIVILEGED, "changes CS with the real CPL and descriptor tables", "SDM Vol. 2A, CALL and JMP")
_SEGMENTS = frozenset(("cs", "ds", "es", "fs", "gs", "ss"))
_PREFIXES = frozenset(("rep", "repe", "repne", "lock", "notrack", "bnd", "xacquire", "xrelease"))
_SUFFIXED = ("pushf", "popf", "iret", "retf")


def mark(text: str) -> Mark | None:
    """Why a hypervisor cares about an instruction, by its disassembly (Intel syntax); None: it does not."""
    words = text.lower().replace(",", " ").split()
    while words and words[0] in _PREFIXES:
        del words[0]
    if not words:
        return None
    name, operands = words[0], words[1:]
    if name.startswith(("ins", "outs")) and name in ("insb", "insw", "insd", "outsb", "outsw", "outsd"):
        return _TABLE["in" if name.startswith("ins") else "out"]
    for stem in _SUFFIXED:
        if name in (stem, stem + "d", stem + "q", stem + "w"):
            return _TABLE[stem]
    if name in ("call", "jmp") and operands and _is_far(operands[0]):
        return _FAR
    if name in ("mov", "push", "pop"):
        for operand in operands:
            if operand in _SEGMENTS:
                return _SEGMENT
            if operand[:2] in ("cr", "dr") and operand[2:].isdecimal():
                return _CONTROL if operand[0] == "c" else _DEBUG
        return None
    return _TABLE.get(name)


def _is_far(operand: str) -> bool:
    return operand in ("far", "fword", "tbyte") or (":" in operand and "[" not in operand)
