"""Loads and stores of linear addresses at one privilege, with the software TLB in front.

For each operand size there is one dict for reading and one for writing: linear page number -> typed view
of the page. Being in a dict *means* that the access is allowed, that accessed (and dirty) bits are set,
that the page is RAM (ROM for reading), that no watchpoint lies on it and (writing) that no code does. So
the fast path is one dict look-up and one index; everything else goes to the slow path. Addresses need
no cutting before: a page number outside the address space is in no dict, and the slow path cuts.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import M32, M64, Cpu
from minihv.engine.interpret.debug import HOST
from minihv.engine.interpret.faults import GuestFault, protection, stack_fault
from minihv.engine.interpret.mmu import Mmu
from minihv.engine.interpret.physical import Frame
from minihv.exits import MmioRead, MmioWrite
from minihv.x86.registers import VECTOR_AC

Load = Callable[[int], int]
Store = Callable[[int, int], None]
Views = dict[int, "memoryview[int]"]

_LIMIT = 8192
"""Entries per dict before it is emptied: linear aliases must not grow without bound."""
_SHIFT = {1: 0, 2: 1, 4: 2, 8: 3}


class Space:
    """Memory as seen with `user` or supervisor privilege. `ld[size]`, `st[size]` are the fast closures.

    `ld_ss`/`st_ss` are the same for stack accesses: a non-canonical address gives #SS there. `rw[size]`
    loads with the right to write checked first. Sizes 1, 2, 4, 8, 16.
    """

    def __init__(self, cpu: Cpu, mmu: Mmu, user: bool, implicit: bool = False) -> None:
        self.cpu = cpu
        self.mmu = mmu
        self.is_user = user
        self.implicit = implicit
        self.reads: dict[int, Views] = {size: {} for size in _SHIFT}
        self.writes: dict[int, Views] = {size: {} for size in _SHIFT}
        self.pages: tuple[dict[int, int], dict[int, int]] = ({}, {})
        """Linear page number -> GPA of the page, for reading and for writing: the TLB of the slow paths."""
        mmu.spaces.append(self)
        self.ld: dict[int, Load] = {}
        self.ld_ss: dict[int, Load] = {}
        self.st: dict[int, Store] = {}
        self.st_ss: dict[int, Store] = {}
        self.rw: dict[int, Load] = {}
        self.rw_ss: dict[int, Load] = {}
        for size in _SHIFT:
            reads, writes = self.reads[size], self.writes[size]
            self.ld[size] = _loader(size, reads, self.load)
            self.ld_ss[size] = _loader(size, reads, self.load_stack)
            self.rw[size] = _loader(size, writes, self.load_locked)
            self.rw_ss[size] = _loader(size, writes, self.load_locked_stack)
            self.st[size] = _storer(size, writes, self.store)
            self.st_ss[size] = _storer(size, writes, self.store_stack)
        self.ld[16] = lambda lin: self.load(lin, 16)
        self.ld_ss[16] = lambda lin: self.load_stack(lin, 16)
        self.rw[16] = lambda lin: self.load_locked(lin, 16)
        self.rw_ss[16] = lambda lin: self.load_locked_stack(lin, 16)
        self.st[16] = lambda lin, value: self.store(lin, value, 16)
        self.st_ss[16] = lambda lin, value: self.store_stack(lin, value, 16)

    def flush(self) -> None:
        """Forget all pages."""
        self.pages[0].clear()
        self.pages[1].clear()
        for views in self.reads.values():
            views.clear()
        for views in self.writes.values():
            views.clear()

    def forget(self, page: int) -> None:
        """Forget one page, by linear page number."""
        for pages in self.pages:
            pages.pop(page, None)
        for views in self.reads.values():
            views.pop(page, None)
        for views in self.writes.values():
            views.pop(page, None)

    def flush_writes(self) -> None:
        """Forget which pages may be written."""
        for views in self.writes.values():
            views.clear()

    # --- slow paths ---------------------------------------------------------------------------------

    def load(self, lin: int, size: int, stack: bool = False) -> int:
        """Any load: `size` bytes at `lin`. Raises the architectural fault, or NeedExit for a device."""
        lin = self._cut(lin, stack)
        offset = lin & 0xFFF
        if offset + size > 0x1000:
            return self._load_across(lin, size, stack, False)
        return self._load_page(lin, self._gpa(lin, False), size)

    def load_stack(self, lin: int, size: int) -> int:
        return self.load(lin, size, True)

    def load_locked(self, lin: int, size: int, stack: bool = False) -> int:
        """The load of a read-modify-write: the right to write is checked first."""
        lin = self._cut(lin, stack)
        if (lin & 0xFFF) + size > 0x1000:
            return self._load_across(lin, size, stack, True)
        gpa = self._gpa(lin, True)
        self._remember(self.writes, lin, self.mmu.physical.frame(gpa), size, True)
        return self._load_page(lin, gpa, size)

    def load_locked_stack(self, lin: int, size: int) -> int:
        return self.load_locked(lin, size, True)

    def store(self, lin: int, value: int, size: int, stack: bool = False) -> None:
        """Any store: all `size` bytes or, with a fault, none."""
        lin = self._cut(lin, stack)
        offset = lin & 0xFFF
        if offset + size > 0x1000:
            first = 0x1000 - offset
            second = self._cut(lin + first, stack)
            gpa, gpa2 = self._gpa(lin, True), self._gpa(second, True)
            parts = [
                (lin, gpa, value & (1 << 8 * first) - 1, first),
                (second, gpa2, value >> 8 * first, size - first),
            ]
            frame = self.mmu.physical.frame
            parts.sort(key=lambda part: frame(part[1]) is not None)  # devices first: they may need an exit
            for part in parts:
                self._store_page(*part)
            return
        self._store_page(lin, self._gpa(lin, True), value, size)

    def store_stack(self, lin: int, value: int, size: int) -> None:
        self.store(lin, value, size, True)

    def read_bytes(self, lin: int, size: int) -> bytes:
        """`size` bytes at `lin`, at most a few pages; every page is checked before the first is read."""
        pieces = self._pieces(lin, size, False)
        out = bytearray()
        for at, gpa, count in pieces:
            frame = self.mmu.physical.frame(gpa)
            if frame is not None:
                out += frame.views[1][gpa & 0xFFF : (gpa & 0xFFF) + count]
            else:
                for done in range(0, count, 8):
                    width = min(8, count - done)
                    out += self._load_page(at + done, gpa + done, width).to_bytes(width, "little")
        return bytes(out)

    def write_bytes(self, lin: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `lin`: every page is checked before the first byte is written."""
        done = 0
        for at, gpa, count in self._pieces(lin, len(data), True):
            part = data[done : done + count]
            frame = self.mmu.physical.frame(gpa)
            if frame is not None and not frame.readonly:
                offset = gpa & 0xFFF
                frame.views[1][offset : offset + count] = part
                self.mmu.physical.written(frame, offset, count)
                self._watch(at, count, True)
            else:
                for k in range(0, count, 8):
                    piece = part[k : k + 8]
                    self._store_page(at + k, gpa + k, int.from_bytes(piece, "little"), len(piece))
            done += count

    def probe_write(self, lin: int, size: int) -> None:
        """Raise what a store of `size` bytes at `lin` would raise, and store nothing."""
        self._pieces(lin, size, True)

    def run(self, lin: int, write: bool) -> "tuple[Frame, int] | None":
        """For string instructions: the RAM page at `lin` and the offset in it; None: go item by item.

        Raises the fault of an access at `lin`.
        """
        lin = self._cut(lin, False)
        gpa = self._gpa(lin, write)
        frame = self.mmu.physical.frame(gpa)
        if frame is None or (write and frame.readonly) or self._watched(lin & ~0xFFF, 0x1000):
            return None
        return frame, gpa & 0xFFF

    # --- parts --------------------------------------------------------------------------------------

    def _cut(self, lin: int, stack: bool) -> int:
        """Cut to the linear-address width; refuse a non-canonical address."""
        if not self.cpu.long_mode:
            return lin & M32
        lin &= M64
        if (lin >> 47) + 1 & 0x1FFFE:
            raise stack_fault() if stack else protection()
        return lin

    def _gpa(self, lin: int, write: bool) -> int:
        pages = self.pages[write]
        base = pages.get(lin >> 12)
        if base is None:
            base = self.mmu.translate(lin, write, self.is_user, False, self.implicit) & ~0xFFF
            if len(pages) >= _LIMIT:
                pages.clear()
            pages[lin >> 12] = base
        return base | lin & 0xFFF

    def _pieces(self, lin: int, size: int, write: bool) -> list[tuple[int, int, int]]:
        """(linear, GPA, bytes) for each page of the range, all checked."""
        out = []
        while size > 0:
            at = self._cut(lin, False)
            count = min(size, 0x1000 - (at & 0xFFF))
            out.append((at, self._gpa(at, write), count))
            lin += count
            size -= count
        return out

    def _load_across(self, lin: int, size: int, stack: bool, write: bool) -> int:
        first = 0x1000 - (lin & 0xFFF)
        second = self._cut(lin + first, stack)
        gpa, gpa2 = self._gpa(lin, write), self._gpa(second, write)
        low = self._load_page(lin, gpa, first)
        return low | self._load_page(second, gpa2, size - first) << 8 * first

    def _load_page(self, lin: int, gpa: int, size: int) -> int:
        frame = self.mmu.physical.frame(gpa)
        if frame is None:
            self._watch(lin, size, False)
            return self._device_load(gpa, size)
        offset = gpa & 0xFFF
        self._remember(self.reads, lin, frame, size, False)
        self._watch(lin, size, False)
        return int.from_bytes(frame.views[1][offset : offset + size], "little")

    def _store_page(self, lin: int, gpa: int, value: int, size: int) -> None:
        physical = self.mmu.physical
        frame = physical.frame(gpa)
        if frame is None or frame.readonly:
            self._device_store(gpa, value, size)
        else:
            offset = gpa & 0xFFF
            frame.views[1][offset : offset + size] = value.to_bytes(size, "little")
            if frame.code is not None:
                physical.written(frame, offset, size)
            else:
                self._remember(self.writes, lin, frame, size, True)
        self._watch(lin, size, True)

    def _remember(
        self, table: dict[int, Views], lin: int, frame: Frame | None, size: int, write: bool
    ) -> None:
        """Let the fast path do the next access of this size to this page."""
        views = table.get(size)
        if views is None or frame is None or (write and (frame.readonly or frame.code is not None)):
            return
        if self._watched(lin & ~0xFFF, 0x1000):
            return
        if len(views) >= _LIMIT:
            views.clear()
        views[lin >> 12] = frame.views[size]

    def _device_load(self, gpa: int, size: int) -> int:
        cpu = self.cpu
        if self.implicit:  # descriptor tables in device memory: the bus floats
            return (1 << 8 * size) - 1
        apic = cpu.local_apic
        if apic is not None:
            base = apic.mmio_base()
            if base is not None and base == gpa & ~0xFFF:
                cpu.be_precise()
                return apic.read(gpa & 0xFFF, size)
        value = 0
        for done in range(0, size, 8):
            width = min(8, size - done)
            answer = cpu.ask(MmioRead(gpa + done, width, cpu.rip))
            value |= int.from_bytes(answer[:width], "little") << 8 * done
        return value

    def _device_store(self, gpa: int, value: int, size: int) -> None:
        cpu = self.cpu
        if self.implicit:
            return
        apic = cpu.local_apic
        if apic is not None:
            base = apic.mmio_base()
            if base is not None and base == gpa & ~0xFFF:
                cpu.be_precise()
                apic.write(gpa & 0xFFF, size, value)
                return
        for done in range(0, size, 8):
            width = min(8, size - done)
            part = value >> 8 * done & (1 << 8 * width) - 1
            cpu.ask(MmioWrite(gpa + done, part.to_bytes(width, "little"), cpu.rip))

    # --- watchpoints (SDM Vol. 3B, 18.2.5) ----------------------------------------------------------

    def _watched(self, lin: int, size: int) -> bool:
        return any(lin < at + length and at < lin + size for at, length, _, _ in self.cpu.watch)

    def _watch(self, lin: int, size: int, write: bool) -> None:
        """Note the data breakpoints that this access hits; the trap comes after the instruction."""
        cpu = self.cpu
        if not cpu.watch or self.implicit:
            return
        for at, length, on_read, bit in cpu.watch:
            if lin < at + length and at < lin + size and (write or on_read):
                if bit >= HOST:
                    cpu.host_hits |= bit // HOST
                else:
                    cpu.trap |= bit
                cpu.attention = True


def _loader(size: int, views: Views, slow: Callable[[int, int], int]) -> Load:
    if size == 1:

        def load1(lin: int) -> int:
            try:
                return views[lin >> 12][lin & 4095]
            except KeyError:
                return slow(lin, 1)

        return load1
    low, shift = size - 1, _SHIFT[size]

    def load(lin: int) -> int:
        if lin & low:
            return slow(lin, size)
        try:
            return views[lin >> 12][(lin & 4095) >> shift]
        except KeyError:
            return slow(lin, size)

    return load


def _storer(size: int, views: Views, slow: Callable[[int, int, int], None]) -> Store:
    if size == 1:

        def store1(lin: int, value: int) -> None:
            try:
                views[lin >> 12][lin & 4095] = value
            except KeyError:
                slow(lin, value, 1)

        return store1
    low, shift = size - 1, _SHIFT[size]

    def store(lin: int, value: int) -> None:
        if lin & low:
            slow(lin, value, size)
            return
        try:
            views[lin >> 12][(lin & 4095) >> shift] = value
        except KeyError:
            slow(lin, value, size)

    return store


def misaligned(lin: int, stack: bool = False) -> GuestFault:
    """#AC, or what comes before it: the #GP or #SS of an address that is not canonical."""
    if (lin >> 47) + 1 & 0x1FFFE:
        return stack_fault() if stack else protection()
    return GuestFault(VECTOR_AC, 0)


def aligned_only(size: int, load: Load, stack: bool = False) -> Load:
    """`load` with alignment checking (SDM Vol. 3A, 6.15, "Interrupt 17")."""
    low = size - 1

    def checked(lin: int) -> int:
        if lin & low:
            raise misaligned(lin, stack)
        return load(lin)

    return checked


def aligned_only_store(size: int, store: Store, stack: bool = False) -> Store:
    """`store` with alignment checking."""
    low = size - 1

    def checked(lin: int, value: int) -> None:
        if lin & low:
            raise misaligned(lin, stack)
        store(lin, value)

    return checked
