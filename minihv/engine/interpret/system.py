"""Control and debug registers, TLB, HLT, CPUID, time, SWAPGS, FSGSBASE, PKRU, hypercalls.

SDM Vol. 2A-2D per instruction; Vol. 3A, 2.5 and 4.10 for what writing control registers means.
"""

from collections.abc import Callable

from minihv.engine.interpret import debug, msrs
from minihv.engine.interpret.cpu import CS, FS, GS, M32, M64, RAX, RBX, RCX, RDX, RSI, Cpu
from minihv.engine.interpret.cpuid import cpuid as query_cpuid
from minihv.engine.interpret.decode import Mnemonic, Register
from minihv.engine.interpret.faults import DebugFault, protection, undefined
from minihv.engine.interpret.flags import MASKS
from minihv.engine.interpret.site import Op, Site, require_cpl0
from minihv.engine.interpret.table import Builder, Table
from minihv.exits import Hypercall
from minihv.x86 import registers as x

CR0_WRITABLE = (
    x.CR0_PE | x.CR0_MP | x.CR0_EM | x.CR0_TS | x.CR0_ET | x.CR0_NE | x.CR0_WP | x.CR0_AM | x.CR0_NW
    | x.CR0_CD | x.CR0_PG
)  # fmt: skip
CR4_WRITABLE = (
    x.CR4_TSD | x.CR4_DE | x.CR4_PSE | x.CR4_PAE | x.CR4_MCE | x.CR4_PGE | x.CR4_PCE | x.CR4_OSFXSR
    | x.CR4_OSXMMEXCPT | x.CR4_UMIP | x.CR4_FSGSBASE | x.CR4_PCIDE | x.CR4_OSXSAVE | x.CR4_SMEP | x.CR4_SMAP
    | x.CR4_PKE
)  # fmt: skip
"""What the CPUID we claim has; any other bit is #GP."""


# --- control registers --------------------------------------------------------------------------------


def write_cr0(cpu: Cpu, value: int) -> None:
    """MOV to CR0 (SDM Vol. 2B, MOV; Vol. 3A, 9.8.5)."""
    if value >> 32:
        raise protection()
    value = value & CR0_WRITABLE | x.CR0_ET
    if value & x.CR0_PG and not value & x.CR0_PE:
        raise protection()
    if value & x.CR0_NW and not value & x.CR0_CD:
        raise protection()
    old = cpu.cr0
    efer = cpu.efer
    if (value ^ old) & x.CR0_PG:
        if value & x.CR0_PG and efer & x.EFER_LME:
            if not cpu.cr4 & x.CR4_PAE or cpu.seg[CS].access & 0x2000:
                raise protection()
            efer |= x.EFER_LMA
        elif not value & x.CR0_PG:
            if cpu.in64 or cpu.cr4 & x.CR4_PCIDE:
                raise protection()
            efer &= ~x.EFER_LMA
    saved, cpu.efer = cpu.efer, efer
    if (value ^ old) & (x.CR0_PG | x.CR0_CD | x.CR0_NW):
        try:
            cpu.mmu.load_pdptes(value, cpu.cr3, cpu.cr4)
        except BaseException:
            cpu.efer = saved
            raise
    cpu.cr0 = value
    if (value ^ old) & (x.CR0_PG | x.CR0_WP | x.CR0_PE):
        cpu.mmu.flush()
    if (value ^ old) & x.CR0_PE:
        cpu.cpl = 0
        if value & x.CR0_PE:
            cs = cpu.seg[CS]  # its type counts again
            cs.set(cs.selector, cs.base, cs.limit, cs.access)
        else:
            for seg in cpu.seg:  # what was loaded stays, usable as in real mode
                if seg.access & 0x10000:
                    seg.set(seg.selector, seg.base, seg.limit, 0x93)
    cpu.mode_changed()


def write_cr3(cpu: Cpu, value: int) -> None:
    """MOV to CR3: bits above MAXPHYADDR are #GP in long mode; bit 63 with PCIDE means "keep translations"."""
    if cpu.long_mode:
        if cpu.cr4 & x.CR4_PCIDE:
            value &= M64 >> 1
        if value >> 48:
            raise protection()
    else:
        value &= M32
    cpu.mmu.load_pdptes(cpu.cr0, value, cpu.cr4)
    cpu.cr3 = value
    cpu.mmu.flush()


def write_cr4(cpu: Cpu, value: int) -> None:
    if value & ~CR4_WRITABLE:
        raise protection()
    old = cpu.cr4
    if cpu.long_mode and not value & x.CR4_PAE:
        raise protection()
    if value & x.CR4_PCIDE and not old & x.CR4_PCIDE and (not cpu.long_mode or cpu.cr3 & 0xFFF):
        raise protection()
    if (value ^ old) & (x.CR4_PAE | x.CR4_PGE | x.CR4_PSE | x.CR4_SMEP):
        cpu.mmu.load_pdptes(cpu.cr0, cpu.cr3, value)
    cpu.cr4 = value
    cpu.mmu.flush()
    cpu.mode_changed()


def write_cr8(cpu: Cpu, value: int) -> None:
    if value >> 4:
        raise protection()
    cpu.be_precise()
    cpu.cr8 = value


_CR_READ: dict[int, Callable[[Cpu], int]] = {
    0: lambda cpu: cpu.cr0,
    2: lambda cpu: cpu.cr2,
    3: lambda cpu: cpu.cr3,
    4: lambda cpu: cpu.cr4,
    8: lambda cpu: cpu.cr8,
}


def _write_cr2(cpu: Cpu, value: int) -> None:
    cpu.cr2 = value


_CR_WRITE = {0: write_cr0, 2: _write_cr2, 3: write_cr3, 4: write_cr4, 8: write_cr8}


def mov_special(s: Site) -> Op:
    """MOV to and from control and debug registers; always full width."""
    insn = s.insn
    to_special = insn.op_register(0) not in _GENERAL
    special = insn.op_register(0 if to_special else 1)
    other = 1 if to_special else 0
    s.ends_block()
    cpu, r, n = s.cpu, s.cpu.r, s.gpr(other)
    if Register.DR0 <= special <= Register.DR15:
        return _mov_debug(s, special - Register.DR0, to_special, n)
    number = special - Register.CR0
    if number not in _CR_READ or (number == 8 and s.mode.bits != 64):
        return s.undefined()
    if to_special:
        write = _CR_WRITE[number]

        def op_write() -> None:
            require_cpl0(cpu)
            write(cpu, r[n])

        return op_write
    read = _CR_READ[number]

    def op_read() -> None:
        require_cpl0(cpu)
        r[n] = read(cpu)

    return op_read


_GENERAL = {*range(Register.EAX, Register.R15D + 1), *range(Register.RAX, Register.R15 + 1)}


def _mov_debug(s: Site, number: int, to_debug: bool, n: int) -> Op:
    """MOV DRn: DR4 and DR5 are DR6 and DR7 unless CR4.DE; DR7.GD makes any access #DB (SDM Vol. 3B, 18.2)."""
    cpu, r = s.cpu, s.cpu.r
    if number > 7:
        return s.undefined()

    def op() -> None:
        which = number
        if which in (4, 5):
            if cpu.cr4 & x.CR4_DE:
                raise undefined()
            which += 2
        require_cpl0(cpu)
        if cpu.dr[5] & x.DR7_GD:
            raise DebugFault(x.DR6_BD)
        if not to_debug:
            r[n] = cpu.dr[which if which < 4 else which - 2]
            return
        value = r[n]
        if which < 4:
            cpu.dr[which] = value
        elif value >> 32:
            raise protection()
        elif which == 6:
            cpu.dr[4] = value & 0xE00F | x.DR6_RESET
        else:
            cpu.dr[5] = value & 0xFFFF2BFF | x.DR7_FIXED
        debug.arm(cpu)

    return op


def lmsw(s: Site) -> Op:
    """LMSW: the low four bits of CR0; PE can be set but not cleared."""
    cpu = s.cpu
    if s.is_reg(0):
        read = s.reader(0)
    else:
        address, ld = s.address(2, False), s.ld(2)

        def read() -> int:
            return ld(address())

    s.ends_block()

    def op() -> None:
        require_cpl0(cpu)
        value = read() & 0xF
        write_cr0(cpu, cpu.cr0 & ~0xE | value)

    return op


def clts(s: Site) -> Op:
    cpu = s.cpu

    def op() -> None:
        require_cpl0(cpu)
        cpu.cr0 &= ~x.CR0_TS

    return op


# --- TLB and caches -----------------------------------------------------------------------------------


def invlpg(s: Site) -> Op:
    """INVLPG: no access, so neither limits nor the canonical form are checked."""
    cpu, effective, seg = s.cpu, s.effective(), s.cpu.seg[s.segment()]
    based, width = s.mode.bits != 64 or s.segment() >= FS, s.mode.address_mask
    s.ends_block()

    def op() -> None:
        require_cpl0(cpu)
        lin = effective()
        cpu.mmu.invalidate(lin + seg.base & width if based else lin)

    return op


def invpcid(s: Site) -> Op:
    """INVPCID: types 0..3; the descriptor's reserved bits are checked, then everything is flushed."""
    cpu, kind_of = s.cpu, s.reader(0)
    address, ld = s.address(16, False), s.ld(8)
    s.ends_block()

    def op() -> None:
        require_cpl0(cpu)
        at = address()
        pcid, lin = ld(at), ld(at + 8)
        kind = kind_of()
        if kind > 3 or pcid >> 12:
            raise protection()
        if kind == 0 and not msrs.is_canonical(lin):
            raise protection()
        if kind < 2 and pcid and not cpu.cr4 & x.CR4_PCIDE:
            raise protection()
        cpu.mmu.flush()

    return op


def privileged_nothing(s: Site) -> Op:
    """INVD, WBINVD: there are no caches to write back."""
    cpu = s.cpu
    return lambda: require_cpl0(cpu)


# --- waiting, identification, time --------------------------------------------------------------------


def hlt(s: Site) -> Op:
    cpu = s.cpu
    s.ends_block()

    def op() -> None:
        require_cpl0(cpu)
        cpu.halted = True
        cpu.halt_reported = False
        cpu.attention = True

    return op


def cpuid(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        r[RAX], r[RBX], r[RCX], r[RDX] = query_cpuid(cpu, r[RAX] & M32, r[RCX] & M32)

    return op


def _time_allowed(cpu: Cpu) -> None:
    if cpu.cr4 & x.CR4_TSD and cpu.cpl:
        raise protection()


def rdtsc(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        _time_allowed(cpu)
        cpu.be_precise()
        now = msrs.tsc(cpu)
        r[RAX], r[RDX] = now & M32, now >> 32

    return op


def rdtscp(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        _time_allowed(cpu)
        cpu.be_precise()
        now = msrs.tsc(cpu)
        r[RAX], r[RDX], r[RCX] = now & M32, now >> 32, cpu.msrs.get(x.MSR_TSC_AUX, 0)

    return op


def rdpid(s: Site) -> Op:
    cpu, write = s.cpu, s.writer(0)
    return lambda: write(cpu.msrs.get(x.MSR_TSC_AUX, 0))


def rdpmc(s: Site) -> Op:
    """RDPMC: no counters beyond AMD's four legacy ones, which stand still."""
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        if not cpu.cr4 & x.CR4_PCE and cpu.cpl and cpu.cr0 & x.CR0_PE:
            raise protection()
        index = r[RCX] & M32
        if not cpu.amd or index > 3:
            raise protection()
        value = cpu.msrs.get(x.MSR_K7_PERFCTR0 + index, 0)
        r[RAX], r[RDX] = value & M32, value >> 32

    return op


# --- segment bases and protection keys ----------------------------------------------------------------


def swapgs(s: Site) -> Op:
    cpu = s.cpu
    if s.mode.bits != 64:
        return s.undefined()

    def op() -> None:
        require_cpl0(cpu)
        gs = cpu.seg[GS]
        gs.base, cpu.msrs[x.MSR_KERNEL_GS_BASE] = cpu.msrs.get(x.MSR_KERNEL_GS_BASE, 0), gs.base

    return op


def read_base(segment: int) -> Builder:
    """RDFSBASE, RDGSBASE."""

    def build(s: Site) -> Op:
        cpu, write, mask = s.cpu, s.writer(0), MASKS[s.size(0)]
        if s.mode.bits != 64:
            return s.undefined()

        def op() -> None:
            if not cpu.cr4 & x.CR4_FSGSBASE:
                raise undefined()
            write(cpu.seg[segment].base & mask)

        return op

    return build


def write_base(segment: int) -> Builder:
    """WRFSBASE, WRGSBASE."""

    def build(s: Site) -> Op:
        cpu, read = s.cpu, s.reader(0)
        if s.mode.bits != 64:
            return s.undefined()

        def op() -> None:
            if not cpu.cr4 & x.CR4_FSGSBASE:
                raise undefined()
            value = read()
            if not msrs.is_canonical(value):
                raise protection()
            cpu.seg[segment].base = value

        return op

    return build


def rdpkru(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        if not cpu.cr4 & x.CR4_PKE:
            raise undefined()
        if r[RCX] & M32:
            raise protection()
        r[RAX], r[RDX] = cpu.pkru, 0

    return op


def wrpkru(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r
    s.ends_block()

    def op() -> None:
        if not cpu.cr4 & x.CR4_PKE:
            raise undefined()
        if r[RCX] & M32 or r[RDX] & M32:
            raise protection()
        cpu.pkru = r[RAX] & M32
        cpu.mmu.flush_data()

    return op


# --- the hypervisor -----------------------------------------------------------------------------------


def hypercall(s: Site) -> Op:
    """VMCALL and VMMCALL: both leave to the VMM, whatever the vendor."""
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        mask = M64 if s.mode.bits == 64 else M32
        args = tuple(r[n] & mask for n in (RBX, RCX, RDX, RSI))
        answer = cpu.ask(Hypercall(r[RAX] & mask, args, cpu.rip))
        r[RAX] = int.from_bytes(answer[:8], "little") & mask

    return op


M = Mnemonic

TABLE: Table = {
    M.LMSW: lmsw, M.CLTS: clts, M.INVLPG: invlpg, M.INVPCID: invpcid,
    M.INVD: privileged_nothing, M.WBINVD: privileged_nothing, M.WBNOINVD: privileged_nothing,
    M.HLT: hlt, M.CPUID: cpuid, M.RDTSC: rdtsc, M.RDTSCP: rdtscp, M.RDPID: rdpid, M.RDPMC: rdpmc,
    M.SWAPGS: swapgs, M.RDFSBASE: read_base(FS), M.RDGSBASE: read_base(GS),
    M.WRFSBASE: write_base(FS), M.WRGSBASE: write_base(GS), M.RDPKRU: rdpkru, M.WRPKRU: wrpkru,
    M.VMCALL: hypercall, M.VMMCALL: hypercall,
}  # fmt: skip
