"""Interrupts for a vCPU whose controllers are models in user space (--irqchip none).

KVM takes one vector at a time, when the guest can be interrupted (KVM API 4.16, KVM_INTERRUPT); otherwise it
is asked to come back as soon as that is so (5, request_interrupt_window).
"""

import threading
from typing import Any

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.engine.kvm.kernel import Kernel
from minihv.interfaces import InterruptSource

LONGEST_SLEEP = 0.05
"""Seconds; a sleeper also wakes by `notice`, this only bounds a lost wake-up."""


class Injector:
    """Between one interrupt source and one vCPU."""

    def __init__(self, kernel: Kernel, fd: int, run: Any, source: InterruptSource) -> None:
        self.source = source
        self.halted = False
        """The guest is in HLT with interrupts on."""
        self._kernel = kernel
        self._fd = fd
        self._run = run
        self._given_cr8 = 0
        self._noticed = threading.Event()

    def notice(self) -> None:
        """From any thread: there may be something to inject, or a reason not to sleep any more."""
        self._noticed.set()

    def asleep(self) -> bool:
        """Wait a moment for an interrupt to end HLT. False: there is one."""
        if self.source.pending() is not None:
            return False
        self._noticed.wait(LONGEST_SLEEP)
        self._noticed.clear()
        return self.source.pending() is None

    def offer(self) -> None:
        """Before each entry: hand over the task priority, and the next vector or the wish for a window."""
        run, source = self._run, self.source
        if run.cr8 != self._given_cr8:
            source.cr8 = run.cr8  # the guest's MOV to CR8
        run.cr8 = self._given_cr8 = source.cr8
        wants = source.pending() is not None
        if wants and run.ready_for_interrupt_injection and run.if_flag:
            vector = ffi.new("struct kvm_interrupt *", [source.acknowledge()])
            self._kernel.ioctl(self._fd, abi.INTERRUPT, vector)
            wants = source.pending() is not None
        run.request_interrupt_window = wants
