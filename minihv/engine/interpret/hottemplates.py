"""Templates of the commonest instructions for `hotcode`: each writes the source of one instruction.

A template refuses a form it has no source for by `NoTemplate`; the op then does it.
"""

from collections.abc import Callable

from minihv.engine.interpret.control import fixed_target
from minihv.engine.interpret.cpu import CS, M32, RSP, SS
from minihv.engine.interpret.decode import Code, Mnemonic
from minihv.engine.interpret.flags import MASKS, SIGNS
from minihv.engine.interpret.hotcode import NoTemplate, Writer
from minihv.engine.interpret.site import Site

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
        if s.insn.code == Code.MOVSXD_R16_RM16:
            raise NoTemplate  # how much it reads depends on the vendor
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
_CC = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

TEMPLATES: dict[int, Template] = {
    M.MOV: _mov, M.MOVZX: _widen(False), M.MOVSX: _widen(True), M.MOVSXD: _widen(True), M.LEA: _lea,
    M.ADD: _binary("ADD", "+"), M.SUB: _binary("SUB", "-"), M.CMP: _binary("SUB", "-", False),
    M.AND: _binary("LOGIC", "&"), M.OR: _binary("LOGIC", "|"), M.XOR: _binary("LOGIC", "^"),
    M.TEST: _binary("LOGIC", "&", False), M.INC: _step("INC", "+"), M.DEC: _step("DEC", "-"),
    M.NEG: _neg, M.NOT: _not, M.PUSH: _push, M.POP: _pop, M.JMP: _jmp, M.CALL: _call, M.RET: _ret,
    M.NOP: _nop,
    **{getattr(M, "J" + cc): _jcc(n) for n, cc in enumerate(_CC)},
    **{getattr(M, "CMOV" + cc): _cmov(n) for n, cc in enumerate(_CC)},
    **{getattr(M, "SET" + cc): _setcc(n) for n, cc in enumerate(_CC)},
}  # fmt: skip
