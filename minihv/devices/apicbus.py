"""The wire between local APICs and I/O APICs: interrupt messages, who they are for, and EOI broadcasts.

Source: SDM Vol. 3A, 10.6 (issuing interrupts, destinations) and 10.8.5 (EOI).
"""

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

MODE_FIXED = 0
MODE_LOWEST = 1
MODE_SMI = 2
MODE_NMI = 4
MODE_INIT = 5
MODE_SIPI = 6
MODE_EXTINT = 7

MODE_NAMES = ("fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "start-up", "ExtINT")


class Message(NamedTuple):
    """One interrupt message. `destination` is as wide as the sender's mode makes it."""

    mode: int
    vector: int
    destination: int
    logical: bool
    level_triggered: bool = False
    asserted: bool = True
    broadcast: bool = False
    """The sender's all-ones destination: 0xff from an xAPIC or I/O APIC, 0xffffffff from an x2APIC."""


class Receiver(Protocol):
    """A local APIC as seen from the wire."""

    def matches(self, message: Message) -> bool: ...

    def arbitration(self) -> int | None:
        """Rank for lowest-priority delivery, lowest wins; None: takes no such interrupts now."""
        ...

    def receive(self, message: Message) -> None: ...


class ApicBus:
    """All APICs of one machine. `lock` guards them all, as lines may move from any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._receivers: list[Receiver] = []
        self._eoi_listeners: list[Callable[[int], None]] = []
        self._turn = 0

    def attach(self, receiver: Receiver) -> None:
        """A local APIC joins."""
        self._receivers.append(receiver)

    def on_eoi(self, listener: Callable[[int], None]) -> None:
        """An I/O APIC wants to hear the vectors of level-triggered interrupts that were handled."""
        self._eoi_listeners.append(listener)

    def deliver(self, message: Message) -> bool:
        """To whoever `message` is for; False where nobody is."""
        targets = [r for r in self._receivers if r.matches(message)]
        if message.mode == MODE_LOWEST:
            targets = self._lowest(targets)
        for receiver in targets:
            receiver.receive(message)
        return bool(targets)

    def deliver_all(self, message: Message, exclude: Receiver | None = None) -> None:
        """The "all including/excluding self" shorthands; the destination does not count."""
        targets = [r for r in self._receivers if r is not exclude]
        if message.mode == MODE_LOWEST:
            targets = self._lowest(targets)
        for receiver in targets:
            receiver.receive(message)

    def _lowest(self, targets: list[Receiver]) -> list[Receiver]:
        """The one with the lowest rank; equal ones take turns."""
        ranked = [(rank, r) for r in targets if (rank := r.arbitration()) is not None]
        if not ranked:
            return []
        best = min(rank for rank, _ in ranked)
        equal = [r for rank, r in ranked if rank == best]
        self._turn += 1
        return [equal[self._turn % len(equal)]]

    def eoi(self, vector: int) -> None:
        """Tell the I/O APICs that `vector`, level-triggered, was handled."""
        for listener in self._eoi_listeners:
            listener(vector)
