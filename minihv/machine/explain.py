"""`minihv explain`: what every engine does with a few instructions of a guest.

Each engine runs the guest twice: once as it is, for the exits and their cost, and once with a breakpoint,
stepped from there on, for the values. The values shown are those of one engine; others are held against it.
"""

from os import PathLike
from typing import NamedTuple

from minihv.boot.plan import BootPlan
from minihv.boot.symbols import SymbolTable
from minihv.engine.select import ENGINES
from minihv.errors import GuestMemoryError, MinihvError, UsageError
from minihv.exits import DebugStop, Exit, IoOut, MmioWrite
from minihv.host.console import BufferSink
from minihv.machine.build import Parts
from minihv.machine.config import MachineConfig
from minihv.machine.lineup import working_engines
from minihv.machine.loop import Lane, Observer
from minihv.machine.machine import Machine
from minihv.machine.outcome import outcome
from minihv.machine.recorders import Recorder
from minihv.machine.reporting import symbol_namer
from minihv.report.explanation import Account, ExitPath, Explanation, Instruction
from minihv.report.model import Report
from minihv.stats import SiteInfo
from minihv.x86.operands import finish_step, linear_rip, take_step
from minihv.x86.registers import RFLAGS_NAMES
from minihv.x86.sensitive import mark
from minihv.x86.state import GPR_NAMES, CpuState
from minihv.x86.steps import Narrator, SiteExits, Step

MAX_STEPS = 1000
FAVOURITE_SYMBOL = "the_add"
"""Where an explanation begins if the image has it and nothing else is asked for."""
_FLAG_NAMES = ("CF", "PF", "AF", "ZF", "SF", "IF", "DF", "OF", "AC")


class Seen(NamedTuple):
    """An exit that the stepped run met."""

    exit: Exit
    info: SiteInfo
    address: int


class Stepper(Recorder):
    """Runs vCPU 0 to a linear address, takes `count` steps there, and stops the machine at the next exit."""

    def __init__(self, address: int, count: int) -> None:
        self._address = address
        self._count = count
        self._parts: Parts | None = None
        self._open: Step | None = None
        self._done = False
        self._exact = False
        self.steps: list[Step] = []
        self.before = 0
        """Exits before the address was reached."""
        self.last: Seen | None = None
        self.next: Seen | None = None
        self.during: list[Seen] = []

    def begin(self, parts: Parts, now: int) -> None:
        self._parts = parts
        self._exact = parts.engine is not None and parts.engine.traits.counts_instructions
        loop = parts.loops[0]
        loop.lanes[DebugStop] = Lane(
            self, Stepper._debug_stop, lambda exit: exit.rip, lambda exit: SiteInfo("debug")
        )
        loop.vcpu.debug(False, (self._address,))

    def observer(self, index: int) -> Observer | None:
        return self._observe if index == 0 else None

    @property
    def reached(self) -> bool:
        """The address was reached."""
        return bool(self.steps) or self._open is not None

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Whose steps to believe: KVM's miss the instruction behind one that made an exit, because what is
        completed by emulation does not trap; an engine that counts instructions misses none."""
        return self.reached, self._exact, len(self.steps)

    def _read(self, gpa: int, size: int) -> int:
        assert self._parts is not None
        if self._parts.memory.find(gpa) is None:
            raise GuestMemoryError(gpa, size)
        return self._parts.memory.read_int(gpa, size)

    def _debug_stop(self, exit: DebugStop) -> None:
        assert self._parts is not None
        vcpu = self._parts.loops[0].vcpu
        state = vcpu.get_state()
        if not self.reached:
            vcpu.debug(True)
        if self._open is not None:
            self.steps.append(finish_step(self._open, state, self._read))
            self._open = None
        if len(self.steps) < self._count:
            self._open = take_step(state, self._read)
        elif not self._done:
            self._done = True
            vcpu.debug(False)

    def _observe(self, vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
        if isinstance(exit, DebugStop):
            return
        seen = Seen(exit, info, info.site.address())
        if self._done:
            self.next = seen
            assert self._parts is not None
            self._parts.stop(outcome("stopped"))
        elif self.reached:
            self.during.append(seen)
        else:
            self.before += 1
            self.last = seen

    def end(self, report: Report, now: int) -> Report:
        if self._open is not None:  # the machine ended in it
            self.steps.append(self._open)
            self._open = None
        return report


def explain(
    image: str | PathLike[str] | bytes,
    config: MachineConfig | None = None,
    at: str | None = None,
    count: int = 1,
    engines: tuple[str, ...] = (),
    *,
    command: str = "",
) -> Explanation:
    """Explain `count` instructions from `at` on: a symbol, symbol+offset, or a linear address; by default
    the symbol `the_add` where there is one, else the entry. Raises UsageError where `at` names nothing or no
    engine gets there, and what `Machine.run` raises."""
    if not 1 <= count <= MAX_STEPS:
        raise UsageError(f"expected 1 to {MAX_STEPS} instructions, found {count}")
    names, passed_over = working_engines(engines)
    config = config or MachineConfig()
    plan = _load(image, config).plan
    assert plan is not None
    address = find_address(plan, at)
    reports = {name: _measure(image, config.replace(engine=name)) for name in names}
    steppers, troubles = _step_all(image, config, names, address, count)
    by = max(names, key=lambda name: steppers[name].rank)  # the first of several
    steps = steppers[by].steps
    if not steps:
        raise UsageError(
            f"expected an address that {reports[names[0]].guest['name']} executes on its boot CPU, found "
            f"{address:#x}, which no engine reached: {'; '.join(filter(None, troubles.values()))}"
        )
    name_of = symbol_namer(plan)
    first = reports[names[0]]
    return Explanation(
        guest=first.guest["name"],
        host=f"{first.host.get('cpu', '?')}, Linux {first.host.get('kernel', '?')}",
        instructions=tuple(_instruction(step, name_of(step.address)) for step in steps),
        accounts=tuple(
            _Teller(name, reports[name], steppers[name]).account(steps, troubles[name]) for name in names
        ),
        stepped_by=by,
        disagreements=tuple(
            words
            for name in names
            if name != by
            for words in _disagreements(by, steps, name, steppers[name].steps)
        ),
        passed_over=passed_over,
        command=command,
    )


def find_address(plan: BootPlan, at: str | None) -> int:
    """The linear address that `at` names. Raises UsageError."""
    table = SymbolTable.from_elf(plan.symbols)
    if at is None:
        favourite = table.find(FAVOURITE_SYMBOL)
        return linear_rip(plan.state) if favourite is None else favourite
    name, _, offset = at.partition("+")
    try:
        start = table.find(name)
        if start is not None:
            return start + (int(offset, 0) if offset else 0)
        return int(at, 0)
    except ValueError:
        have = (
            "no symbols in this image"
            if not len(table)
            else f"none of its {len(table)} symbols has that name"
        )
        raise UsageError(f"expected a symbol or an address such as 0x100000, found {at!r}; {have}") from None


def _load(image: str | PathLike[str] | bytes, config: MachineConfig) -> Machine:
    return Machine(config, console=BufferSink()).load(image)


def _measure(image: str | PathLike[str] | bytes, config: MachineConfig) -> Report:
    machine = _load(image, config)
    return machine.with_symbols(machine.run())


def _step_all(
    image: str | PathLike[str] | bytes, config: MachineConfig, names: list[str], address: int, count: int
) -> tuple[dict[str, Stepper], dict[str, str]]:
    steppers, troubles = {}, {}
    for name in names:
        stepper = steppers[name] = Stepper(address, count)
        machine = _load(image, config.replace(engine=name)).watch(stepper)
        try:
            end = machine.run().outcome
            trouble = ""
            if not stepper.reached:
                trouble = (
                    f"its run ended ({end.reason}) without stopping at {address:#x}: either it does not come "
                    "there, or breakpoints do not work there (PVM has none in ring 3)"
                )
        except MinihvError as error:
            trouble = f"it could not be stepped here: {error}"
        troubles[name] = trouble
    return steppers, troubles


def _instruction(step: Step, symbol: str) -> Instruction:
    changes = []
    for operand in step.operands:
        if operand.writes and operand.after is not None and operand.before is not None:
            changes.append(f"{operand.text}: {operand.before:#x} -> {operand.after:#x}")
        elif operand.before is not None:
            changes.append(f"{operand.text}: {operand.before:#x}")
    found = mark(step.text)
    return Instruction(
        step.address,
        symbol,
        step.code,
        step.text,
        ", ".join(changes),
        str(found) if found is not None else "",
    )


def _disagreements(by: str, steps: list[Step], name: str, others: list[Step]) -> list[str]:
    """Where the engine `name` left other registers than `by`. One step of its may be several of `by`'s."""
    found: list[str] = []
    left = list(steps)
    for other in others:
        if not left:
            break
        if left[0].address != other.address:
            found.append(f"{name} was at {other.address:#x} when {by} was at {left[0].address:#x}")
            break
        step = left.pop(0)
        while (
            left and step.after is not None and other.after is not None and step.after.rip != other.after.rip
        ):
            step = left.pop(0)
        if step.after is None or other.after is None or (not left and step.after.rip != other.after.rip):
            break  # it ended, or went farther in this step than was looked at
        mine, its = _registers(step.after, step), _registers(other.after, step)
        wrong = [f"{key} {its[key]:#x} (not {mine[key]:#x})" for key in mine if mine[key] != its[key]]
        if wrong:
            found.append(f"{name} left something else than {by} at {step.address:#x}: {', '.join(wrong)}")
    return found


def _registers(state: CpuState, step: Step) -> dict[str, int]:
    values = dict(zip(GPR_NAMES, state.gpr, strict=True))
    values |= {"rip": state.rip, "cr0": state.cr0, "cr3": state.cr3, "cr4": state.cr4}
    values |= {name: segment.selector for name, segment in state.segments().items()}
    flags = {name: bit for bit, name in RFLAGS_NAMES.items() if name in _FLAG_NAMES}
    values |= {
        name: int(bool(state.rflags & bit)) for name, bit in flags.items() if name not in step.undefined
    }
    return values


class _Teller:
    """Makes one engine's account."""

    def __init__(self, engine: str, report: Report, stepper: Stepper) -> None:
        self.engine = engine
        self.report = report
        self.stepper = stepper
        make = ENGINES[engine].narrator
        self.narrator: Narrator | None = make() if make is not None else None

    def account(self, steps: list[Step], trouble: str) -> Account:
        stepper, stories, paths = self.stepper, [], []
        for step in steps:
            exits = self._exits_at(step.address)
            stories.append(tuple(self.narrator.tell(step, exits)) if self.narrator is not None else ())
            seen = [s for s in stepper.during if s.address == step.address]
            paths.append(tuple(self._path(s) for s in seen))
        return Account(
            engine=self.engine,
            heading=self.narrator.heading() if self.narrator is not None else "an engine without a narrator",
            stories=tuple(stories),
            exits=tuple(paths),
            before=self._path(stepper.last) if stepper.last is not None else None,
            after=self._path(stepper.next) if stepper.next is not None else None,
            exits_before=stepper.before,
            trouble=trouble,
        )

    def _exits_at(self, address: int) -> tuple[SiteExits, ...]:
        return tuple(
            SiteExits(e.name, e.detail, s.count, s.sum_ns // max(s.count, 1))
            for e in self.report.exits
            for s in e.sites
            if s.address == address
        )

    def _path(self, seen: Seen) -> ExitPath:
        info = seen.info
        key = (info.name, info.direction, info.address, info.size, info.register)
        samples = mean = 0
        symbol = detail = ""
        for e in self.report.exits:
            for site in e.sites:
                if (
                    e.name,
                    e.direction,
                    e.address,
                    e.size,
                    e.register,
                ) == key and site.address == seen.address:
                    samples, mean = site.count, site.sum_ns // max(site.count, 1)
                    symbol, detail = site.symbol, e.detail
        return ExitPath(
            name=info.name,
            detail=detail or " ".join(filter(None, (info.direction, info.register))),
            address=seen.address,
            symbol=symbol,
            value=_value(seen.exit),
            names=self.narrator.exit_name(info.name) if self.narrator is not None else info.name,
            samples=samples,
            mean_ns=mean,
        )


def _value(exit: Exit) -> str:
    """What a write carries: "<- 0x31 '1'"."""
    if not isinstance(exit, IoOut | MmioWrite):
        return ""
    number = int.from_bytes(exit.data[:8], "little")
    letter = f" {chr(number)!r}" if len(exit.data) == 1 and 32 <= number < 127 else ""
    return f"<- {number:#x}{letter}"
