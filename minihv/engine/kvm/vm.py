"""One VM: its memory slots, interrupt controllers and vCPUs (KVM API 2.2: "VM ioctls")."""

import os
from types import TracebackType
from typing import TYPE_CHECKING, Self

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.errors import HostError

if TYPE_CHECKING:
    from minihv.engine.kvm.system import Kvm

IDENTITY_MAP_GPA = 0xFEFFC000
"""One page for VT-x's real-mode page table, and three for its TSS behind it (KVM API 4.40, 4.35): in the
hole between the LAPIC and the largest firmware ROM, where no RAM and no device lives."""


class Vm:
    """An open VM descriptor; closes what it opened."""

    def __init__(self, kvm: "Kvm", fd: int) -> None:
        self.kvm = kvm
        self.kernel = kvm.kernel
        self.fd = fd
        self._slots = 0

    def check(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION on the VM: some answers depend on it."""
        return max(self.kernel.try_ioctl(self.fd, abi.CHECK_EXTENSION, capability), 0)

    def require(self, capability: int, name: str) -> None:
        """Raise HostError where `capability` is missing."""
        if not self.check(capability):
            raise HostError(f"this kernel's KVM lacks {name}; use a newer kernel or another --irqchip")

    def add_memory(self, gpa: int, view: memoryview, readonly: bool = False) -> None:
        """Map a host buffer at guest-physical `gpa`. The buffer must stay where it is until `close`.

        Slots come before the interrupt controllers: once those exist, each new slot waits for a grace
        period of the interrupt routing (7 ms measured, against 0.04 ms).
        """
        address = int(ffi.cast("uintptr_t", ffi.from_buffer(view)))
        region = ffi.new("struct kvm_userspace_memory_region *")
        region.slot = self._slots
        region.flags = abi.MEM_READONLY if readonly else 0
        region.guest_phys_addr = gpa
        region.memory_size = len(view)
        region.userspace_addr = address
        self.kernel.ioctl(self.fd, abi.SET_USER_MEMORY_REGION, region)
        self._slots += 1

    def set_vmx_pages(self) -> None:
        """Give VT-x its two reserved areas; AMD-V and PVM ignore them."""
        self.kernel.ioctl(self.fd, abi.SET_IDENTITY_MAP_ADDR, ffi.new("uint64_t *", IDENTITY_MAP_GPA))
        self.kernel.ioctl(self.fd, abi.SET_TSS_ADDR, IDENTITY_MAP_GPA + 0x1000)

    def create_irqchip(self) -> None:
        """PIC pair, IOAPIC and one LAPIC a vCPU, all in the kernel."""
        self.kernel.ioctl(self.fd, abi.CREATE_IRQCHIP)

    def create_pit(self) -> None:
        """The PIT and the speaker port 0x61, beside the interrupt controllers."""
        config = ffi.new("struct kvm_pit_config *", {"flags": abi.PIT_SPEAKER_DUMMY})
        self.kernel.ioctl(self.fd, abi.CREATE_PIT2, config)

    def split_irqchip(self) -> None:
        """LAPICs in the kernel, PIC and IOAPIC (24 pins of routing) left to user space."""
        self.require(abi.CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP")
        self.enable(abi.CAP_SPLIT_IRQCHIP, 24)

    def enable(self, capability: int, argument: int) -> None:
        """KVM_ENABLE_CAP with one argument."""
        request = ffi.new("struct kvm_enable_cap *", {"cap": capability, "args": [argument]})
        self.kernel.ioctl(self.fd, abi.ENABLE_CAP, request)

    def try_enable(self, capability: int, argument: int) -> bool:
        """As `enable`, False where this kernel lacks the capability."""
        if not self.check(capability):
            return False
        request = ffi.new("struct kvm_enable_cap *", {"cap": capability, "args": [argument]})
        return self.kernel.try_ioctl(self.fd, abi.ENABLE_CAP, request) == 0

    def get_irqchip(self, chip: int) -> bytes:
        """KVM_GET_IRQCHIP: the 512 bytes of chip 0 (PIC master), 1 (PIC slave) or 2 (IOAPIC)."""
        state = ffi.new("struct kvm_irqchip *", {"chip_id": chip})
        self.kernel.ioctl(self.fd, abi.GET_IRQCHIP, state)
        return bytes(ffi.buffer(state.chip))

    def set_irqchip(self, chip: int, data: bytes) -> None:
        """KVM_SET_IRQCHIP; `data` may be shorter than 512 bytes."""
        state = ffi.new("struct kvm_irqchip *", {"chip_id": chip})
        ffi.buffer(state.chip)[: len(data)] = data
        self.kernel.ioctl(self.fd, abi.SET_IRQCHIP, state)

    def get_pit(self) -> bytes:
        """KVM_GET_PIT2: struct kvm_pit_state2, 112 bytes."""
        state = ffi.new("uint8_t[]", 112)
        self.kernel.ioctl(self.fd, abi.GET_PIT2, state)
        return bytes(ffi.buffer(state))

    def set_pit(self, data: bytes) -> None:
        """KVM_SET_PIT2."""
        self.kernel.ioctl(self.fd, abi.SET_PIT2, ffi.new("uint8_t[]", data))

    def irq_line(self, gsi: int, level: bool) -> None:
        """Set the input `gsi` of the in-kernel controllers."""
        self.kernel.ioctl(self.fd, abi.IRQ_LINE, ffi.new("struct kvm_irq_level *", [gsi, level]))

    def create_vcpu(self, index: int) -> int:
        """A vCPU's descriptor; `index` becomes its APIC id."""
        return self.kernel.ioctl(self.fd, abi.CREATE_VCPU, index)

    def close(self) -> None:
        """Close the descriptor; harmless when done twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
