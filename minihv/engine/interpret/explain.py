"""What the interpreter does with one instruction, step by step and with the real values."""

from collections.abc import Iterator

from minihv.engine.interpret.decode import decoder
from minihv.engine.interpret.table import load_table
from minihv.x86.registers import RFLAGS_NAMES
from minihv.x86.steps import Operand, SiteExits, Step


class InterpretNarrator:
    """`minihv.x86.steps.Narrator` of the interpret engine."""

    def heading(self) -> str:
        return "Python, one instruction after the other; no instruction of the guest reaches a processor"

    def tell(self, step: Step, exits: tuple[SiteExits, ...]) -> list[str]:
        lines = [
            ("fetch", _fetch(step)),
            ("decode", _decode(step)),
            ("operands", _values(step, before=True) or "none"),
        ]
        if exits:
            lines.append(("execute", "left unfinished: the answer must come from minihv, see the path below"))
            lines.append(("again", "executed once more with the answer at hand, and finished"))
        else:
            lines.append(("execute", _result(step)))
        lines.append(("write back", _written(step)))
        return [f"{number}. {what:<10}  {words}" for number, (what, words) in enumerate(lines, 1)]

    def exit_name(self, name: str) -> str:
        return f"the op raises NeedExit: {name}"


def _fetch(step: Step) -> str:
    walked = step.walk
    if walked.gpa is None:
        return f"nothing: {walked.reason}"
    if not walked.entries:
        way = f"GPA {walked.gpa:#x} (paging is off)"
    else:
        tables = " -> ".join(f"{e.name}[{e.index}]" for e in walked.entries)
        way = f"GPA {walked.gpa:#x} (walk: {tables}), then remembered"
    size = "1 byte" if len(step.code) == 1 else f"{len(step.code)} bytes"
    return f"{size} {step.code.hex(' ')} at GVA {step.address:#x} -> {way}"


def _decode(step: Step) -> str:
    instruction = decoder(step.bits, step.code, step.address, False).decode()
    builder = load_table().get(instruction.mnemonic)
    if builder is None:
        return f"{step.text}: there is no such instruction here, so #UD"
    page = builder.__module__.rpartition(".")[2]
    return f"{step.encoding}, iced-x86 says; the page {page}.py turns it into a Python function, once"


def _values(step: Step, *, before: bool) -> str:
    wanted = [o for o in step.operands if (o.reads if before else o.writes)]
    return ", ".join(f"{_name(o)} = {_value(o.before if before else o.after)}" for o in wanted)


def _name(operand: Operand) -> str:
    if operand.gva is None:
        return operand.text
    if operand.gpa is None:
        return f"{operand.text} (not mapped)"
    return f"{operand.text} (GPA {operand.gpa:#x})"


def _value(value: int | None) -> str:
    return "not shown" if value is None else f"{value:#x}"


def _result(step: Step) -> str:
    if step.after is None:
        return "the machine ended in it"
    after = step.after.rflags
    bits = {name: bit for bit, name in RFLAGS_NAMES.items()}
    flags = " ".join(f"{name}={int(bool(after & bits[name]))}" for name in step.flags)
    result = _values(step, before=False)
    return "; ".join(filter(None, (result, f"flags {flags}" if flags else ""))) or "nothing to compute"


def _written(step: Step) -> str:
    if step.after is None:
        return "nothing any more"
    return ", ".join((*_changed(step), f"rip = {step.after.rip:#x}"))


def _changed(step: Step) -> Iterator[str]:
    """Operands that hold another value now."""
    for operand in step.operands:
        if operand.writes and operand.after is not None:
            same = " (as before)" if operand.after == operand.before else ""
            yield f"{operand.text} = {operand.after:#x}{same}"
