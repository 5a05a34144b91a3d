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

from collections.abc import Callable
from typing import NamedTuple

from minihv.engine.interpret.control import fixed_target
from minihv.engine.interpret.cpu import CS, FS, GS, M32, RSP, SS
from minihv.engine.interpret.decode import Mnemonic, OpKind, Register, general_register
from minihv.engine.interpret.flags import ADD, CONDITIONS, DEC, INC, LOGIC, MASKS, SIGNS, SUB
from minihv.engine.interpret.site import Op, Site

_SHIFT = {1: 0, 2: 1, 4: 2, 8: 3}
_RULES = {"ADD": ADD, "SUB": SUB, "LOGIC": LOGIC, "INC": INC, "DEC": DEC}
_LOWER_NAMES = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")


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


Template = Callable[[Writer, Site], None]


def _modify(w: Writer, s: Site) -> tuple[str, Callable[[str], None]]:
    """(value of operand 0, function that emits the assignment of the result)."""
    if s.is_reg(0):
        index, size, high = w.general(s, 0)

        def set_register(value: str) -> None:
            w.set_reg(index, value, size, high)

        return w.reg(index, size, high), set_register
    size = s.size(0)
    at = w.address(s)
    old = w.load(s, size, True, at)

    def set_memory(value: str) -> None:
        w.store_at(s, at, size, s.stack_operand(), value)

    return old, set_memory


def _finish(w: Writer, s: Site) -> None:
    """After flags and registers: a store into this very block ends it."""
    if s.is_mem(0):
        w.check_died()


def _mov(w: Writer, s: Site) -> None:
    if s.is_reg(0):
        index, size, high = w.general(s, 0)
        w.set_reg(index, w.value(s, 1), size, high)
        return
    size = s.size(0)
    value = w.value(s, 1)
    w.store_at(s, w.address(s), size, s.stack_operand(), value)
    w.check_died()


def _widen(signed: bool) -> Template:
    """MOVZX, MOVSX, MOVSXD."""

    def template(w: Writer, s: Site) -> None:
        index, size, high = w.general(s, 0)
        value = w.value(s, 1)
        if signed:
            sign = SIGNS[s.size(1)]
            value = f"({value} ^ {sign}) - {sign} & {MASKS[size]}"
        w.set_reg(index, value, size, high)

    return template


def _lea(w: Writer, s: Site) -> None:
    index, size, high = w.general(s, 0)
    mask = MASKS[size] & MASKS[s.address_size()]
    w.set_reg(index, f"{w.offset(s)} & {mask}", size, high)


def _binary(rule: str, operator: str, keep: bool = True) -> Template:
    """ADD, SUB, AND, OR, XOR; CMP and TEST with `keep` False."""

    def template(w: Writer, s: Site) -> None:
        size, k = s.size(0), w.number
        logic = rule == "LOGIC"
        b = w.value(s, 1)
        if not b.isdigit():
            w.emit(f"b{k} = {b}")
            b = f"b{k}"
        old, assign = _modify(w, s) if keep else (w.value(s, 0), None)
        a = f"a{k}"
        cut = "" if logic else f" & {MASKS[size]}"
        w.emit(f"{a} = {old}")
        w.emit(f"c{k} = {a} {operator} {b}{cut}")
        if assign is not None:
            assign(f"c{k}")
        w.set_flags(rule, size, "0" if logic else a, "0" if logic else b, f"c{k}")
        if keep:
            _finish(w, s)

    return template


def _step(rule: str, operator: str) -> Template:
    """INC and DEC."""

    def template(w: Writer, s: Site) -> None:
        size, k = s.size(0), w.number
        old, assign = _modify(w, s)
        w.emit(f"a{k} = {w.carry()}")
        w.emit(f"c{k} = {old} {operator} 1 & {MASKS[size]}")
        assign(f"c{k}")
        w.set_flags(rule, size, f"a{k}", "0", f"c{k}")
        _finish(w, s)

    return template


def _neg(w: Writer, s: Site) -> None:
    size, k = s.size(0), w.number
    old, assign = _modify(w, s)
    w.emit(f"b{k} = {old}")
    w.emit(f"c{k} = -b{k} & {MASKS[size]}")
    assign(f"c{k}")
    w.set_flags("SUB", size, "0", f"b{k}", f"c{k}")
    _finish(w, s)


def _not(w: Writer, s: Site) -> None:
    old, assign = _modify(w, s)
    w.emit(f"c{w.number} = {old} ^ {MASKS[s.size(0)]}")
    assign(f"c{w.number}")
    _finish(w, s)


def _flat_stack(w: Writer) -> bool:
    return w.wide or (w.mode.stack_mask == M32 and bool(w.mode.flat >> SS & 1) and not w.mode.long)


def _push_value(w: Writer, s: Site, value: str, size: int) -> None:
    if not _flat_stack(w) or w.mode.align:
        raise NoTemplate
    k = w.number
    w.emit(f"L{k} = {w.reg(RSP)} - {size} & {w.mode.stack_mask}")
    w.store_at(s, f"L{k}", size, True, value)
    w.set_reg(RSP, f"L{k}")


def _push(w: Writer, s: Site) -> None:
    size = abs(s.insn.stack_pointer_increment)
    if s.is_mem(0):
        raise NoTemplate
    if s.is_reg(0):
        index, _, _ = w.general(s, 0)
        value = w.reg(index, size)
    else:
        value = str(s.insn.immediate(0) & MASKS[size])
    _push_value(w, s, value, size)
    w.check_died()


def _pop_value(w: Writer, s: Site, size: int, extra: int = 0) -> str:
    if not _flat_stack(w) or w.mode.align:
        raise NoTemplate
    k = w.number
    w.emit(f"L{k} = {w.reg(RSP)}")
    w.load_at(s, f"L{k}", size, True, f"m{k}")
    w.set_reg(RSP, f"L{k} + {size + extra} & {w.mode.stack_mask}")
    return f"m{k}"


def _pop(w: Writer, s: Site) -> None:
    size = abs(s.insn.stack_pointer_increment)
    if not s.is_reg(0):
        raise NoTemplate
    index, _, _ = w.general(s, 0)
    w.set_reg(index, _pop_value(w, s, size), size)


def _target(w: Writer, s: Site) -> int:
    """A fixed near target that is surely good."""
    if s.insn.is_jmp_far or s.insn.is_call_far:
        raise NoTemplate
    target = fixed_target(s)
    if target is None:
        raise NoTemplate
    return target


def _jmp(w: Writer, s: Site) -> None:
    if s.is_reg(0) or s.is_mem(0):
        if s.insn.is_jmp_far_indirect:
            raise NoTemplate
        w.emit(f"c{w.number} = {w.value(s, 0)}")
        _check_target(w, s, f"c{w.number}")
        w.emit(f"cpu.rip = c{w.number}")
        return
    target = _target(w, s)
    if target == w.loop_start:
        w.close_loop("True")
        return
    w.emit(f"cpu.rip = {target}")


def _jcc(number: int) -> Template:
    def template(w: Writer, s: Site) -> None:
        target = _target(w, s)
        text = w.condition(number)
        if target == w.loop_start:
            w.close_loop(text)
        else:
            w.emit(f"if {text}: cpu.rip = {target}")

    return template


def _call(w: Writer, s: Site) -> None:
    size = abs(s.insn.stack_pointer_increment)
    back = str(s.next_ip & MASKS[size])
    if s.is_reg(0) or s.is_mem(0):
        if s.insn.is_call_far_indirect:
            raise NoTemplate
        w.emit(f"c{w.number} = {w.value(s, 0)}")
        _check_target(w, s, f"c{w.number}")
        _push_value(w, s, back, size)
        w.emit(f"cpu.rip = c{w.number}")
        return
    target = _target(w, s)
    _push_value(w, s, back, size)
    w.emit(f"cpu.rip = {target}")


def _check_target(w: Writer, s: Site, name: str) -> None:
    """#GP for a target that is not canonical or beyond the CS limit."""
    limit = s.cpu.seg[CS].limit
    if w.wide:
        w.emit(f"if ({name} >> 47) + 1 & 0x1FFFE:")
    elif limit < M32:
        w.emit(f"if {name} > {limit}:")
    else:
        return
    w.indent += 1
    w.write_back()
    w.emit(f"cpu.pos = {w.number}")
    w.names["protection"] = None
    w.emit("raise protection()")
    w.indent -= 1


def _ret(w: Writer, s: Site) -> None:
    extra = s.insn.immediate(0) & 0xFFFF if s.insn.op_count else 0
    size = s.insn.stack_pointer_increment - extra
    if not _flat_stack(w) or w.mode.align:
        raise NoTemplate
    k = w.number
    w.emit(f"L{k} = {w.reg(RSP)}")
    w.load_at(s, f"L{k}", size, True, f"m{k}")
    _check_target(w, s, f"m{k}")
    w.set_reg(RSP, f"L{k} + {size + extra} & {w.mode.stack_mask}")
    w.emit(f"cpu.rip = m{k}")


def _cmov(number: int) -> Template:
    def template(w: Writer, s: Site) -> None:
        index, size, high = w.general(s, 0)
        value = w.value(s, 1)
        old = w.reg(index, size)
        text = w.condition(number)
        w.set_reg(index, f"{value} if {text} else {old}", size, high) if size >= 4 else _refuse()

    return template


def _refuse() -> None:
    raise NoTemplate


def _setcc(number: int) -> Template:
    def template(w: Writer, s: Site) -> None:
        if not s.is_reg(0):
            raise NoTemplate
        index, size, high = w.general(s, 0)
        text = w.condition(number)
        w.emit(f"c{w.number} = 1 if {text} else 0")
        w.set_reg(index, f"c{w.number}", size, high)

    return template


def _nop(w: Writer, s: Site) -> None:
    pass


M = Mnemonic
TEMPLATES: dict[int, Template] = {
    M.MOV: _mov, M.MOVZX: _widen(False), M.MOVSX: _widen(True), M.MOVSXD: _widen(True), M.LEA: _lea,
    M.ADD: _binary("ADD", "+"), M.SUB: _binary("SUB", "-"), M.CMP: _binary("SUB", "-", False),
    M.AND: _binary("LOGIC", "&"), M.OR: _binary("LOGIC", "|"), M.XOR: _binary("LOGIC", "^"),
    M.TEST: _binary("LOGIC", "&", False), M.INC: _step("INC", "+"), M.DEC: _step("DEC", "-"),
    M.NEG: _neg, M.NOT: _not, M.PUSH: _push, M.POP: _pop, M.JMP: _jmp, M.CALL: _call, M.RET: _ret,
    M.NOP: _nop, M.PAUSE: _nop,
    **{getattr(M, "J" + cc): _jcc(n) for n, cc in enumerate(_LOWER_NAMES)},
    **{getattr(M, "CMOV" + cc): _cmov(n) for n, cc in enumerate(_LOWER_NAMES)},
    **{getattr(M, "SET" + cc): _setcc(n) for n, cc in enumerate(_LOWER_NAMES)},
}  # fmt: skip
