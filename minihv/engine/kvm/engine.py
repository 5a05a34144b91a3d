"""The kvm engine behind `minihv.interfaces.Engine`."""

import os
from collections.abc import Mapping

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.engine.kvm.cpuid import guest_cpuid
from minihv.engine.kvm.kernel import Kernel
from minihv.engine.kvm.kind import KIND_WORDS, kvm_kind
from minihv.engine.kvm.statsfd import StatsFd
from minihv.engine.kvm.system import Kvm
from minihv.engine.kvm.vcpu import KvmVcpu
from minihv.engine.kvm.vm import Vm
from minihv.errors import HostError
from minihv.host.cpu import read_cpu
from minihv.interfaces import EngineConfig, EngineTraits, IrqLine
from minihv.memory import GuestMemory

PROVIDED = {
    "kernel": frozenset(("pic", "pit", "lapic", "ioapic")),
    "split": frozenset(("lapic",)),
    "none": frozenset[str](),
}
"""--irqchip -> the controllers that the kernel provides."""

REQUIRED = (
    (abi.CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"),
    (abi.CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"),
    (abi.CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"),
    (abi.CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"),
    (abi.CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"),
)
"""Capabilities without which the engine cannot work; all are in Linux 4.17 and later."""


class KvmEngine:
    """A VM under /dev/kvm over `memory`. Raises KvmError or HostError; closes what it opened."""

    name = "kvm"

    def __init__(self, memory: GuestMemory, config: EngineConfig, device: str = "/dev/kvm") -> None:
        self.memory = memory
        self.config = config
        self.traits = EngineTraits(
            provides=PROVIDED[config.irqchip] - config.without,
            parallel=True,
            counts_instructions=False,
            single_step=True,
            may_give_up=True,
        )
        self.kernel_lapic = config.irqchip != "none"
        self._vcpus: list[KvmVcpu] = []
        self._vm: Vm | None = None
        self._stats: StatsFd | None = None
        self.kvm = Kvm(device)
        try:
            self.kernel: Kernel = self.kvm.kernel
            self._check()
            self.has_stats = bool(self.kvm.check(abi.CAP_BINARY_STATS_FD))
            """KVM_GET_STATS_FD is there (Linux 5.14)."""
            self.kind = kvm_kind()
            self.emulates_ring0 = self.kind == "pvm"
            self._cpuid = self.kvm.supported_cpuid()
            self.msr_list = self.kvm.msr_indices()
            self._vm = self.kvm.create_vm()
            self._set_up(self._vm)
        except BaseException:
            self.close()
            raise

    @property
    def vm(self) -> Vm:
        """The VM; raises HostError after close."""
        if self._vm is None:
            raise HostError("this kvm engine is closed; make a new one")
        return self._vm

    def _check(self) -> None:
        for capability, name in REQUIRED:
            if not self.kvm.check(capability):
                raise HostError(
                    f"this kernel's KVM lacks {name}; use Linux 4.17 or newer, or --engine interpret"
                )
        most = self.kvm.check(abi.CAP_MAX_VCPUS)
        if self.config.cpus > most:
            raise HostError(
                f"this KVM allows {most} vCPUs, {self.config.cpus} were asked for; use -c {most} at most"
            )

    def _set_up(self, vm: Vm) -> None:
        for region in self.memory.regions:
            vm.add_memory(region.gpa, region.view, region.readonly)
        vm.set_vmx_pages()
        if self.config.irqchip == "kernel":
            vm.create_irqchip()
            if "pit" not in self.config.without:
                vm.create_pit()
        elif self.config.irqchip == "split":
            vm.split_irqchip()
        vm.try_enable(abi.CAP_X86_USER_SPACE_MSR, abi.MSR_EXIT_UNKNOWN)
        size = vm.check(abi.CAP_XSAVE2)
        self.xsave_size = size or (4096 if vm.check(abi.CAP_XSAVE) else 0)

    def create_vcpu(self, index: int) -> KvmVcpu:
        """A vCPU with the guest's CPUID, in its reset state."""
        vcpu = KvmVcpu(self, index, self.vm.create_vcpu(index))
        self._vcpus.append(vcpu)
        entries = guest_cpuid(self._cpuid, index, self.config.cpus, self.kernel_lapic)
        table = ffi.new("struct kvm_cpuid2 *", {"nent": len(entries), "entries": len(entries)})
        for target, e in zip(table.entries, entries, strict=True):
            target.function, target.index, target.flags = e.function, e.index, e.flags
            target.eax, target.ebx, target.ecx, target.edx = e.eax, e.ebx, e.ecx, e.edx
        self.kernel.ioctl(vcpu.fd, abi.SET_CPUID2, table)
        if not self.kernel_lapic:
            vcpu.port.disable_apic()
        return vcpu

    def irq_line(self, gsi: int) -> IrqLine:
        """KVM_IRQ_LINE on the in-kernel PIC and IOAPIC; a quick repeat of a level costs no system call."""
        return _IrqLine(self.vm, gsi)

    @property
    def tsc_hz(self) -> int:
        """KVM_GET_TSC_KHZ of the first vCPU; 0 where KVM does not tell."""
        if not self._vcpus:
            return 0
        return max(self.kernel.try_ioctl(self._vcpus[0].fd, abi.GET_TSC_KHZ), 0) * 1000

    def controllers(self) -> Mapping[str, bytes]:
        """KVM_GET_IRQCHIP and KVM_GET_PIT2; empty where they are not in the kernel."""
        if "pic" not in self.traits.provides:
            return {}
        vm = self.vm
        state = {"pic": vm.get_irqchip(0)[:16] + vm.get_irqchip(1)[:16], "ioapic": vm.get_irqchip(2)[:216]}
        if "pit" in self.traits.provides:
            state["pit"] = vm.get_pit()
        return state

    def set_controllers(self, state: Mapping[str, bytes]) -> None:
        vm = self.vm
        if "pic" in self.traits.provides and "pic" in state:
            vm.set_irqchip(0, state["pic"][:16])
            vm.set_irqchip(1, state["pic"][16:32])
            vm.set_irqchip(2, state["ioapic"])
        if "pit" in self.traits.provides and "pit" in state:
            vm.set_pit(state["pit"])

    def counters(self) -> Mapping[str, int]:
        """KVM_GET_STATS_FD: the VM's counters, and the vCPUs' summed up. Empty where it is missing."""
        if not self.has_stats:
            return {}
        if self._stats is None:
            self._stats = StatsFd(self.kernel.ioctl(self.vm.fd, abi.GET_STATS_FD))
        total: dict[str, int] = {}
        for stats in (self._stats, *(vcpu.stats() for vcpu in self._vcpus)):
            for name, value in stats.read().items():
                total[name] = total.get(name, 0) + value
        return total

    def describe(self) -> Mapping[str, str]:
        cpu = read_cpu()
        return {
            "kvm": self.kind,
            "kvm_words": KIND_WORDS[self.kind],
            "cpu": cpu.model or cpu.vendor,
            "kernel": os.uname().release,
        }

    def poll(self) -> None:
        """With the LAPIC in the kernel HLT does not come back: ask the sleepers whether they can wake. Where
        the kernel emulates ring 0, also ask who is awake whether it hangs in an instruction."""
        for vcpu in self._vcpus:
            if self.emulates_ring0 or (self.kernel_lapic and vcpu.blocked()):
                vcpu.probe()

    def close(self) -> None:
        """Close vCPUs, VM and /dev/kvm; harmless when done twice."""
        if self._stats is not None:
            self._stats.close()
            self._stats = None
        for vcpu in self._vcpus:
            vcpu.close()
        self._vcpus.clear()
        if self._vm is not None:
            self._vm.close()
            self._vm = None
        self.kvm.close()


class _IrqLine:
    """One GSI; remembers its level so that only changes reach the kernel."""

    def __init__(self, vm: Vm, gsi: int) -> None:
        self._vm = vm
        self._gsi = gsi
        self._level = False

    def __call__(self, level: bool, /) -> None:
        if level != self._level:
            self._level = level
            self._vm.irq_line(self._gsi, level)


def probe(device: str = "/dev/kvm") -> str | None:
    """Why the kvm engine cannot work here, in one sentence; None where it can."""
    if os.uname().machine not in ("x86_64", "AMD64"):
        return f"the kvm engine runs x86 guests on x86-64 hosts, this is {os.uname().machine}"
    from minihv.errors import MinihvError

    try:
        with Kvm(device) as kvm:
            for capability, name in REQUIRED:
                if not kvm.check(capability):
                    return f"this kernel's KVM lacks {name}"
    except MinihvError as error:
        return str(error)
    return None
