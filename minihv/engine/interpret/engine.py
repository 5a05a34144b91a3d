"""The interpret engine: `interfaces.Engine` over `GuestMemory`, pure Python."""

from collections.abc import Mapping

from minihv.engine.interpret.cpuid import AMD, INTEL
from minihv.engine.interpret.physical import Physical
from minihv.engine.interpret.table import Table, load_table
from minihv.engine.interpret.vcpu import InterpretVcpu
from minihv.errors import EngineUnavailable
from minihv.exits import Exit
from minihv.interfaces import Clock, EngineConfig, EngineTraits, IrqLine
from minihv.memory import GuestMemory
from minihv.x86.state import CpuState


class InterpretEngine:
    """Executes guests in Python.

    `clock` (nanoseconds) drives the time-stamp counter at `tsc_hz`; without one it counts instructions of
    the vCPU. `vendor`: CPUID vendor string, "GenuineIntel" or "AuthenticAMD"; kernels trust no other, and
    a guest that hops between engines must keep the host's: the builder passes the host's own.
    """

    name = "interpret"
    traits = EngineTraits(provides=frozenset(), parallel=False, counts_instructions=True, single_step=True)

    def __init__(
        self,
        memory: GuestMemory,
        config: EngineConfig | None = None,
        *,
        clock: Clock | None = None,
        tsc_hz: int | None = None,
        vendor: str | None = None,
    ) -> None:
        self.memory = memory
        self.physical = Physical(memory)
        self.vendor = vendor or host_vendor()
        self.vcpus: list[InterpretVcpu] = []
        config = config or EngineConfig()
        self._cpus = config.cpus
        self._clock = clock or config.clock
        self._tsc_hz = tsc_hz or config.tsc_hz
        self._table: Table = load_table()

    def create_vcpu(self, index: int) -> InterpretVcpu:
        vcpu = InterpretVcpu(index, self.physical, self._table, self.vendor == AMD)
        vcpu.cpu.cpus = self._cpus
        clock, hertz = self._clock, self._tsc_hz
        if clock is not None:
            vcpu.cpu.tsc = lambda: clock() * hertz // 1_000_000_000
        vcpu.cpu.wait_sipi = index != 0
        self.vcpus.append(vcpu)
        return vcpu

    @property
    def tsc_hz(self) -> int:
        return self._tsc_hz

    def controllers(self) -> Mapping[str, bytes]:
        """None of its own: the board has models."""
        return {}

    def set_controllers(self, state: Mapping[str, bytes]) -> None:
        """None of its own."""

    def execute(self, state: CpuState, count: int = 1) -> tuple[CpuState, Exit]:
        """Execute `count` instructions from `state`, on the first vCPU; for another engine's rescue.

        What comes back are the state and what ended it: BudgetSpent where all went well. After an exit that
        must be answered (IoIn, MmioRead ...) the state still stands at that instruction: answer it by
        `vcpus[0].complete` and take its `get_state`.
        """
        vcpu = self.vcpus[0] if self.vcpus else self.create_vcpu(0)
        vcpu.set_state(state)
        exit = vcpu.run(count)
        return vcpu.get_state(), exit

    def irq_line(self, gsi: int) -> IrqLine:
        """Refused: the software controllers of the board have the lines."""
        raise EngineUnavailable(
            f"the interpret engine has no interrupt controller, so no line {gsi}: "
            "use the lines of the board's IOAPIC or PIC"
        )

    def memory_written(self, gpa: int, size: int) -> None:
        """The VMM or a device stored to RAM behind the engine's back: instructions decoded there are void."""
        for page in range(gpa & ~0xFFF, gpa + size, 0x1000):
            frame = self.physical.frames.get(page >> 12)
            if frame is not None and frame.code is not None:
                start = max(gpa, page)
                self.physical.written(frame, start - page, min(gpa + size, page + 0x1000) - start)

    def counters(self) -> Mapping[str, int]:
        """Instructions, blocks decoded and pages known."""
        return {
            "instructions": sum(vcpu.instructions for vcpu in self.vcpus),
            "blocks_built": sum(vcpu.blocks.built for vcpu in self.vcpus),
            "pages_touched": len(self.physical.frames),
        }

    def describe(self) -> Mapping[str, str]:
        return {"kind": "interpreter", "decoder": "iced-x86", "vendor": self.vendor}

    def poll(self) -> None:
        """Nothing sleeps in here."""

    def close(self) -> None:
        for vcpu in self.vcpus:
            vcpu.close()
        self.physical.release()


def host_vendor() -> str:
    """The host processor's vendor string if it is one of the two that kernels know, else Intel's."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("vendor_id"):
                    found = line.split(":", 1)[1].strip()
                    return found if found in (INTEL, AMD) else INTEL
    except OSError:
        return INTEL  # not Linux
    return INTEL
