"""The registers of one interpreted vCPU, and the mode that blocks are specialised for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from minihv.engine.interpret.faults import BePrecise, NeedExit
from minihv.engine.interpret.flags import Lazy, from_word
from minihv.engine.interpret.fpu import MXCSR_RESET, FpuState
from minihv.exits import Exit
from minihv.interfaces import InterruptSource
from minihv.x86.registers import (
    CR0_AM,
    CR0_PE,
    CR4_SMAP,
    EFER_LMA,
    RFLAGS_AC,
    RFLAGS_ARITHMETIC,
    RFLAGS_FIXED,
    RFLAGS_IF,
    RFLAGS_RF,
    RFLAGS_TF,
    RFLAGS_VM,
)
from minihv.x86.state import DescriptorTable, Segment

if TYPE_CHECKING:
    from minihv.engine.interpret.blocks import Block
    from minihv.engine.interpret.mmu import Mmu
    from minihv.engine.interpret.space import Space

M16, M32, M64 = 0xFFFF, 0xFFFFFFFF, (1 << 64) - 1
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
ES, CS, SS, DS, FS, GS = range(6)

RFLAGS_SYSTEM = 0x3F7702 & ~RFLAGS_ARITHMETIC
"""The flags that `Cpu.flags` holds."""


class SegReg(Segment):
    """A segment register with its checks worked out: offsets lo..read_hi may be read, lo..write_hi written.

    The bounds are empty (hi = -1) where the access is not allowed at all: unusable, not present,
    execute-only, read-only. Objects stay the same for ever, so closures may keep them.
    """

    __slots__ = ("is_flat", "lo", "read_hi", "write_hi")

    def set(self, selector: int, base: int, limit: int, access: int) -> None:
        """Load visible and hidden part."""
        self.selector, self.base, self.limit, self.access = selector, base, limit, access
        lo, hi = 0, limit
        if (
            access & 0x1C == 0x14
        ):  # expand-down data (SDM Vol. 3A, 3.4.5.1): above the limit, up to B's maximum
            lo, hi = limit + 1, M32 if access & 0x4000 else M16
        usable = access & 0x10090 == 0x90
        code = access & 8
        self.lo = lo
        self.read_hi = hi if usable and (not code or access & 2) else -1
        self.write_hi = hi if usable and access & 2 and not code else -1
        self.is_flat = base == 0 and lo == 0 and self.write_hi == M32

    def take(self, other: Segment) -> None:
        """Copy of a state's segment."""
        self.set(other.selector, other.base, other.limit, other.access)

    def plain(self) -> Segment:
        """Copy for a state."""
        return Segment(self.selector, self.base, self.limit, self.access)


class Mode(NamedTuple):
    """All that the meaning of instruction bytes depends on: blocks are built for one mode."""

    bits: int
    """Default operand/address size of the code segment: 16, 32 or 64."""
    stack_mask: int
    """Which part of RSP is the stack pointer."""
    user: bool
    """CPL is 3."""
    protected: bool
    vm86: bool
    long: bool
    """EFER.LMA: 64-bit mode or compatibility mode."""
    align: bool
    """Alignment checks are on (CR0.AM, RFLAGS.AC, CPL 3)."""
    flat: int
    """Bit n: segment register n (encoding order) is flat. In 64-bit mode: all but FS and GS."""

    @property
    def address_mask(self) -> int:
        """Width of a linear address."""
        return M64 if self.bits == 64 else M32


class Cpu:
    """Architectural registers as the ops see them. Conversion from and to `CpuState`: see `convert`."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.r: list[int] = [0] * 16
        """General registers in encoding order, unsigned 64-bit. The list object never changes."""
        self.rip = 0xFFF0
        self.fl: Lazy = from_word(0)
        """The arithmetic flags, lazily: see `flags`."""
        self.flags = RFLAGS_FIXED
        """All other RFLAGS bits."""
        self.seg = [SegReg() for _ in range(6)]
        self.ldtr = SegReg()
        self.tr = SegReg()
        self.gdtr = DescriptorTable()
        self.idtr = DescriptorTable()
        self.cr0 = 0x60000010
        self.cr2 = 0
        self.cr3 = 0
        self.cr4 = 0
        self._cr8 = 0
        self.efer = 0
        self.dr: list[int] = [0, 0, 0, 0, 0xFFFF0FF0, 0x400]
        """DR0-DR3, DR6, DR7."""
        self.pkru = 0
        self.xcr0 = 1
        self.msrs: dict[int, int] = {}
        """Values of the MSRs that are nothing but storage: see `msrs`."""
        self.cpl = 0
        self.xmm: list[int] = [0] * 16
        """XMM registers, unsigned 128-bit. The list object never changes."""
        self.mxcsr = MXCSR_RESET
        self.fpu = FpuState()

        self.local_apic: InterruptSource | None = None
        self.tsc: Callable[[], int] = lambda: self.retired
        """The time-stamp counter before TSC_ADJUST; by default the instructions executed."""
        self.tsc_offset = 0

        # Events. `attention` says that the run loop must look at them before the next block.
        self.attention = True
        self.halted = False
        self.halt_reported = False
        """The VMM knows of this HLT already."""
        self.wait_sipi = False
        self.accepted: int | None = None
        """Vector that another engine had acknowledged but not delivered when it handed the state over."""
        self.shutdown = False
        self.shadow_sti = False
        self.shadow_mov_ss = False
        self.nmi_pending = False
        self.nmi_masked = False
        self.injected: tuple[int, bool, int | None] | None = None
        """An event of a state taken over, on its way to the handler: (vector, from outside, error code)."""
        self.trap = 0
        """DR6 bits of a debug trap that is due after the instruction that just ended."""
        self.skip_trap = False
        """This instruction takes no single-step trap (INT n and friends: TF was cleared on the way)."""
        self.keep_rf = False
        """This instruction (IRET, task switch) set RF for the next one."""

        self.host_watch: list[tuple[int, int, bool, int]] = []
        """The VMM's own watchpoints, as in `watch`."""
        self.host_hits = 0
        """DR6 bits of those that were hit and not told yet."""
        self.watch: list[tuple[int, int, bool, int]] = []
        """Armed data breakpoints: (linear address, bytes, also on reads, DR6 bit)."""

        # Counting and the outside world.
        self.left = 0
        """Instructions of the budget left after the block that runs."""
        self.base_retired = 0
        """`retired` + `left`, constant during a run."""
        self.pos = 0
        """Number of the instruction in a hot block that leaves the fast path."""
        self.turn_over = False
        """PAUSE: the other vCPUs, which take turns with this one, should run now."""
        self.precise = False
        """The instruction is executed alone, between two looks at the events."""
        self.cpus = 1
        """vCPUs of the machine, for CPUID."""
        self.amd = False
        """The vendor we claim is AMD."""
        self.answers: list[bytes] = []
        self.asked = 0

        self.mode = Mode(16, M16, False, False, False, False, False, 0)
        self.fast: dict[int, Block] = {}
        """RIP -> block, for the current mode, CS and translation."""
        self.spaces: dict[object, tuple[Mode, dict[int, Block]]] = {}
        """The modes met, each with its `fast`, by what tells them apart."""
        self.mmu: Mmu
        self.user: Space
        self.supervisor: Space
        self.system: Space
        """Implicit supervisor accesses (descriptor tables, TSS, stacks of a gate), whatever the CPL."""

    # --- flags --------------------------------------------------------------------------------------

    def cf(self) -> int:
        """CF as 0 or 1."""
        fl = self.fl
        return fl[0].cf(fl)

    def arith(self) -> int:
        """The six arithmetic flags at their places in RFLAGS."""
        fl = self.fl
        return fl[0].word(fl)

    def get_rflags(self) -> int:
        fl = self.fl
        return self.flags | fl[0].word(fl)

    def set_rflags(self, value: int) -> None:
        """Set all of RFLAGS; the run loop looks at IF, TF and RF afterwards."""
        old = self.flags
        self.fl = from_word(value)
        self.flags = new = value & RFLAGS_SYSTEM | RFLAGS_FIXED
        if new & (RFLAGS_TF | RFLAGS_RF | RFLAGS_IF):
            self.attention = True
        if (old ^ new) & (RFLAGS_VM | RFLAGS_AC):
            if self.cr4 & CR4_SMAP:
                self.mmu.flush_data()
            self.mode_changed()

    # --- mode ---------------------------------------------------------------------------------------

    @property
    def protected(self) -> bool:
        """Protected-mode segmentation applies: PE set, and not virtual-8086 mode."""
        return bool(self.cr0 & CR0_PE) and not self.flags & RFLAGS_VM

    @property
    def long_mode(self) -> bool:
        return bool(self.efer & EFER_LMA)

    @property
    def in64(self) -> bool:
        """64-bit mode: L of CS in long mode."""
        return bool(self.efer & EFER_LMA and self.seg[CS].access & 0x2000)

    @property
    def memory(self) -> "Space":
        """Memory as explicit accesses at the present CPL see it."""
        return self.user if self.cpl == 3 else self.supervisor

    def mode_changed(self) -> None:
        """Segments, CPL, CR0, EFER or RFLAGS.VM/AC changed: select the blocks of the new mode."""
        cs, flags = self.seg[CS], self.flags
        user = self.cpl == 3
        align = bool(user and flags & RFLAGS_AC and self.cr0 & CR0_AM)
        key: object
        if self.efer & EFER_LMA and cs.access & 0x2000:
            key = user, align
        else:
            es, _, ss, ds, fs, gs = self.seg
            flat = (
                es.is_flat
                | cs.is_flat << 1
                | ss.is_flat << 2
                | ds.is_flat << 3
                | fs.is_flat << 4
                | gs.is_flat << 5
            )
            protected = self.cr0 & CR0_PE
            if not protected:
                cs.read_hi = cs.write_hi = cs.limit  # real mode checks no types (SDM Vol. 3A, 20.1)
            big = cs.access & 0x4000, ss.access & 0x4000
            key = (
                user,
                align,
                flat,
                protected,
                flags & RFLAGS_VM,
                self.efer & EFER_LMA,
                big,
                cs.base,
                cs.limit,
            )
        found = self.spaces.get(key)
        if found is None:
            if len(self.spaces) >= 64:  # a hostile guest could make one per CS base
                self.spaces.clear()
            found = self.spaces[key] = self._mode(user, align), {}
        self.mode, self.fast = found

    def _mode(self, user: bool, align: bool) -> Mode:
        """The mode the CPU is in."""
        cs, flags = self.seg[CS], self.flags
        long = bool(self.efer & EFER_LMA)
        if long and cs.access & 0x2000:
            bits, stack_mask, flat = 64, M64, 0b001111
        else:
            bits = 32 if cs.access & 0x4000 else 16
            stack_mask = M32 if self.seg[SS].access & 0x4000 else M16
            flat = sum(1 << n for n, seg in enumerate(self.seg) if seg.is_flat)
        return Mode(
            bits, stack_mask, user, bool(self.cr0 & CR0_PE), bool(flags & RFLAGS_VM), long, align, flat
        )

    def forget_blocks(self) -> None:
        """Translation or code changed: RIP no longer says which block; they are found again by GPA."""
        for _, fast in self.spaces.values():
            fast.clear()

    # --- the outside world --------------------------------------------------------------------------

    @property
    def retired(self) -> int:
        """Instructions executed; exact inside an op that ends its block, and between blocks."""
        return self.base_retired - self.left

    def ask(self, exit: Exit) -> bytes:
        """The VMM's answer to `exit`; raises NeedExit until there is one."""
        number = self.asked
        if number < len(self.answers):
            self.asked = number + 1
            return self.answers[number]
        raise NeedExit(exit)

    def be_precise(self) -> None:
        """For what must not happen in the middle of a block: `retired` exact, events seen at once."""
        if not self.precise:
            raise BePrecise

    def committed(self) -> None:
        """A rep iteration is done for good: its answers must not be used again."""
        if self.answers:
            self.answers.clear()
        self.asked = 0

    @property
    def cr8(self) -> int:
        return self._cr8 if self.local_apic is None else self.local_apic.cr8

    @cr8.setter
    def cr8(self, value: int) -> None:
        self._cr8 = value
        if self.local_apic is not None:
            self.local_apic.cr8 = value
        self.attention = True
