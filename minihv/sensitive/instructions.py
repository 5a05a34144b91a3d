"""The instructions: what each is tried with, how to read what it saw, and why it broke trap-and-emulate.

J. S. Robin, C. E. Irvine, "Analysis of the Intel Pentium's Ability to Support a Secure Virtual Machine
Monitor", 9th USENIX Security Symposium, 2000. The paper speaks of seventeen instructions; its list, as quoted
by others (the original could not be read), has the eighteen mnemonics below: who counts seventeen takes two
of them together. IRET is not among them; later accounts add it, because it loads the flags as POPF does.

Names are those of guests/sensitive.S.
"""

from typing import NamedTuple

CITATION = (
    "Robin & Irvine, Analysis of the Intel Pentium's Ability to Support a Secure Virtual Machine Monitor, "
    "USENIX Security 2000"
)


class Instruction(NamedTuple):
    """One of them. `kind` says how to read the value: a key of `minihv.sensitive.words.READERS`."""

    name: str
    shown: str
    kind: str
    why: str
    original: bool = True
    """On Robin and Irvine's list."""


INSTRUCTIONS = (
    Instruction(
        "sgdt", "sgdt", "address",
        "reads where the GDT is: the processor has one, the VMM's, and a guest's kernel would see that"),
    Instruction(
        "sidt", "sidt", "address",
        "reads where the IDT is: again the VMM's and not the one that the guest's kernel has loaded"),
    Instruction(
        "sldt", "sldt", "selector",
        "reads the LDT's selector: the VMM's, whatever the guest's kernel has loaded"),
    Instruction(
        "smsw", "smsw", "number",
        "reads the low half of CR0 where MOV from CR0 would trap: a guest in real mode sees protection on"),
    Instruction(
        "pushf", "pushf", "flags",
        "reads the interrupt flag: the processor's, which the VMM keeps set, and not the guest's"),
    Instruction(
        "popf", "popf: flip IF", "interrupts",
        "leaves the interrupt flag alone outside ring 0, without a trap: a kernel believes that interrupts "
        "are off, and they are not"),
    Instruction(
        "lar", "lar of the kernel's code", "rights",
        "asks the GDT by the privilege it runs at: outside ring 0 a kernel's own segments seem not there"),
    Instruction(
        "lsl", "lsl of the kernel's code", "rights",
        "the same for a segment's limit: only ZF tells, nothing traps"),
    Instruction(
        "verr", "verr of the kernel's code", "allowed",
        "says by the privilege it runs at whether a segment may be read: no to what a kernel may read"),
    Instruction(
        "verw", "verw of the kernel's data", "allowed",
        "says the same for writing: no to what a kernel may write"),
    Instruction(
        "pop", "pop gs: the kernel's data", "selector",
        "checks privilege when it loads a segment register, and loads from the VMM's GDT: traps for some "
        "selectors, takes another descriptor for the rest"),
    Instruction(
        "push", "push of a copy of ss", "selector",
        "stores a selector whose low bits are the privilege it really runs at"),
    Instruction(
        "call", "call far, RPL 0", "selector",
        "checks and sets the privilege: asked for RPL 0 outside ring 0, it silently arrives with another"),
    Instruction(
        "jmp", "jmp far, RPL 0", "selector",
        "as the far call: the code segment is not the one that was asked for"),
    Instruction(
        "int", "int 0x80", "interrupt",
        "goes through the IDT of the VMM, if its gate lets the guest in: the guest's own is never looked at"),
    Instruction(
        "ret", "ret far, RPL 0", "selector",
        "cannot return to RPL 0 outside ring 0: traps for a kernel's frames, goes on unseen for a user's"),
    Instruction(
        "str", "str", "selector",
        "reads the task register: the VMM's task and its privilege, whatever the guest has loaded"),
    Instruction(
        "mov", "mov from cs", "selector",
        "reads the code segment's selector: its low bits tell a kernel that it is not in ring 0"),
    Instruction(
        "iret", "iret: flip IF", "interrupts",
        "loads the flags as POPF does, and leaves the interrupt flag alone outside ring 0 without a trap",
        original=False),
)  # fmt: skip
"""In the order in which the guest tries them."""
