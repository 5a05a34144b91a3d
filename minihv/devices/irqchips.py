"""All software interrupt controllers of one machine, wired as on a PC, for engines that bring none.

GSI n is IRQ n of the 8259 pair (below 16) and pin n of the I/O APIC at the same time; the guest uses one and
masks the other. The 8259's INT goes to every LINT0 and to no I/O APIC pin. One lock guards everything.
"""

from collections.abc import Callable, Mapping, Sequence

from minihv.devices.apicbus import ApicBus
from minihv.devices.ioapic import PINS, IoApic
from minihv.devices.lapic import LocalApic
from minihv.devices.pic import CASCADE, PicPair
from minihv.devices.pit import Pit8254
from minihv.interfaces import Clock, InterruptTarget, IrqLine

GSI_PIT = 0
_KVM_PIC_LINES = 0
_KVM_IOAPIC_LINES = 16
"""Offsets of last_irr in struct kvm_pic_state and of irr in struct kvm_ioapic_state."""
_PIC_LINES = 16


class IrqChips:
    """The 8259 pair, the 8254, the I/O APIC and one local APIC per vCPU.

    The machine attaches `pic.master`, `pic.slave`, `pic.elcr`, `pit` and `ioapic` to its buses, calls
    `connect` for each vCPU, and asks `next_deadline` / calls `tick` between runs.
    """

    def __init__(self, cpus: int, clock: Clock, tsc_hz: int) -> None:
        """`tsc_hz`: rate of the time-stamp counters that `connect` is given, in ticks a second."""
        self._clock = clock
        self._bus = ApicBus()
        self.pic = PicPair(self._intr, self._bus.lock)
        self.lapics = [
            LocalApic(index, self._bus, clock, lambda: clock() * tsc_hz // 10**9, tsc_hz, extint=self.pic)
            for index in range(cpus)
        ]
        # Like KVM's, its id is 0 until the guest (or the firmware tables' reader) writes another.
        self.ioapic = IoApic(self._bus)
        self.pit = Pit8254(clock, self.line(GSI_PIT), self._bus.lock)

    def _intr(self, level: bool) -> None:
        for lapic in self.lapics:
            lapic.lint0(level)

    def connect(self, index: int, target: InterruptTarget, tsc: Callable[[], int] | None = None) -> None:
        """Give vCPU `index` its local APIC. `tsc`: what its RDTSC reads; by default the clock at `tsc_hz`."""
        lapic = self.lapics[index]
        lapic.target = target
        if tsc is not None:
            lapic.timer.tsc = tsc
        target.local_apic = lapic

    def line(self, gsi: int) -> IrqLine:
        """Input of global system interrupt `gsi`, 0..23. Raises ValueError for any other."""
        if not 0 <= gsi < PINS:
            raise ValueError(f"global system interrupt {gsi} does not exist: there are {PINS}, from 0 on")
        to_pic = gsi < _PIC_LINES and gsi != CASCADE

        def drive(level: bool, /) -> None:
            if to_pic:
                self.pic.set_line(gsi, level)
            self.ioapic.set_line(gsi, level)

        return drive

    def next_deadline(self) -> int | None:
        """The earliest moment (ns of the clock) at which a timer has something to do; None: never."""
        sources: Sequence[int | None] = [self.pit.next_deadline(), *(a.next_deadline() for a in self.lapics)]
        return min((due for due in sources if due is not None), default=None)

    def tick(self, now: int) -> None:
        """Let every timer that is due raise its interrupt."""
        self.pit.tick(now)
        for lapic in self.lapics:
            lapic.tick(now)

    def save(self) -> dict[str, bytes]:
        """State of PIC, IOAPIC and PIT in KVM's layouts, as `Engine.controllers` gives it.

        KVM's PIT gives pulses and holds its line low between them. A line saved high, as the 8254's output
        is, would swallow the first pulse; and KVM sends no second one before the first is acknowledged.
        """
        pic, ioapic = bytearray(self.pic.to_kvm()), bytearray(self.ioapic.to_kvm())
        pic[_KVM_PIC_LINES] &= ~(1 << GSI_PIT)
        ioapic[_KVM_IOAPIC_LINES] &= ~(1 << GSI_PIT)
        return {"pic": bytes(pic), "ioapic": bytes(ioapic), "pit": self.pit.to_kvm()}

    def save_lapics(self) -> list[bytes]:
        """The LAPICs' register pages in KVM's layout."""
        return [lapic.to_kvm() for lapic in self.lapics]

    def load(self, controllers: Mapping[str, bytes], lapics: Sequence[bytes]) -> None:
        """The reverse of the two. The PIT's load times are taken to be on this machine's clock.

        The PIT goes first: its output rising to where it is must not count as a tick.
        """
        if "pit" in controllers:
            self.pit.from_kvm(controllers["pit"], same_clock=True)
        self.pic.from_kvm(controllers["pic"])
        self.ioapic.from_kvm(controllers["ioapic"])
        for lapic, page in zip(self.lapics, lapics, strict=True):
            lapic.from_kvm(page)

    def reset(self) -> None:
        """Power-on: everything but the levels of the lines."""
        self.pic.reset()
        self.pit.reset()
        self.ioapic.reset()
        for lapic in self.lapics:
            lapic.power_on()
