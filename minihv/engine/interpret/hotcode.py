"""Python source for a block that runs often: registers and flags in local variables, no call per instruction.

The closures stay the reference: an instruction that has no template here is called as its op, and tests
run both. Two facts make it fast and still exact:

- Only slow paths (`load`, `store` of `Space`, and ops) can fault, exit, or see registers. Before such a call
  the dirty locals and the pending flags are written back, and `cpu.pos` says which instruction it is. The
  fast path pays nothing for that.
- Flags are pending as the names of the locals they follow from; they become a tuple in `cpu.fl` where
  somebody else may look: at slow paths and at the end.

A block that jumps to its own start becomes a `while` loop that stays in its locals.
"""

from typing import NamedTuple

from minihv.engine.interpret.cpu import FS, GS
from minihv.engine.interpret.decode import OpKind, Register, general_register
from minihv.engine.interpret.flags import ADD, CONDITIONS, DEC, INC, LOGIC, MASKS, SIGNS, SUB
from minihv.engine.interpret.site import Op, Site

_SHIFT = {1: 0, 2: 1, 4: 2, 8: 3}
_RULES = {"ADD": ADD, "SUB": SUB, "LOGIC": LOGIC, "INC": INC, "DEC": DEC}


class Pending(NamedTuple):
    """Flags not stored yet: the rule and the source text of its three values."""

    rule: str
    size: int
    a: str
    b: str
    c: str


class NoTemplate(Exception):
    """This instruction (in this form) is executed by its op."""


class Writer:
    """Writes the source of one block."""

    def __init__(self, sites: list[Site], preload: frozenset[int] = frozenset()) -> None:
        self.sites = sites
        self.mode = sites[0].mode
        self.wide = self.mode.bits == 64
        self.lines: list[str] = []
        self.indent = 2
        self.names: dict[str, object] = {}
        """What the source refers to from outside."""
        self.used: set[int] = set(preload)
        self.cached: set[int] = set(preload)
        self.dirty: set[int] = set()
        self.flags: Pending | None = None
        self.number = 0
        self.ops_called = 0
        self.loop_start: int | None = None
        """Where a jump back makes a loop of the block."""
        self.loops = False
        self.flags_seen = False
        """Flags have been set in this block."""
        self.needs_old_flags = False
        """Somebody looks at the flags from before the block: a loop must store them each time round."""

    # --- text ---------------------------------------------------------------------------------------

    def emit(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def name(self, name: str, value: object) -> str:
        """`name`, bound to `value` from outside."""
        self.names[name] = value
        return name

    def write_back(self) -> None:
        """Dirty registers and pending flags, for somebody else to see; they stay cached and pending."""
        for n in sorted(self.dirty):
            self.emit(f"r[{n}] = r{n}")
        self.store_flags()

    def store_flags(self) -> None:
        """Make pending flags the CPU's."""
        if self.flags is not None:
            rule, size, a, b, c = self.flags
            bound = self.name(f"{rule}{size}", _RULES[rule][size])
            self.emit(f"cpu.fl = ({bound}, {a}, {b}, {c})")
        elif not self.flags_seen:
            self.needs_old_flags = True

    def set_flags(self, rule: str, size: int, a: str, b: str, c: str) -> None:
        self.flags = Pending(rule, size, a, b, c)
        self.flags_seen = True

    # --- operands -----------------------------------------------------------------------------------

    def reg(self, n: int, size: int = 8, high: bool = False) -> str:
        """Source for (part of) a general register."""
        self.used.add(n)
        if n not in self.cached:
            self.emit(f"r{n} = r[{n}]")
            self.cached.add(n)
        if high:
            return f"(r{n} >> 8 & 255)"
        if size == 8 or (size == 4 and not self.wide):
            return f"r{n}"
        return f"(r{n} & {MASKS[size]})"

    def set_reg(self, n: int, value: str, size: int = 8, high: bool = False) -> None:
        """Assign (part of) a general register; `value` is cut to size already."""
        if size < 4:
            self.reg(n)
            keep = ~0xFF00 if high else ~MASKS[size]
            self.emit(f"r{n} = r{n} & {keep} | {value}{' << 8' if high else ''}")
        else:
            self.emit(f"r{n} = {value}")
        self.used.add(n)
        self.cached.add(n)
        self.dirty.add(n)

    def value(self, s: Site, n: int) -> str:
        """Source for the value of operand `n`; a load is emitted where it is memory."""
        kind = s.insn.op_kind(n)
        if kind == OpKind.REGISTER:
            index, size, high = self.general(s, n)
            return self.reg(index, size, high)
        if kind == OpKind.MEMORY:
            return self.load(s, s.size(n))
        if s.is_imm(n):
            return str(s.imm(n))
        raise NoTemplate

    def general(self, s: Site, n: int) -> tuple[int, int, bool]:
        found = general_register.get(s.insn.op_register(n))
        if found is None:
            raise NoTemplate
        return found

    def offset(self, s: Site) -> str:
        """Source for the memory operand's offset, not cut."""
        insn = s.insn
        base, index = general_register.get(insn.memory_base), general_register.get(insn.memory_index)
        parts = []
        if base is not None:
            parts.append(self.reg(base[0]))
        if index is not None:
            scale = insn.memory_index_scale
            parts.append(self.reg(index[0]) if scale == 1 else f"{self.reg(index[0])} * {scale}")
        if base is None and index is None and insn.memory_base in (Register.RIP, Register.EIP):
            return str(insn.memory_displacement)
        disp = s.displacement()
        if disp or not parts:
            parts.append(str(disp))
        return " + ".join(parts)

    def address(self, s: Site) -> str:
        """Emit the linear address of the memory operand into a local; gives its name."""
        if self.mode.align or not s.unchecked:
            raise NoTemplate
        segment = s.segment()
        text = self.offset(s)
        if self.wide and segment in (FS, GS):
            text = f"{self.name(f's{segment}', s.cpu.seg[segment])}.base + {text}"
        at = f"L{self.number}"
        self.emit(f"{at} = {text}")
        return at

    # --- memory -------------------------------------------------------------------------------------

    def page(self, at: str, size: int, table: str, views: object) -> None:
        """Emit the TLB look-up of `at` into `p`."""
        bound = self.name(f"{table}{size}", views)
        if size == 1:
            self.emit(f"p = {bound}.get({at} >> 12)")
        else:
            self.emit(f"p = None if {at} & {size - 1} else {bound}.get({at} >> 12)")

    def index(self, at: str, size: int) -> str:
        return f"({at} & 4095) >> {_SHIFT[size]}" if size > 1 else f"{at} & 4095"

    def load_at(self, s: Site, at: str, size: int, stack: bool, target: str, locked: bool = False) -> None:
        """Emit a load of `at` into local `target`; `locked`: with the right to write."""
        memory = s.memory
        kinds = {
            (False, False): ("ld", memory.load), (False, True): ("lds", memory.load_stack),
            (True, False): ("rw", memory.load_locked), (True, True): ("rws", memory.load_locked_stack),
        }  # fmt: skip
        name, function = kinds[locked, stack]
        slow = self.name(name, function)
        self.page(at, size, "W" if locked else "R", (memory.writes if locked else memory.reads)[size])
        self.emit("if p is None:")
        self.indent += 1
        self.write_back()
        self.emit(f"cpu.pos = {self.number}")
        self.emit(f"{target} = {slow}({at}, {size})")
        self.indent -= 1
        self.emit(f"else: {target} = p[{self.index(at, size)}]")

    def store_at(self, s: Site, at: str, size: int, stack: bool, value: str) -> None:
        """Emit a store; one that hits decoded code ends the block where that is this one."""
        memory = s.memory
        slow = self.name("sts" if stack else "st", memory.store_stack if stack else memory.store)
        self.page(at, size, "W", memory.writes[size])
        self.emit("if p is None:")
        self.indent += 1
        self.write_back()
        self.emit(f"cpu.pos = {self.number}")
        self.emit(f"{slow}({at}, {value}, {size})")
        self.emit("died = block.dead")
        self.indent -= 1
        self.emit(f"else: p[{self.index(at, size)}] = {value}")

    def load(self, s: Site, size: int, locked: bool = False, at: str | None = None) -> str:
        if size not in _SHIFT:
            raise NoTemplate
        at = at or self.address(s)
        target = f"m{self.number}"
        self.load_at(s, at, size, s.stack_operand(), target, locked)
        return target

    # --- the end of an instruction --------------------------------------------------------------------

    def check_died(self) -> None:
        """After the registers of a storing instruction are set: stop if the store hit this block."""
        if self.number == len(self.sites) - 1:
            return  # the block ends anyway, and is looked up again
        self.names["BlockDied"] = None
        self.emit("if died:")
        self.indent += 1
        self.write_back()
        self.emit(f"cpu.pos = {self.number + 1}")
        self.emit("raise BlockDied")
        self.indent -= 1

    def call_op(self, op: Op) -> None:
        """Execute the instruction by its op."""
        self.write_back()
        self.flags = None
        self.dirty.clear()
        self.cached.clear()
        self.ops_called += 1
        self.emit(f"cpu.pos = {self.number}")
        self.emit(f"{self.name(f'op{self.number}', op)}()")
        self.emit("died = block.dead")
        self.check_died()

    def close_loop(self, condition: str) -> None:
        """The block jumps to its own start while `condition` holds, as long as nobody else wants to act."""
        self.loops = True
        self.emit(f"if not ({condition}): break")
        if self.needs_old_flags:
            self.store_flags()
        self.emit(f"if cpu.attention or cpu.left < {len(self.sites)}:")
        self.emit(f"    cpu.rip = {self.loop_start}")
        self.emit("    break")
        self.emit(f"cpu.left -= {len(self.sites)}")

    def condition(self, number: int) -> str:
        """Source of condition `number` (of Jcc and friends), as a truth value."""
        text = self._condition(number & ~1)
        return f"not ({text})" if number & 1 else text

    def _condition(self, number: int) -> str:
        f = self.flags
        if f is not None:
            sign = SIGNS[f.size]
            known = {4: f"{f.c} == 0", 8: f"{f.c} & {sign}"}
            if f.rule == "SUB":
                known |= {
                    2: f"{f.a} < {f.b}", 6: f"{f.a} <= {f.b}",
                    12: f"({f.a} ^ {sign}) < ({f.b} ^ {sign})", 14: f"({f.a} ^ {sign}) <= ({f.b} ^ {sign})",
                }  # fmt: skip
            elif f.rule == "ADD":
                known[2] = f"{f.c} < {f.a}"
            elif f.rule == "LOGIC":
                known |= {0: "False", 2: "False", 6: f"{f.c} == 0", 12: f"{f.c} & {sign}"}
                known[14] = f"({f.c} == 0 or {f.c} & {sign})"
            else:
                known[2] = f"{f.a}"
            if number in known:
                return known[number]
            self.write_back()
        else:
            self.needs_old_flags = self.needs_old_flags or not self.flags_seen
            if number == 4:
                return "cpu.fl[3] == 0"
        return f"{self.name(f'cc{number}', CONDITIONS[number])}(cpu.fl)"

    def carry(self) -> str:
        """Source of CF as 0 or 1 (or a bool)."""
        f = self.flags
        if f is None:
            self.needs_old_flags = self.needs_old_flags or not self.flags_seen
            self.emit("f = cpu.fl")
            return "f[0].cf(f)"
        return {"ADD": f"({f.c} < {f.a})", "SUB": f"({f.a} < {f.b})", "LOGIC": "0"}.get(f.rule, f.a)
