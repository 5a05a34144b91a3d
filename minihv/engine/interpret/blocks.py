"""Finding and building blocks: runs of decoded instructions as lists of ops."""

from minihv.engine.interpret.cpu import CS, M32, Cpu, Mode
from minihv.engine.interpret.decode import MAX_LENGTH, DecoderError, decoder, wide_far
from minihv.engine.interpret.faults import BlockDied, GuestFault, protection
from minihv.engine.interpret.hot import HEAT, compile_block
from minihv.engine.interpret.physical import Frame, Physical
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import VECTOR_UD

MAX_INSNS = 64
_MAX_FAST = 1 << 16
_MAX_BLOCKS = 1 << 15


class Block:
    """Instructions that follow each other. `ips[k]` is the offset of instruction k, the last what follows."""

    __slots__ = ("colder", "count", "dead", "end", "ips", "ops", "run")

    def __init__(self, ops: list[Op], ips: list[int]) -> None:
        self.ops = ops
        """An op for each instruction."""
        self.run: Op | None = None
        """In a hot block: one function for all instructions."""
        self.ips = ips
        self.count = len(ops)
        self.end = ips[-1]
        self.dead = False
        self.colder: Block | None = None
        """The block that this hot one replaces; it may be running still."""

    def kill(self) -> None:
        """The bytes changed. If the block runs just now, it stops after the present instruction."""
        self.dead = True
        self.ops[:] = [_stop] * self.count
        if self.colder is not None:
            self.colder.kill()


def _stop() -> None:
    raise BlockDied


class Blocks:
    """The decode cache of one vCPU."""

    def __init__(self, cpu: Cpu, physical: Physical, table: Table, amd: bool) -> None:
        self.cpu = cpu
        self.physical = physical
        self.table = table
        self.amd = amd
        self.heat = HEAT
        """Runs of a block until it is compiled; 1: at once, 0: never."""
        self.compiled = 0
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
        sites, ops, used = self._decode(code, cpu.rip, mode)
        if not ops:
            return self._build_across(lin, gpa, code, key)
        block = Block(ops, [*(site.ip for site in sites), sites[-1].next_ip])
        self._count()
        self.physical.mark_code(frame, offset, used, key, block)
        if self.heat == 1:
            return self._heat(block, sites, frame, key)
        self._watch_heat(block, sites, frame, key)
        return block

    def _watch_heat(self, block: Block, sites: list[Site], frame: Frame, key: tuple[object, ...]) -> None:
        """Count how often the block runs, in its first op, until it is replaced by a hot one."""
        first, left = block.ops[0], self.heat

        def counting() -> None:
            nonlocal left
            left -= 1
            if not left:
                block.ops[0] = first
                self._heat(block, sites, frame, key)
            first()

        if left:
            block.ops[0] = counting

    def _heat(self, block: Block, sites: list[Site], frame: Frame, key: tuple[object, ...]) -> Block:
        """Let a function of its own take the block's place, from the next run on; gives what runs then."""
        if block.dead or frame.blocks.get(key) is not block:
            return block
        hot = Block(block.ops, block.ips)
        function = compile_block(self.cpu, hot, sites, block.ops)
        if function is None:
            return block
        self.compiled += 1
        hot.run, hot.colder = function, block
        frame.blocks[key] = hot
        fast = self.cpu.fast
        if fast.get(block.ips[0]) is block:
            fast[block.ips[0]] = hot
        return hot

    def _decode(self, code: bytes, ip: int, mode: Mode) -> tuple[list[Site], list[Op], int]:
        """Sites and ops of the instructions in `code`; none if the first one needs more bytes."""
        cpu, table = self.cpu, self.table
        reader = decoder(mode.bits, code, ip, self.amd)
        ops: list[Op] = []
        sites: list[Site] = []
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
            site = Site(cpu, insn, mode, ip)
            builder: Builder | None = table.get(insn.mnemonic)
            ops.append(builder(site) if builder is not None else site.undefined())
            sites.append(site)
            ip = site.next_ip
            used = reader.position
            if site.ends or builder is None:
                break
        return sites, ops, used

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
