"""The page walk, pure: 2-level, PAE, 4-level and 5-level (SDM Vol. 3A, chapter 4; APM Vol. 2, chapter 5).

`walk` keeps every entry it met and the first reason why an access fails, so that a report can tell a
person the whole story; `translate` answers only "where is it". Both read the tables and never write
them: accessed and dirty bits are the engine's affair.
"""

from collections.abc import Callable
from typing import NamedTuple

from minihv.errors import GuestMemoryError
from minihv.x86.registers import (
    CR0_PG,
    CR0_WP,
    CR4_LA57,
    CR4_PAE,
    CR4_PKE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER_LMA,
    EFER_NXE,
    PF_FETCH,
    PF_KEY,
    PF_PRESENT,
    PF_RESERVED,
    PF_USER,
    PF_WRITE,
)

ReadPhys = Callable[[int, int], int]
"""(GPA, size in bytes) -> little-endian unsigned integer; may raise GuestMemoryError."""

PTE_P = 1 << 0
PTE_RW = 1 << 1
PTE_US = 1 << 2
PTE_PWT = 1 << 3
PTE_PCD = 1 << 4
PTE_A = 1 << 5
PTE_D = 1 << 6
PTE_PS = 1 << 7
"""In a PTE this bit is PAT instead."""
PTE_G = 1 << 8
PTE_NX = 1 << 63

NO_PAGING = "no paging"
TWO_LEVEL = "2-level"
PAE = "PAE"
FOUR_LEVEL = "4-level"
FIVE_LEVEL = "5-level"

# Name of the entry and the lowest bit of the GVA that indexes its table, top level first.
_LEVELS = {
    TWO_LEVEL: (("PDE", 22), ("PTE", 12)),
    PAE: (("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
    FOUR_LEVEL: (("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
    FIVE_LEVEL: (("PML5E", 48), ("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
}

_MAX_PHYS = 52
_PAGE_WORDS = {0x1000: "4 KiB", 0x20_0000: "2 MiB", 0x40_0000: "4 MiB", 0x4000_0000: "1 GiB"}


class Entry(NamedTuple):
    """One table entry met on the way."""

    name: str
    """"PML4E", "PDPTE", "PDE" or "PTE"."""
    index: int  # type: ignore[assignment]  # a field, not tuple.index
    gpa: int
    """Where the entry is."""
    value: int | None
    """What it holds; None where the table is outside RAM."""
    target: int
    """GPA of the next table, or of the page; 0 where the entry leads nowhere."""
    page_size: int
    """Bytes the entry maps; 0 where it points to another table."""
    rights: bool
    """Whether R/W and U/S count here (they do not in a PAE PDPTE)."""
    reserved: int = 0
    """Reserved bits that are set."""


class WalkResult(NamedTuple):
    """What one access to `gva` meets. `failure` is None where the access succeeds."""

    gva: int
    mode: str
    access: str
    """The access in words: "supervisor read", "user fetch" ..."""
    entries: tuple[Entry, ...]
    gpa: int | None
    """Final guest-physical address; also given where only the rights are missing."""
    page_size: int
    """Bytes of the page (4 KiB, 2 MiB, 4 MiB, 1 GiB); 0 without paging."""
    writable: bool
    user: bool
    executable: bool
    failure: str | None = None
    """One of: non-canonical, outside-ram, not-present, reserved-bit, user, write, no-execute, smep,
    smap, protection-key."""
    reason: str = ""
    """The failure as a sentence without subject and full stop."""
    error_code: int | None = None
    """Page-fault error code (SDM Vol. 3A, 4.7); None where no #PF results."""


def paging_mode(cr0: int, cr4: int, efer: int) -> str:
    """Which of the walks applies (SDM Vol. 3A, 4.1.1)."""
    if not cr0 & CR0_PG:
        return NO_PAGING
    if not cr4 & CR4_PAE:
        return TWO_LEVEL
    if not efer & EFER_LMA:
        return PAE
    return FIVE_LEVEL if cr4 & CR4_LA57 else FOUR_LEVEL


def is_canonical(gva: int, la57: bool = False) -> bool:
    """Whether the bits above the linear-address width are copies of its top bit (SDM Vol. 1, 3.3.7.1)."""
    top = gva >> (56 if la57 else 47)
    return top == 0 or top == (0xFF if la57 else 0x1FFFF)


def walk(
    read_phys: ReadPhys,
    cr0: int,
    cr3: int,
    cr4: int,
    efer: int,
    gva: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    ac: bool = False,
    pkru: int = 0,
    phys_bits: int = _MAX_PHYS,
    gib_pages: bool = True,
) -> WalkResult:
    """Walk the tables for one access to linear address `gva`.

    `user`: a user-mode access (CPL 3, not an implicit supervisor access). `ac`: RFLAGS.AC, which lets
    supervisor data accesses through SMAP. `phys_bits`: the guest's MAXPHYADDR; bits above are reserved.
    `gib_pages`: whether CPUID shows 1 GiB pages (else PS in a PDPTE is reserved). Never raises for
    anything the guest put into its tables.
    """
    mode = paging_mode(cr0, cr4, efer)
    access = f"{'user' if user else 'supervisor'} {'fetch' if fetch else 'write' if write else 'read'}"
    if mode in (FOUR_LEVEL, FIVE_LEVEL):
        if not is_canonical(gva, mode == FIVE_LEVEL):
            width = 57 if mode == FIVE_LEVEL else 48
            reason = f"the address is not canonical for {width}-bit linear addresses (a #GP or #SS, no #PF)"
            return WalkResult(gva, mode, access, (), None, 0, False, False, False, "non-canonical", reason)
    else:
        gva &= 0xFFFF_FFFF
    if mode == NO_PAGING:
        return WalkResult(gva, mode, access, (), gva, 0, True, True, True)

    entries, failure, reason = _descend(read_phys, mode, cr3, cr4, efer, gva, phys_bits, gib_pages)
    code = (PF_WRITE if write else 0) | (PF_USER if user else 0)
    if fetch and (cr4 & CR4_SMEP or (cr4 & CR4_PAE and efer & EFER_NXE)):
        code |= PF_FETCH
    if failure is not None:
        error = None if failure == "outside-ram" else code
        if failure == "reserved-bit":
            error = code | PF_PRESENT | PF_RESERVED
        return WalkResult(gva, mode, access, entries, None, 0, False, False, False, failure, reason, error)

    last = entries[-1]
    nx_works = mode != TWO_LEVEL and bool(efer & EFER_NXE)
    may_write = all(_value(e) & PTE_RW for e in entries if e.rights)
    may_user = all(_value(e) & PTE_US for e in entries if e.rights)
    may_fetch = not (nx_works and any(_value(e) & PTE_NX for e in entries if e.rights))
    gpa = last.target | gva & last.page_size - 1
    failure, reason = _rights(
        entries, cr0, cr4, write, user, fetch, ac, pkru if mode in (FOUR_LEVEL, FIVE_LEVEL) else 0,
        may_write, may_user, may_fetch,
    )  # fmt: skip
    key = PF_KEY if failure == "protection-key" else 0
    return WalkResult(
        gva, mode, access, entries, gpa, last.page_size, may_write, may_user, may_fetch,
        failure, reason, None if failure is None else code | PF_PRESENT | key,
    )  # fmt: skip


def translate(
    read_phys: ReadPhys,
    cr0: int,
    cr3: int,
    cr4: int,
    efer: int,
    gva: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    ac: bool = False,
) -> int | None:
    """GPA of `gva` for one access, or None where it would fault; arguments as for `walk`."""
    result = walk(read_phys, cr0, cr3, cr4, efer, gva, write=write, user=user, fetch=fetch, ac=ac)
    return result.gpa if result.failure is None else None


def _value(entry: Entry) -> int:
    return entry.value or 0


def _descend(
    read_phys: ReadPhys,
    mode: str,
    cr3: int,
    cr4: int,
    efer: int,
    gva: int,
    phys_bits: int,
    gib_pages: bool,
) -> tuple[tuple[Entry, ...], str | None, str]:
    """The entries from the root down to the page or to the first that leads nowhere, and why."""
    phys_mask = (1 << phys_bits) - 1
    table = {TWO_LEVEL: cr3 & 0xFFFF_F000, PAE: cr3 & 0xFFFF_FFE0}.get(mode, cr3 & phys_mask & ~0xFFF)
    size = 4 if mode == TWO_LEVEL else 8
    bits = 10 if mode == TWO_LEVEL else 9
    entries: list[Entry] = []
    for name, shift in _LEVELS[mode]:
        pae_root = mode == PAE and name == "PDPTE"
        index = gva >> shift & (3 if pae_root else (1 << bits) - 1)
        gpa = table + index * size
        try:
            value = read_phys(gpa, size)
        except GuestMemoryError:
            entries.append(Entry(name, index, gpa, None, 0, 0, not pae_root))
            return tuple(entries), "outside-ram", f"the table that should hold the {name} is outside RAM"
        if not value & PTE_P:
            entries.append(Entry(name, index, gpa, value, 0, 0, not pae_root))
            return tuple(entries), "not-present", f"the {name} is not present"
        leaf = _is_leaf(mode, name, value, cr4, gib_pages)
        page_size = 1 << shift if leaf else 0
        reserved = _reserved(mode, name, value, page_size, phys_bits, efer, gib_pages)
        target = _target(mode, value, page_size, phys_mask)
        entries.append(Entry(name, index, gpa, value, target, page_size, not pae_root, reserved))
        if reserved:
            return tuple(entries), "reserved-bit", f"the {name} has {_bit_list(reserved)} set"
        if leaf:
            break
        table = target
    return tuple(entries), None, ""


def _is_leaf(mode: str, name: str, value: int, cr4: int, gib_pages: bool) -> bool:
    if name == "PTE":
        return True
    if name == "PDE":
        return bool(value & PTE_PS) and (mode != TWO_LEVEL or bool(cr4 & CR4_PSE))
    return name == "PDPTE" and mode != PAE and gib_pages and bool(value & PTE_PS)


def _target(mode: str, value: int, page_size: int, phys_mask: int) -> int:
    if mode == TWO_LEVEL:
        if page_size == 0x40_0000:
            # PSE-36: bits 39:32 of the address are in bits 20:13 (SDM Vol. 3A, table 4-4).
            return (value & 0xFFC0_0000 | (value >> 13 & 0xFF) << 32) & phys_mask
        return value & 0xFFFF_F000
    return value & phys_mask & ~((page_size or 0x1000) - 1)


def _reserved(
    mode: str, name: str, value: int, page_size: int, phys_bits: int, efer: int, gib_pages: bool
) -> int:
    """The reserved bits set in a present entry (SDM Vol. 3A, 4.3, tables 4-4, 4-8..4-11, 4-14..4-20)."""
    if mode == TWO_LEVEL:
        if page_size != 0x40_0000:
            return 0
        extra = min(max(phys_bits - 32, 0), 8)
        return value & (0x3F_E000 & ~((1 << 13 + extra) - 1))
    top = 51 if mode != PAE else 62
    mask = (1 << top + 1) - 1 & ~((1 << phys_bits) - 1)
    if mode == PAE and name == "PDPTE":
        return value & (mask | 0x1E6 | PTE_NX)
    if not efer & EFER_NXE:
        mask |= PTE_NX
    if name in ("PML5E", "PML4E") or (name == "PDPTE" and not gib_pages):
        mask |= PTE_PS
    if page_size > 0x1000:
        mask |= page_size - 1 & ~0x1FFF
    return value & mask


def _rights(
    entries: tuple[Entry, ...],
    cr0: int,
    cr4: int,
    write: bool,
    user: bool,
    fetch: bool,
    ac: bool,
    pkru: int,
    may_write: bool,
    may_user: bool,
    may_fetch: bool,
) -> tuple[str | None, str]:
    """The first right that is missing (SDM Vol. 3A, 4.6.1), and which entry takes it away."""
    if user and not may_user:
        return "user", f"the {_culprit(entries, PTE_US)} is for the supervisor only"
    if fetch:
        if not may_fetch:
            name = next(e.name for e in entries if e.rights and _value(e) & PTE_NX)
            return "no-execute", f"the {name} forbids execution (NX)"
        if may_user and not user and cr4 & CR4_SMEP:
            return "smep", "CR4.SMEP forbids the supervisor to execute a user page"
        return None, ""
    if may_user and not user and cr4 & CR4_SMAP and not ac:
        return "smap", "CR4.SMAP forbids the supervisor to touch a user page while RFLAGS.AC is clear"
    if write and not may_write and (user or cr0 & CR0_WP):
        why = "" if user else ", and CR0.WP makes that count for the supervisor"
        return "write", f"the {_culprit(entries, PTE_RW)} is read-only{why}"
    if may_user and cr4 & CR4_PKE:
        key = _value(entries[-1]) >> 59 & 0xF
        denied = pkru >> 2 * key & 3
        if denied & 1 or (denied & 2 and write and (user or cr0 & CR0_WP)):
            return "protection-key", f"PKRU forbids {'writes' if not denied & 1 else 'access'} with key {key}"
    return None, ""


def _culprit(entries: tuple[Entry, ...], bit: int) -> str:
    return next(e.name for e in entries if e.rights and not _value(e) & bit)


def _bit_list(value: int) -> str:
    bits = [str(n) for n in range(64) if value >> n & 1]
    shown = ", ".join(bits[:6]) + (" ..." if len(bits) > 6 else "")
    return f"reserved bit {shown}" if len(bits) == 1 else f"reserved bits {shown}"


def describe(result: WalkResult) -> list[str]:
    """The walk in words, one line per entry and one for the outcome."""
    if result.mode == NO_PAGING:
        return [f"paging is off (CR0.PG clear): {result.gva:#x} is guest-physical {result.gva:#x}"]
    lines = []
    for entry in result.entries:
        lines.append(_describe_entry(entry))
    if result.failure is None and result.gpa is not None:
        rights = [
            "writable" if result.writable else "read-only",
            "user" if result.user else "supervisor",
            "executable" if result.executable else "no-execute",
        ]
        size = _PAGE_WORDS[result.page_size]
        lines.append(
            f"{result.gva:#x} is guest-physical {result.gpa:#x} in a {size} page: {', '.join(rights)}"
        )
        return lines
    verb = f"this is why a {result.access} of {result.gva:#x} faults"
    if result.error_code is not None:
        verb += f" (#PF, error code {result.error_code:#x})"
    lines.append(f"{result.reason}: {verb}")
    return lines


def _describe_entry(entry: Entry) -> str:
    where = f"{entry.name}[{entry.index}] at {entry.gpa:#x}"
    if entry.value is None:
        return f"{where}: cannot be read, there is no RAM"
    words = [f"{where} = {entry.value:#x}:"]
    if not entry.value & PTE_P:
        return " ".join([*words, "not present"])
    facts = ["present"]
    if entry.rights:
        facts.append("writable" if entry.value & PTE_RW else "read-only")
        facts.append("user" if entry.value & PTE_US else "supervisor")
    if entry.value & PTE_PCD:
        facts.append("uncached")
    if entry.page_size and entry.value & PTE_G:
        facts.append("global")
    if entry.page_size and entry.value & PTE_D:
        facts.append("dirty")
    if entry.value & PTE_NX:
        facts.append("no-execute")
    if entry.reserved:
        facts.append(f"{_bit_list(entry.reserved)} set")
    words.append(", ".join(facts))
    what = f"{_PAGE_WORDS[entry.page_size]} page" if entry.page_size else "table"
    words.append(f"-> {what} at {entry.target:#x}")
    return " ".join(words)
