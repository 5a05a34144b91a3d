"""Finding and building blocks: runs of decoded instructions as lists of ops."""

from minihv.engine.interpret.cpu import CS, M32, Cpu, Mode
from minihv.engine.interpret.decode import MAX_LENGTH, DecoderError, decoder, wide_far
from minihv.engine.interpret.faults import BlockDied, GuestFault, protection
from minihv.engine.interpret.physical import Physical
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import VECTOR_UD

MAX_INSNS = 64
_MAX_FAST = 1 << 16
_MAX_BLOCKS = 1 << 15


class Block:
    """Instructions that follow each other. `ips[k]` is the offset of instruction k, the last what follows."""

    __slots__ = ("count", "dead", "end", "ips", "ops")

    def __init__(self, ops: list[Op], ips: list[int]) -> None:
        self.ops = ops
        self.ips = ips
        self.count = len(ops)
        self.end = ips[-1]
        self.dead = False

    def kill(self) -> None:
        """The bytes changed. If the block runs just now, it stops after the present op."""
        self.dead = True
        self.ops[:] = [_stop] * self.count


def _stop() -> None:
    raise BlockDied


class Blocks:
    """The decode cache of one vCPU."""

    def __init__(self, cpu: Cpu, physical: Physical, table: Table, amd: bool) -> None:
        self.cpu = cpu
        self.physical = physical
        self.table = table
        self.amd = amd
        self.built = 0
        """Blocks built so far; a statistic."""
        self._alive = 0

    def lookup(self) -> Block:
        """The block at CS:RIP. Raises the fault of fetching or decoding its first instruction."""
        cpu = self.cpu
        rip, mode = cpu.rip, cpu.mode
        cs = cpu.seg[CS]
        if mode.bits == 64:
            if (rip >> 47) + 1 & 0x1FFFE:
                raise protection()
            lin = rip
        else:
            if rip > cs.limit:
                raise protection()
            lin = cs.base + rip & M32
        gpa = cpu.mmu.translate(lin, False, mode.user, True)
        key = (gpa, rip, mode, cs.limit if mode.bits != 64 else 0, cpu.index)
        frame = self.physical.frame(gpa)
        block = frame.blocks.get(key) if frame is not None else None
        if block is None:
            block = self._build(lin, gpa, key)
        fast = cpu.fast
        if len(fast) >= _MAX_FAST:
            fast.clear()
        fast[rip] = block
        return block

    def _build(self, lin: int, gpa: int, key: tuple[object, ...]) -> Block:
        frame = self.physical.frame(gpa)
        if frame is None:
            # Nothing to fetch: the bus answers all ones (FF FF is no instruction).
            raise GuestFault(VECTOR_UD)
        cpu, mode = self.cpu, self.cpu.mode
        offset = gpa & 0xFFF
        room = 0x1000 - offset
        if mode.bits != 64:
            room = min(room, cpu.seg[CS].limit - cpu.rip + 1)
        code = bytes(frame.views[1][offset : offset + min(room, MAX_INSNS * MAX_LENGTH)])
        ops, ips, used = self._decode(code, cpu.rip, mode)
        if not ops:
            return self._build_across(lin, gpa, code, key)
        block = Block(ops, ips)
        self._count()
        self.physical.mark_code(frame, offset, used, key, block)
        return block

    def _decode(self, code: bytes, ip: int, mode: Mode) -> tuple[list[Op], list[int], int]:
        """Ops and offsets of the instructions in `code`; none if the first one needs more bytes."""
        cpu, table = self.cpu, self.table
        reader = decoder(mode.bits, code, ip, self.amd)
        ops: list[Op] = []
        ips = [ip]
        used = 0
        while reader.can_decode and len(ops) < MAX_INSNS:
            insn = reader.decode()
            if insn.is_invalid:
                if reader.last_error == DecoderError.NO_MORE_BYTES and len(code) - used < MAX_LENGTH:
                    break
                if ops:
                    break
                self._refuse(reader.position)
            if self.amd:
                insn = wide_far(insn, mode.bits, code[used : reader.position])
            site = Site(cpu, insn, mode, ips[-1])
            builder: Builder | None = table.get(insn.mnemonic)
            ops.append(builder(site) if builder is not None else site.undefined())
            ips.append(site.next_ip)
            used = reader.position
            if site.ends or builder is None:
                break
        return ops, ips, used

    def _refuse(self, consumed: int) -> None:
        """The first instruction is none: #GP where the decoder ran out of the 15 bytes, else #UD."""
        raise protection() if consumed >= MAX_LENGTH else GuestFault(VECTOR_UD)

    def _build_across(self, lin: int, gpa: int, code: bytes, key: tuple[object, ...]) -> Block:
        """One instruction whose bytes go on in the next page (or beyond the CS limit)."""
        cpu, mode = self.cpu, self.cpu.mode
        if mode.bits != 64 and (lin + len(code)) & 0xFFF:
            raise protection()  # the limit ends it, not the page
        second_lin = lin + len(code)
        if mode.bits != 64:
            if cpu.rip + len(code) > cpu.seg[CS].limit:
                raise protection()
            second_lin &= M32
        elif (second_lin >> 47) + 1 & 0x1FFFE:
            raise protection()
        second_gpa = cpu.mmu.translate(second_lin, False, mode.user, True)
        frame, second = self.physical.frame(gpa), self.physical.frame(second_gpa)
        assert frame is not None
        more = MAX_LENGTH - len(code)
        if mode.bits != 64:
            more = min(more, cpu.seg[CS].limit - cpu.rip - len(code) + 1)
        tail = bytes(second.views[1][:more]) if second is not None else b"\xff" * more
        reader = decoder(mode.bits, code + tail, cpu.rip, self.amd)
        insn = reader.decode()
        if insn.is_invalid:
            if reader.last_error == DecoderError.NO_MORE_BYTES:
                raise protection()  # the CS limit ends it
            self._refuse(reader.position)
        if self.amd:
            insn = wide_far(insn, mode.bits, (code + tail)[: reader.position])
        site = Site(cpu, insn, mode, cpu.rip)
        builder = self.table.get(insn.mnemonic)
        op = builder(site) if builder is not None else site.undefined()
        block = Block([op], [cpu.rip, site.next_ip])
        self._count()
        # Not found again by GPA: after a flush the second page may be another one.
        both = (*key, second_gpa)
        self.physical.mark_code(frame, gpa & 0xFFF, len(code), both, block)
        if second is not None:
            self.physical.mark_code(second, 0, insn.len - len(code), both, block)
        return block

    def _count(self) -> None:
        self.built += 1
        self._alive += 1
        if self._alive > _MAX_BLOCKS:  # bounds what a hostile guest can make us keep
            self._alive = 0
            self.physical.drop_all()
