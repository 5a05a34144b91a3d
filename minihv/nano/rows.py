"""The rows of the nanobenchmark table: what each does, where, and what was published.

Names and order are those of guests/nano.S.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One row of 2006, in words: cycles of a Pentium 4 672 at 3.8 GHz."""

    native: str
    software: str
    """VMware's software VMM: binary translation."""
    hardware: str
    """Its hardware VMM on the first VT-x, with shadow page tables."""


class Row(NamedTuple):
    """One operation. `number` is what the guest is told; `ring` where the guest does it."""

    number: int
    name: str
    ring: int
    what: str
    published: Published | None = None
    native: str = ""
    """How user space of the host does the same; empty where it cannot."""
    cpus: int = 1


PUBLISHED_WHERE = (
    "Adams & Agesen, A Comparison of Software and Hardware Techniques for x86 Virtualization, ASPLOS 2006, "
    "as quoted by others: Pentium 4 672, 3.8 GHz; hardware VMM = first VT-x"
)

_BY_SIGNAL = "by signal: fault, delivery to a handler that skips the instruction, sigreturn"


def _rows() -> tuple[Row, ...]:
    table: tuple[tuple[str, int, str, Published | None, str, int], ...] = (
        ("syscall", 3, "SYSCALL to ring 0, SYSRET at once",
         Published("base", "base + ~2000", "as native"), "getppid, which does next to nothing", 1),
        ("in", 0, "in al, 0x80: the POST port",
         Published("3209", "~214", "15826"), "", 1),
        ("cr8wr", 0, "mov cr8, rax: another value each time",
         Published("~140", "35", "~native"), "", 1),
        ("call/ret", 0, "call of a function that returns at once, in the guest's kernel",
         Published("11", "51", "11"), "", 1),
        ("pgfault", 3, "a read without a page; the guest's #PF handler skips it",
         Published("1093", "3927", "11242"), _BY_SIGNAL, 1),
        ("divzero", 3, "a division by zero; the guest's #DE handler skips it",
         Published("889", "3223", "1014"), _BY_SIGNAL, 1),
        ("ptemod", 0, "a store to a page-table entry in use that changes the frame",
         Published("1", "391", "12733"), "", 1),
        ("call/ret_user", 3, "the same call and return in the guest's ring 3", None,
         "the same instructions", 1),
        ("cpuid", 0, "cpuid leaf 0", None, "the same instruction", 1),
        ("vmcall", 0, "a hypercall that nobody knows (vmmcall where CPUID says AMD)", None, "", 1),
        ("mov_from_cr8", 0, "mov rax, cr8", None, "", 1),
        ("mov_to_cr8", 0, "mov cr8, rax: always 0", None, "", 1),
        ("inl_from_kernel", 0, "in al, 0x21: the interrupt controller, in the kernel where KVM has it", None,
         "", 1),
        ("inl_from_user", 0, "in eax, 0xcf8: a register that only minihv has", None, "", 1),
        ("mmio_read", 0, "a dword read from VGA memory at 0xb8000, which minihv answers", None, "", 1),
        ("ipi", 0, "an IPI to a CPU that spins, until its handler has run", None, "", 2),
        ("hlt", 0, "an IPI to a CPU that sleeps in HLT, until its handler has run", None, "", 2),
    )  # fmt: skip
    return tuple(Row(number, *row) for number, row in enumerate(table, 1))


ROWS: tuple[Row, ...] = _rows()


def find_row(name: str) -> Row | None:
    """The row of that name."""
    return next((row for row in ROWS if row.name == name), None)
