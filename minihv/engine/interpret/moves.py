"""Data movement: MOV, LEA, XCHG, CMOVcc, SETcc, sign and zero extension, byte swaps."""

from minihv.engine.interpret.cpu import CS, M16, M32, RAX, RDX, SS
from minihv.engine.interpret.decode import Code, Mnemonic, Register
from minihv.engine.interpret.descriptors import load_data
from minihv.engine.interpret.faults import stack_fault
from minihv.engine.interpret.flags import CONDITIONS, MASKS, SIGNS
from minihv.engine.interpret.site import Op, Read, Site
from minihv.engine.interpret.table import Builder, Table

_SEGMENTS = range(Register.ES, Register.GS + 1)
_CONTROL = range(Register.CR0, Register.CR15 + 1)
_DEBUG = range(Register.DR0, Register.DR15 + 1)


def mov(s: Site) -> Op:
    """MOV between general registers, memory and immediates; the special registers branch off."""
    insn = s.insn
    for n in (0, 1):
        if s.is_reg(n):
            register = insn.op_register(n)
            if register in _SEGMENTS:
                return _to_segment(s) if n == 0 else _from_segment(s)
            if register in _CONTROL or register in _DEBUG:
                from minihv.engine.interpret.system import mov_special

                return mov_special(s)
    cpu_r = s.cpu.r
    size = s.size(0)
    if s.is_reg(0) and size >= 4:
        d = s.gpr(0)
        if s.is_imm(1):
            value = s.imm(1)

            def mov_imm() -> None:
                cpu_r[d] = value

            return mov_imm
        if s.is_reg(1):
            a = s.gpr(1)
            if size == 8:

                def mov_reg() -> None:
                    cpu_r[d] = cpu_r[a]
            else:

                def mov_reg() -> None:
                    cpu_r[d] = cpu_r[a] & M32

            return mov_reg
        load = _absolute(s) if _is_moffs(s, 1) else s.reader(1)

        def mov_load() -> None:
            cpu_r[d] = load()

        return mov_load
    if s.is_mem(0):
        address, st = s.address(size, True), s.st(size)
        if s.is_imm(1):
            value = s.imm(1)
            return lambda: st(address(), value)
        read = s.reader(1)
        return lambda: st(address(), read())
    read, write = s.reader(1), s.writer(0)
    return lambda: write(read())


def _is_moffs(s: Site, n: int) -> bool:
    return s.is_mem(n) and s.insn.memory_base == Register.NONE and s.insn.memory_index == Register.NONE


def _absolute(s: Site) -> Read:
    address, ld = s.address(s.size(1), False), s.ld(s.size(1))
    return lambda: ld(address())


def _to_segment(s: Site) -> Op:
    """MOV Sreg: ends the block, since addressing may change; MOV SS holds off events for one instruction."""
    cpu, n = s.cpu, s.segment_operand(0)
    if n == CS:
        return s.undefined()
    read = s.reader(1)
    s.ends_block()

    def op() -> None:
        load_data(cpu, n, read() & 0xFFFF)
        if n == SS:
            cpu.shadow_mov_ss = cpu.attention = True

    return op


def _from_segment(s: Site) -> Op:
    """MOV from Sreg: zero-extended into a wider register, always 16 bits to memory."""
    seg = s.cpu.seg[s.segment_operand(1)]
    if s.is_mem(0):
        address, st = s.address(2, True), s.st(2)
        return lambda: st(address(), seg.selector)
    write = s.writer(0)
    return lambda: write(seg.selector)


def lea(s: Site) -> Op:
    address, mask, write = s.offset(), MASKS[s.size(0)] & MASKS[s.address_size()], s.writer(0)
    if s.size(0) >= 4:
        r, d = s.cpu.r, s.gpr(0)

        def op() -> None:
            r[d] = address() & mask

        return op
    return lambda: write(address() & mask)


def xchg(s: Site) -> Op:
    """XCHG; with memory it is locked, so the right to write is checked first."""
    if s.is_mem(1):  # iced may give the memory operand in either place
        read_m, write_m = s.modify(1)
        read, write = s.reader(0), s.writer(0)
    else:
        read_m, write_m = s.modify(0)
        read, write = s.reader(1), s.writer(1)

    def op() -> None:
        a, b = read_m(), read()
        write_m(b)
        write(a)

    return op


# --- conditions ---------------------------------------------------------------------------------------


def cmov(condition: int) -> Builder:
    """CMOVcc: the source is read in any case; a 32-bit destination is zero-extended in any case."""
    test = CONDITIONS[condition]

    def build(s: Site) -> Op:
        cpu, read, write, keep = s.cpu, s.reader(1), s.writer(0), s.reader(0)
        narrow = s.size(0) == 4

        def op() -> None:
            value = read()
            if test(cpu.fl):
                write(value)
            elif narrow:
                write(keep())

        return op

    return build


def setcc(condition: int) -> Builder:
    test = CONDITIONS[condition]

    def build(s: Site) -> Op:
        cpu, write = s.cpu, s.writer(0)
        return lambda: write(1 if test(cpu.fl) else 0)

    return build


# --- widening and swapping ----------------------------------------------------------------------------


def movzx(s: Site) -> Op:
    read, write = s.reader(1), s.writer(0)
    if s.size(0) >= 4:
        r, d = s.cpu.r, s.gpr(0)

        def op() -> None:
            r[d] = read()

        return op
    return lambda: write(read())


def movsx(s: Site) -> Op:
    """MOVSX and MOVSXD. With a 16-bit destination MOVSXD is no more than a MOV, but AMD's processors read
    32 bits of memory for it (APM Vol. 3, MOVSXD)."""
    if s.insn.code == Code.MOVSXD_R16_RM16 and s.cpu.amd and s.is_mem(1):
        wide, put = s.load_operand(4), s.writer(0)
        return lambda: put(wide() & M16)
    read, write = s.reader(1), s.writer(0)
    sign, mask = SIGNS[s.size(1)], MASKS[s.size(0)]
    return lambda: write((read() ^ sign) - sign & mask)


def widen(source: int) -> Builder:
    """CBW, CWDE, CDQE: sign-extend the lower half of (E/R)AX, `source` bytes."""
    sign, low, mask = SIGNS[source], MASKS[source], MASKS[2 * source]

    def build(s: Site) -> Op:
        r = s.cpu.r

        def op() -> None:
            value = ((r[RAX] & low) ^ sign) - sign & mask
            r[RAX] = r[RAX] & ~0xFFFF | value if source == 1 else value

        return op

    return build


def spread(size: int) -> Builder:
    """CWD, CDQ, CQO: the sign of (E/R)AX into all of (E/R)DX."""
    sign, mask = SIGNS[size], MASKS[size]

    def build(s: Site) -> Op:
        r = s.cpu.r

        def op() -> None:
            value = mask if r[RAX] & sign else 0
            r[RDX] = r[RDX] & ~0xFFFF | value if size == 2 else value

        return op

    return build


def bswap(s: Site) -> Op:
    """BSWAP; with a 16-bit operand (undefined) processors give zero."""
    r, d, size = s.cpu.r, s.gpr(0), s.size(0)

    def op() -> None:
        if size == 2:
            r[d] &= ~0xFFFF
        else:
            r[d] = int.from_bytes((r[d] & MASKS[size]).to_bytes(size, "little"), "big")

    return op


def movbe(s: Site) -> Op:
    read, write, size = s.reader(1), s.writer(0), s.size(0)
    return lambda: write(int.from_bytes(read().to_bytes(size, "little"), "big"))


def xlatb(s: Site) -> Op:
    r, ld = s.cpu.r, s.ld(1)
    base = {Register.BX: 2, Register.EBX: 4, Register.RBX: 8}[s.insn.memory_base]
    address = s.linear(lambda: r[3] + (r[RAX] & 0xFF), s.segment(), 1, False, MASKS[base])

    def op() -> None:
        r[RAX] = r[RAX] & ~0xFF | ld(address())

    return op


def load_far(segment: int) -> Builder:
    """LDS, LES, LFS, LGS, LSS: a far pointer from memory."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        write = s.writer(0)
        address, ld, ld2 = s.address(size + 2, False), s.ld(size), s.ld(2)
        s.ends_block()

        def op() -> None:
            at = address()
            value, selector = ld(at), ld2(at + size)
            load_data(cpu, segment, selector)
            write(value)

        return op

    return build


_PREFETCH_REGISTER = (
    Code.RESERVEDNOP_RM16_R16_0F0D, Code.RESERVEDNOP_RM32_R32_0F0D, Code.RESERVEDNOP_RM64_R64_0F0D,
)  # fmt: skip


def nop(s: Site) -> Op:
    """NOP, prefetches, fences, and what is a hint where its feature is missing (RDSSP, CLDEMOTE).

    PREFETCH (0F 0D) with a register is #UD on AMD's processors (APM Vol. 3, PREFETCHlevel)."""
    if s.cpu.amd and s.insn.code in _PREFETCH_REGISTER:
        return s.undefined()
    return lambda: None


def _xchg_r8(s: Site, raw: bytes) -> Op:
    """F3 REX.B 90 is XCHG R8, RAX to a processor (the prefix means nothing), PAUSE to the decoder."""
    r, size = s.cpu.r, 8 if raw[-2] & 8 else 2 if 0x66 in raw[:-2] else 4
    mask = MASKS[size]

    def op() -> None:
        a, b = r[RAX], r[8]
        keep = ~M16 if size == 2 else 0
        r[RAX], r[8] = a & keep | b & mask, b & keep | a & mask

    return op


def pause(s: Site) -> Op:
    """PAUSE: whoever spins waits for another processor, so let that one run."""
    if s.mode.bits == 64 and s.insn.len > 2:
        raw = s.memory.read_bytes(s.ip, s.insn.len)
        if raw[-2] & 0xF1 == 0x41:
            return _xchg_r8(s, raw)
    cpu = s.cpu
    if cpu.cpus == 1:
        return nop(s)
    s.ends_block()

    def op() -> None:
        cpu.turn_over = cpu.attention = True

    return op


def cache_line(s: Site) -> Op:
    """CLFLUSH, CLFLUSHOPT, CLWB: a load of one byte as far as faults go."""
    address, check = s.address(1, False), s.memory.run
    stack = s.mode.bits == 64 and s.stack_operand()

    def op() -> None:
        lin = address()
        if stack and (lin >> 47) + 1 & 0x1FFFE:
            raise stack_fault()
        check(lin, False)

    return op


M = Mnemonic
_CC = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

TABLE: Table = {
    M.MOV: mov, M.LEA: lea, M.XCHG: xchg,
    M.MOVZX: movzx, M.MOVSX: movsx, M.MOVSXD: movsx,
    M.CBW: widen(1), M.CWDE: widen(2), M.CDQE: widen(4), M.CWD: spread(2), M.CDQ: spread(4), M.CQO: spread(8),
    M.BSWAP: bswap, M.MOVBE: movbe, M.XLATB: xlatb, M.MOVNTI: mov,
    M.LDS: load_far(3), M.LES: load_far(0), M.LFS: load_far(4), M.LGS: load_far(5), M.LSS: load_far(2),
    M.NOP: nop, M.PAUSE: pause, M.ENDBR32: nop, M.ENDBR64: nop, M.RESERVEDNOP: nop,
    M.PREFETCHW: nop, M.PREFETCHNTA: nop, M.PREFETCHT0: nop, M.PREFETCHT1: nop, M.PREFETCHT2: nop,
    M.PREFETCH: nop,
    M.PREFETCHWT1: nop, M.PREFETCHIT0: nop, M.PREFETCHIT1: nop, M.CLDEMOTE: nop,
    M.RDSSPD: nop, M.RDSSPQ: nop,
    M.LFENCE: nop, M.MFENCE: nop, M.SFENCE: nop,
    M.CLFLUSH: cache_line, M.CLFLUSHOPT: cache_line, M.CLWB: cache_line,
    **{getattr(M, "CMOV" + cc): cmov(n) for n, cc in enumerate(_CC)},
    **{getattr(M, "SET" + cc): setcc(n) for n, cc in enumerate(_CC)},
}  # fmt: skip
