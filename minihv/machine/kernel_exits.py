"""--kernel-exits: the kernel's own view of a run, exit by exit, with reasons by name and RIP.

kvm:kvm_exit says why the guest was left, also where the kernel went on by itself; kvm:kvm_userspace_exit
says which of these came to minihv. Under PVM kvm_exit never fires: there the instructions that KVM emulates
are shown instead, which is what most of its exits are for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from minihv.errors import HostError
from minihv.machine.build import Parts
from minihv.machine.recorders import Recorder
from minihv.report.model import KernelExits, KernelReason, KernelSite, Report

if TYPE_CHECKING:
    from minihv.host.tracepoints import ThreadEvents, Tracepoint

INTERVAL_NS = 50_000_000
MAX_PLACES = 4096
"""(reason, RIP) pairs kept apart; what else there is counts for RIP 0."""
ISA_NAMES = {1: "VMX", 2: "SVM", 3: "PVM"}
"""KVM_ISA_VMX, KVM_ISA_SVM (arch/x86/include/asm/kvm_host.h); PVM's is of its own patches."""
COUNTERS = 'the counters of the stats descriptor (under "Counted") are all that is shown'


class Reader:
    """Records -> counts by reason and RIP. Fed by one thread; knows nothing of where records come from."""

    def __init__(
        self, cause: "Tracepoint", to_user: "Tracepoint", name: Callable[[bytes], str], rip: str
    ) -> None:
        """`cause` is the event that says why; `name` gives a record's reason, `rip` is the field's name."""
        self._cause = cause.number
        self._to_user = to_user.number
        self._name = name
        self._errno = to_user.fields.get("errno")
        self._rip = cause.fields[rip]
        self._base = cause.fields.get("csbase")
        self.places: dict[tuple[str, int], int] = {}
        self.users: dict[str, int] = {}
        self.recorded = 0

    def feed(self, record: bytes, last: str) -> str:
        """One record; `last` is what the call before, for the same vCPU, returned: the reason at hand."""
        number = int.from_bytes(record[:2], "little")
        if number == self._to_user:
            failed = self._errno is not None and field(record, self._errno) != 0
            if last and not failed:
                self.users[last] = self.users.get(last, 0) + 1
            return ""
        if number != self._cause:
            return last
        self.recorded += 1
        reason = self._name(record)
        rip = field(record, self._rip) + (field(record, self._base) if self._base is not None else 0)
        key = reason, rip
        if key not in self.places and len(self.places) >= MAX_PLACES:
            key = reason, 0
        self.places[key] = self.places.get(key, 0) + 1
        return reason

    def reasons(self) -> tuple[KernelReason, ...]:
        """What was counted, the most frequent first."""
        groups: dict[str, list[KernelSite]] = {}
        for (reason, rip), count in self.places.items():
            groups.setdefault(reason, []).append(KernelSite(rip, "", count))
        found = [
            KernelReason(
                reason,
                sum(s.count for s in sites),
                self.users.get(reason, 0),
                tuple(sorted(sites, key=lambda s: (-s.count, s.address))),
            )
            for reason, sites in groups.items()
        ]
        return tuple(sorted(found, key=lambda r: (-r.count, r.name)))


def field(record: bytes, where: tuple[int, int]) -> int:
    """A field of a raw record, little-endian."""
    offset, size = where
    return int.from_bytes(record[offset : offset + size], "little")


class ExitNames:
    """The name of a kvm_exit record's reason, from the tables that the kernel itself prints with."""

    def __init__(self, event: "Tracepoint") -> None:
        self._reason, self._isa = event.fields["exit_reason"], event.fields["isa"]
        self._tables = symbol_tables(event.print_format)

    def __call__(self, record: bytes) -> str:
        isa, reason = field(record, self._isa), field(record, self._reason)
        table = self._tables.get(isa, {}) or (self._tables.get(0, {}) if isa != 1 else {})
        code = reason & 0xFFFF if isa == 1 else reason  # VMX: flags above the basic reason (SDM 3D, 28.2.1)
        return f"{ISA_NAMES.get(isa, f'isa {isa}')} {table.get(code, f'{reason:#x}')}"


def symbol_tables(print_format: str) -> dict[int, dict[int, str]]:
    """The __print_symbolic tables of an event's `print fmt`, by the isa that their condition names; 0 for a
    table without one (the last branch)."""
    tables: dict[int, dict[int, str]] = {}
    before, *rest = print_format.split("__print_symbolic(")
    for chunk in rest:
        condition = before.rpartition("isa ==")[2] if "isa ==" in before[-24:] else ""
        digits = "".join(c for c in condition if c.isdecimal())
        body = chunk.partition("})")[0]
        table = {}
        for entry in body.split("{")[1:]:
            value, _, name = entry.partition("}")[0].partition(",")
            try:
                table[int(value.strip(), 0) & 0xFFFFFFFF] = name.strip().replace('"', "").replace(" ", "")
            except ValueError:
                continue  # an expression; then the number itself is shown
        tables.setdefault(int(digits) if digits else 0, table)
        before = chunk
    return tables


class EmulatedNames:
    """The name of a kvm_emulate_insn record: the instruction's mnemonic."""

    def __init__(self, event: "Tracepoint") -> None:
        self._bytes, self._flags = event.fields["insn"], event.fields["flags"]
        self._known: dict[tuple[bytes, int], str] = {}

    def __call__(self, record: bytes) -> str:
        offset, size = self._bytes
        key = record[offset : offset + size], field(record, self._flags)
        name = self._known.get(key)
        if name is None:
            if len(self._known) >= MAX_PLACES:
                self._known.clear()
            name = self._known[key] = f"emulated {mnemonic(*key)}"
        return name


def mnemonic(code: bytes, flags: int) -> str:
    """The first word of the instruction; `flags` are KVM_EMUL_INSN_F_* (arch/x86/kvm/trace.h)."""
    from minihv.x86.disasm import disassemble

    bits = 64 if flags & 8 else 32 if flags & 4 else 16  # CS_L, CS_D
    words = disassemble(code, 0, bits).split()
    prefixes = [w for w in words if not w.startswith(("rep", "lock"))]
    return prefixes[0] if prefixes else "?"


class KernelExitRecorder(Recorder):
    """Opens the events on every vCPU's thread, reads them a few times a second, and adds to the report."""

    def __init__(self) -> None:
        self.ticks = ((INTERVAL_NS, self._drain),)
        self._events: list[ThreadEvents] = []
        self._last: list[str] = []
        self._wanted: tuple[Tracepoint, ...] = ()
        self._reader: Reader | None = None
        self._source = ""
        self._note = ""

    def prepare(self, parts: Parts) -> None:
        engine = parts.engine
        assert engine is not None
        facts = engine.describe()
        if "kvm" not in facts:
            self._note = f"the {engine.name} engine asks no kernel; run with --engine kvm to see its exits"
            return
        try:
            self._choose(facts["kvm"] == "pvm")
        except HostError as error:
            self._note = f"{error}; {COUNTERS}"
            return
        parts.thread_hooks.append(self._open)

    def _choose(self, pvm: bool) -> None:
        from minihv.host.tracepoints import TraceFs

        with TraceFs() as files:
            to_user = files.tracepoint("kvm", "kvm_userspace_exit")
            cause = files.tracepoint("kvm", "kvm_emulate_insn" if pvm else "kvm_exit")
        if pvm:
            self._source = "kvm:kvm_emulate_insn (under PVM kvm:kvm_exit never fires)"
            self._reader = Reader(cause, to_user, EmulatedNames(cause), "rip")
        else:
            self._source = "kvm:kvm_exit"
            self._reader = Reader(cause, to_user, ExitNames(cause), "guest_rip")
        self._wanted = cause, to_user

    def _open(self) -> None:
        """On a vCPU's thread, before it runs."""
        from minihv.host.tracepoints import ThreadEvents

        try:
            self._events.append(ThreadEvents(self._wanted))
        except HostError as error:
            self._note = f"{error}; {COUNTERS}"

    def _drain(self) -> None:
        reader = self._reader
        if reader is None:
            return
        for index, events in enumerate(list(self._events)):
            if index >= len(self._last):
                self._last.append("")
            last = self._last[index]
            for record in events.take():
                last = reader.feed(record, last)
            self._last[index] = last

    def end(self, report: Report, now: int) -> Report:
        self._drain()
        reader = self._reader
        return report._replace(
            kernel_exits=KernelExits(
                source=self._source,
                note=self._note,
                total=sum(events.counts()[0] for events in self._events),
                recorded=reader.recorded if reader is not None else 0,
                lost=sum(events.lost for events in self._events),
                reasons=reader.reasons() if reader is not None else (),
            )
        )

    def close(self) -> None:
        for events in self._events:
            events.close()
