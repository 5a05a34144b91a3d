"""Linear to guest-physical: the page walk with rights, accessed and dirty bits (SDM Vol. 3A, chapter 4).

What the fast paths use (`space`) is filled from here and thrown away whole on every event that may
invalidate it but INVLPG: a TLB may forget at any time, so global pages and PCIDs need no bookkeeping.
`x86.paging` has the same walk for people: with names and reasons, and without side effects.
"""

from typing import TYPE_CHECKING

from minihv.engine.interpret.faults import page_fault, protection
from minihv.engine.interpret.physical import Frame, Physical
from minihv.x86.registers import (
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PGE,
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
    RFLAGS_AC,
)

if TYPE_CHECKING:
    from minihv.engine.interpret.cpu import Cpu
    from minihv.engine.interpret.space import Space

PHYS_BITS = 48
"""MAXPHYADDR, as CPUID 0x80000008 shows it."""
_PHYS = (1 << PHYS_BITS) - 1
_P, _RW, _US, _A, _D, _PS = 1, 2, 4, 0x20, 0x40, 0x80
_NX = 1 << 63
_HIGH = ((1 << 52) - 1) & ~_PHYS
"""Reserved in every 64-bit entry: address bits 51..MAXPHYADDR."""
_RIGHTS = _RW | _US
_PAGE = 0xFFF
_LARGE_SHIFTS = (21, 22, 30)
_MOST_LARGE, _MOST_FETCHED = 4096, 4096
"""Bounds of what a guest can make us remember."""
_PDPTE_RESERVED = _HIGH | 0xFFF0_0000_0000_0000 | 0x1E6
"""PAE PDPTE: bits 1, 2, 5-8 and everything above MAXPHYADDR (SDM Vol. 3A, table 4-8)."""


class Mmu:
    """The translation of one vCPU."""

    def __init__(self, cpu: "Cpu", physical: Physical) -> None:
        self.cpu = cpu
        self.physical = physical
        self.spaces: list[Space] = []
        """All views of memory to forget in on a flush."""
        self.pdptes = [0, 0, 0, 0]
        """PAE: the four PDPTE registers, loaded with CR3 (SDM Vol. 3A, 4.4.1)."""
        self._fetched: dict[int, int] = {}
        """Translations for fetches: linear page number * 2 + user -> GPA of the page."""
        self._large: set[tuple[int, int]] = set()
        """Regions (shift, linear address >> shift) translated by large pages since the last flush."""

    # --- forgetting ---------------------------------------------------------------------------------

    def flush(self) -> None:
        """Forget all translations, and which block a RIP means."""
        for space in self.spaces:
            space.flush()
        self._fetched.clear()
        self._large.clear()
        self.cpu.forget_blocks()

    def invalidate(self, lin: int) -> None:
        """INVLPG: forget the page at `lin`, everything if it was a large one (SDM Vol. 3A, 4.10.4.1)."""
        if any((shift, lin >> shift) in self._large for shift in _LARGE_SHIFTS):
            self.flush()
            return
        page = lin >> 12
        for space in self.spaces:
            space.forget(page)
        user = self._fetched.pop(page << 1 | 1, None)
        if self._fetched.pop(page << 1, user) is not None:
            self.cpu.forget_blocks()

    def _note_large(self, lin: int, shift: int) -> None:
        if len(self._large) >= _MOST_LARGE:
            self.flush()
        self._large.add((shift, lin >> shift))

    def flush_data(self) -> None:
        """Forget what loads and stores use; RFLAGS.AC or PKRU changed, which never affects fetches."""
        for space in self.spaces:
            space.flush()

    def forget_writable(self, frame: Frame) -> None:
        """`frame` became a code page: stores to it must take the slow path."""
        for space in self.spaces:
            space.flush_writes()

    # --- physical access ----------------------------------------------------------------------------

    def _entry(self, gpa: int, size: int) -> int | None:
        """A paging-structure entry; None outside RAM, where the read gives no present entry."""
        frame = self.physical.frame(gpa)
        if frame is None:
            return None
        return frame.views[size][(gpa & _PAGE) // size]

    def _set(self, gpa: int, size: int, bits: int) -> None:
        """Set accessed/dirty bits in the entry at `gpa`."""
        frame = self.physical.frame(gpa)
        if frame is not None and not frame.readonly:
            frame.views[size][(gpa & _PAGE) // size] |= bits
            if frame.code is not None:
                self.physical.written(frame, gpa & _PAGE, size)

    # --- CR3 ----------------------------------------------------------------------------------------

    def load_pdptes(self, cr0: int, cr3: int, cr4: int) -> None:
        """Load the PDPTE registers where PAE paging is (being) used. Raises #GP(0) for reserved bits."""
        if not (cr0 & CR0_PG and cr4 & CR4_PAE) or self.cpu.efer & EFER_LMA:
            return
        base = cr3 & 0xFFFFFFE0
        entries = [self._entry(base + 8 * n, 8) or 0 for n in range(4)]
        if any(e & _P and e & _PDPTE_RESERVED for e in entries):
            raise protection()
        self.pdptes = entries

    def adopt_pdptes(self) -> None:
        """Load the PDPTE registers of a state that comes from elsewhere, whatever they hold."""
        cpu = self.cpu
        if cpu.cr0 & CR0_PG and cpu.cr4 & CR4_PAE and not cpu.efer & EFER_LMA:
            self.pdptes = [self._entry((cpu.cr3 & 0xFFFFFFE0) + 8 * n, 8) or 0 for n in range(4)]

    # --- the walk -----------------------------------------------------------------------------------

    def translate(
        self, lin: int, write: bool, user: bool, fetch: bool = False, implicit: bool = False
    ) -> int:
        """GPA of linear address `lin` (canonical, cut to its width). Raises #PF.

        `user`: the access has user privilege. `implicit`: a supervisor access that RFLAGS.AC does not let
        through SMAP (SDM Vol. 3A, 4.6.1).
        """
        cpu = self.cpu
        if not cpu.cr0 & CR0_PG:
            return lin
        if fetch:
            return self._translate_fetch(lin, user)
        if not cpu.cr4 & CR4_PAE:
            return self._walk32(lin & 0xFFFFFFFF, write, user, fetch, implicit)
        return self._walk64(lin, write, user, fetch, implicit)

    def _translate_fetch(self, lin: int, user: bool) -> int:
        """Blocks are looked up often, after every flush of the block tables: walk once per page."""
        key = lin >> 12 << 1 | user
        page = self._fetched.get(key)
        if page is None:
            walk = self._walk64 if self.cpu.cr4 & CR4_PAE else self._walk32
            page = walk(lin, False, user, True, False) & ~_PAGE
            if len(self._fetched) >= _MOST_FETCHED:
                self._fetched.clear()
            self._fetched[key] = page
        return page | lin & _PAGE

    def _error(self, lin: int, code: int, write: bool, user: bool, fetch: bool) -> Exception:
        cpu = self.cpu
        if write:
            code |= PF_WRITE
        if user:
            code |= PF_USER
        if fetch and (cpu.cr4 & CR4_SMEP or (cpu.cr4 & CR4_PAE and cpu.efer & EFER_NXE)):
            code |= PF_FETCH
        return page_fault(lin, code)

    def _check(
        self, lin: int, rights: int, nx: int, key: int, write: bool, user: bool, fetch: bool, implicit: bool
    ) -> None:
        """The access rights of SDM Vol. 3A, 4.6. `rights`: the ANDed R/W and U/S of all levels."""
        cpu = self.cpu
        cr4 = cpu.cr4
        code = PF_PRESENT
        user_page = rights & _US
        bad = False
        if user_page and cr4 & CR4_PKE and not fetch and cpu.efer & EFER_LMA:
            denied = cpu.pkru >> 2 * key & 3
            if denied & 1 or (denied & 2 and write and (user or cpu.cr0 & CR0_WP)):
                bad = True
                code |= PF_KEY
        if user:
            bad = bad or not user_page or bool(write and not rights & _RW) or bool(fetch and nx)
        else:
            if write and not rights & _RW and cpu.cr0 & CR0_WP:
                bad = True
            if user_page:
                if fetch:
                    bad = bad or bool(cr4 & CR4_SMEP)
                elif cr4 & CR4_SMAP and (implicit or not cpu.flags & RFLAGS_AC):
                    bad = True
            if fetch and nx:
                bad = True
        if bad:
            raise self._error(lin, code, write, user, fetch)

    def _walk32(self, lin: int, write: bool, user: bool, fetch: bool, implicit: bool) -> int:
        """2-level paging with 4-byte entries and PSE-36 (SDM Vol. 3A, 4.3)."""
        cpu = self.cpu
        pde_at = (cpu.cr3 & 0xFFFFF000) | (lin >> 20 & 0xFFC)
        pde = self._entry(pde_at, 4)
        if not pde or not pde & _P:
            raise self._error(lin, 0, write, user, fetch)
        if pde & _PS and cpu.cr4 & CR4_PSE:
            if pde & 0x200000 or (pde >> 13 & 0xFF) >> max(0, PHYS_BITS - 32):
                raise self._error(lin, PF_PRESENT | PF_RESERVED, write, user, fetch)
            self._check(lin, pde & _RIGHTS, 0, 0, write, user, fetch, implicit)
            new = _A | (_D if write else 0)
            if pde & new != new:
                self._set(pde_at, 4, new)
            self._note_large(lin, 22)
            return (pde & 0xFFC00000) | (pde >> 13 & 0xFF) << 32 | (lin & 0x3FFFFF)
        if not pde & _A:
            self._set(pde_at, 4, _A)
        pte_at = (pde & 0xFFFFF000) | (lin >> 10 & 0xFFC)
        pte = self._entry(pte_at, 4)
        if not pte or not pte & _P:
            raise self._error(lin, 0, write, user, fetch)
        self._check(lin, pde & pte & _RIGHTS, 0, 0, write, user, fetch, implicit)
        new = _A | (_D if write else 0)
        if pte & new != new:
            self._set(pte_at, 4, new)
        return (pte & 0xFFFFF000) | (lin & _PAGE)

    def _walk64(self, lin: int, write: bool, user: bool, fetch: bool, implicit: bool) -> int:
        """PAE (SDM Vol. 3A, 4.4) and 4-level paging (4.5): 8-byte entries."""
        cpu = self.cpu
        reserved = _HIGH if cpu.efer & EFER_NXE else _HIGH | _NX
        if cpu.efer & EFER_LMA:
            table, shift, ignored = cpu.cr3 & _PHYS & ~_PAGE, 39, 0
        else:
            entry = self.pdptes[lin >> 30 & 3]
            if not entry & _P:
                raise self._error(lin, 0, write, user, fetch)
            # Bits 52..62 of PAE entries are reserved; 4-level paging ignores them (or has the key there).
            table, shift, ignored = entry & _PHYS & ~_PAGE, 21, 0x7FF0_0000_0000_0000
            reserved |= ignored
        rights, nx = _RIGHTS, 0
        frames = self.physical.frames
        while True:
            at = table | (lin >> shift & 0x1FF) << 3
            frame = frames.get(at >> 12) or self.physical.frame(at)
            entry = 0 if frame is None else frame.views[8][(at & _PAGE) >> 3]
            if not entry & _P:
                raise self._error(lin, 0, write, user, fetch)
            bad = reserved
            leaf = shift == 12
            if not leaf and entry & _PS:
                if shift == 39:
                    bad |= _PS  # reserved in a PML4E
                else:
                    leaf = True
                    bad |= (1 << shift) - 1 & ~0x1FFF  # address bits below the page size, but PAT at 12
            if entry & bad:
                raise self._error(lin, PF_PRESENT | PF_RESERVED, write, user, fetch)
            rights &= entry
            nx |= entry & _NX
            if leaf:
                break
            if not entry & _A:
                self._set(at, 8, _A)
            table = entry & _PHYS & ~_PAGE
            shift -= 9
        self._check(lin, rights, nx, entry >> 59 & 15, write, user, fetch, implicit)
        new = _A | (_D if write else 0)
        if entry & new != new:
            self._set(at, 8, new)
        if shift > 12:
            self._note_large(lin, shift)
        offset = (1 << shift) - 1
        return (entry & _PHYS & ~_PAGE & ~offset) | (lin & offset)


def global_bits_changed(old: int, new: int) -> bool:
    """Whether a CR4 write invalidates translations (SDM Vol. 3A, 4.10.4.1)."""
    return bool((old ^ new) & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE | (1 << 17)))
