"""/dev/kvm itself: is it there, what can it do, and the way to a VM."""

import errno
import os
from types import TracebackType
from typing import Self

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.engine.kvm.cpuid import CpuidEntry
from minihv.engine.kvm.kernel import KVM_DEVICE, Kernel, kvm_error
from minihv.engine.kvm.vm import Vm
from minihv.errors import HostError


class Kvm:
    """An open /dev/kvm (KVM API 2.1: "system ioctls"). Raises KvmError and HostError with advice."""

    def __init__(self, path: str = KVM_DEVICE) -> None:
        self.kernel = Kernel(path)
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise kvm_error("open", error.errno or 0, path) from error
        try:
            version = self.kernel.try_ioctl(self.fd, abi.GET_API_VERSION)
            if version == -errno.ENOTTY:
                raise HostError(f"{path} is no KVM device; expected {KVM_DEVICE} or another node like it")
            if version != abi.API_VERSION:
                raise HostError(
                    f"{path} speaks KVM API {version}, expected {abi.API_VERSION}; use a Linux kernel"
                )
            self.vcpu_mmap_size = self.kernel.ioctl(self.fd, abi.GET_VCPU_MMAP_SIZE)
        except BaseException:
            os.close(self.fd)
            raise

    def check(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION: 0 where the capability is missing, else its value."""
        return max(self.kernel.try_ioctl(self.fd, abi.CHECK_EXTENSION, capability), 0)

    def create_vm(self) -> Vm:
        """A new, empty VM."""
        return Vm(self, self.kernel.ioctl(self.fd, abi.CREATE_VM, 0))

    def supported_cpuid(self) -> list[CpuidEntry]:
        """KVM_GET_SUPPORTED_CPUID: the host's CPUID as far as KVM passes it to guests."""
        room = 256
        table = ffi.new("struct kvm_cpuid2 *", {"nent": room, "entries": room})
        self.kernel.ioctl(self.fd, abi.GET_SUPPORTED_CPUID, table)
        return [
            CpuidEntry(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx)
            for e in (table.entries[i] for i in range(table.nent))
        ]

    def msr_indices(self) -> list[int]:
        """KVM_GET_MSR_INDEX_LIST: the MSRs that this host can save and restore."""
        room = 1024
        table = ffi.new("struct kvm_msr_list *", {"nmsrs": room, "indices": room})
        self.kernel.ioctl(self.fd, abi.GET_MSR_INDEX_LIST, table)
        return [table.indices[i] for i in range(table.nmsrs)]

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
