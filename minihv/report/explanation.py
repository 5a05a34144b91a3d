"""What every engine did with a few instructions, as data ("minihv.explain/1") and as text."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from minihv.report.escape import visible

SCHEMA = "minihv.explain/1"


class ExitPath(NamedTuple):
    """One exit on its way: from `address` in the guest, as exit `name`, over the bus to a register, and back.

    `value` is what went over, in words; `names` what the engine and the hardware call such an exit;
    `samples` exits of this kind came from there in the whole measured run, and to answer one took `mean_ns`.
    """

    name: str
    detail: str
    address: int
    symbol: str
    value: str
    names: str
    samples: int
    mean_ns: int

    def lines(self) -> Iterator[str]:
        where = f"{self.address:#x}" + (f" <{visible(self.symbol)}>" if self.symbol else "")
        yield f"{where} -> {self.name} exit ({self.names})"
        target = f"bus: {visible(self.detail)}" if self.detail else "the run loop"
        yield f"  -> {target}{' ' + visible(self.value) if self.value else ''} -> back to the guest"
        if self.samples:
            cost = f"{self.mean_ns / 1000:.2f} us to answer"
            yield f"  measured: {self.samples} such exits from there in a whole run, {cost} on average"
        else:
            yield "  measured: no such exit from there in the measured run"


class Account(NamedTuple):
    """One engine's story. `stories[i]` and `exits[i]` belong to instruction number i.

    `trouble`: why it could not be stepped here, or "". `before` and `after` are the nearest exits around.
    """

    engine: str
    heading: str
    stories: tuple[tuple[str, ...], ...]
    exits: tuple[tuple[ExitPath, ...], ...]
    before: ExitPath | None
    after: ExitPath | None
    exits_before: int
    trouble: str = ""


class Instruction(NamedTuple):
    """One instruction: `changes` tells what it did to registers and memory; `mark` why a hypervisor cares."""

    address: int
    symbol: str
    code: bytes
    text: str
    changes: str
    mark: str


class Explanation(NamedTuple):
    """The whole of it. `stepped_by`: the engine whose values are shown; `disagreements`: where others had
    different ones."""

    guest: str
    host: str
    instructions: tuple[Instruction, ...]
    accounts: tuple[Account, ...]
    stepped_by: str
    disagreements: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The object that --json prints."""
        return {
            "schema": SCHEMA,
            "guest": self.guest,
            "host": self.host,
            "stepped_by": self.stepped_by,
            "instructions": [i._asdict() | {"code": i.code.hex()} for i in self.instructions],
            "engines": [
                {
                    "engine": a.engine,
                    "heading": a.heading,
                    "stories": [list(story) for story in a.stories],
                    "exits": [[path._asdict() for path in paths] for paths in a.exits],
                    "exits_before": a.exits_before,
                    "before": a.before._asdict() if a.before else None,
                    "after": a.after._asdict() if a.after else None,
                    "trouble": a.trouble,
                }
                for a in self.accounts
            ],
            "disagreements": list(self.disagreements),
            "passed_over": list(self.passed_over),
            "command": self.command,
        }


def explanation_text(told: Explanation) -> str:
    """The whole text, ending in a newline."""
    lines = [f"{visible(told.guest)}: {told.host}"]
    lines += [f"{a.engine}: {a.heading}" for a in told.accounts]
    for number, instruction in enumerate(told.instructions):
        lines += ["", *_instruction(instruction, told.stepped_by)]
        for account in told.accounts:
            lines += _story(account, number)
    lines += ["", "The exits around it:"]
    for account in told.accounts:
        lines += _around(account)
    lines += ["", *(visible(words) for words in told.disagreements)]
    if not told.disagreements and sum(1 for a in told.accounts if not a.trouble) > 1:
        lines.append("All engines that stepped through it left the same registers and flags behind.")
    lines += [f"{a.engine}: {a.trouble}" for a in told.accounts if a.trouble]
    lines += [f"Passed over: {reason}" for reason in told.passed_over]
    if told.command:
        lines.append(f"Again: {visible(told.command)}")
    return "\n".join(lines) + "\n"


def _instruction(instruction: Instruction, by: str) -> Iterator[str]:
    where = f"{instruction.address:#x}" + (f" <{visible(instruction.symbol)}>" if instruction.symbol else "")
    yield f"{where}:  {instruction.code.hex(' ')}  {instruction.text}"
    if instruction.changes:
        yield f"    {instruction.changes}   (values from {by})"
    if instruction.mark:
        yield f"    {instruction.mark}"


def _story(account: Account, number: int) -> Iterator[str]:
    story = account.stories[number] if number < len(account.stories) else ()
    if not story:
        story = ("(this engine does not tell how)",)
    name = f"  {account.engine}"
    for line in story:
        yield f"{name:<13} {line}"
        name = ""
    for path in account.exits[number] if number < len(account.exits) else ():
        yield from (f"{'':<13} {line}" for line in path.lines())


def _around(account: Account) -> Iterator[str]:
    if account.trouble:
        yield f"  {account.engine:<11} not known here"
        return
    if account.before is None:
        yield f"  {account.engine:<11} before: none"
    else:
        path = account.before
        where = f"{path.address:#x}" + (f" <{visible(path.symbol)}>" if path.symbol else "")
        yield (
            f"  {account.engine:<11} before: {account.exits_before}, the last of them {path.name} "
            f"{visible(path.detail)} at {where}".rstrip()
        )
    if account.after is None:
        yield f"{'':<13} after: none"
        return
    prefix = "after: "
    for line in account.after.lines():
        yield f"{'':<13} {prefix}{line}"
        prefix = "       "
