"""Exits by which KVM only says that an interrupt may be offered now: the guest just goes on."""

import fcntl
from typing import Any

import pytest
from support import KvmGuest, outb

from minihv import exits as x
from minihv.engine.kvm import abi, vcpu

pytestmark = pytest.mark.kvm

SET_TPR = 11
"""VT-x and AMD-V come back with it when a guest lowers CR8 and no LAPIC is in the kernel; PVM never does, so
this one is made up."""


class OneMadeUpExit:
    """Stands for the module fcntl: the first KVM_RUN comes back with `reason`, all others run."""

    def __init__(self, guest: KvmGuest, reason: int) -> None:
        self._run = guest.vcpu._run
        self._reason: int | None = reason
        self.entries = 0

    def ioctl(self, fd: int, request: int) -> int:
        assert request == abi.RUN
        self.entries += 1
        if self._reason is None:
            return fcntl.ioctl(fd, request)
        self._run.exit_reason, self._reason = self._reason, None
        return 0


@pytest.mark.parametrize("reason", [abi.EXIT_IRQ_WINDOW_OPEN, SET_TPR])
def test_the_guest_goes_on(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    with KvmGuest(outb(0x80, 5), irqchip="none") as guest:
        kernel: Any = OneMadeUpExit(guest, reason)
        monkeypatch.setattr(vcpu, "fcntl", kernel)
        stop = guest.vcpu.run()
        assert isinstance(stop, x.IoOut)
        assert (stop.port, stop.data, kernel.entries) == (0x80, b"\x05", 2)
