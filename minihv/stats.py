"""Counting exits: one recorder a vCPU, without locks, bounded, always on.

A counter belongs to one *site*: one kind of exit with its details, from one place in guest code. The run
loop finds it with one dict look-up and adds to it in place; names, registers, addresses and symbols are
worked out when a site is new, or when a report asks.
"""

from typing import NamedTuple

from minihv.interfaces import ExactSite, Site
from minihv.records import Record

BUCKETS = 64
"""Bucket b of a histogram counts handling times in [2**(b-1), 2**b) ns; bucket 0 those of 0 ns."""
MAX_SITES = 4096
"""Sites kept apart for one vCPU. A guest can make up new ones for ever: the rest share one counter a kind."""

OTHER_SITES = ExactSite(0)

EXIT_NAMES: dict[str, tuple[str, str, str]] = {
    "io": ("KVM_EXIT_IO", "IO_INSTRUCTION (30)", "VMEXIT_IOIO (0x7b)"),
    "mmio": ("KVM_EXIT_MMIO", "EPT_VIOLATION/MISCONFIG (48, 49)", "VMEXIT_NPF (0x400)"),
    "hlt": ("KVM_EXIT_HLT", "HLT (12)", "VMEXIT_HLT (0x78)"),
    "shutdown": ("KVM_EXIT_SHUTDOWN", "TRIPLE_FAULT (2)", "VMEXIT_SHUTDOWN (0x7f)"),
    "debug": ("KVM_EXIT_DEBUG", "EXCEPTION_NMI (0), #DB", "VMEXIT_EXCP1 (0x41)"),
    "hypercall": ("KVM_EXIT_HYPERCALL", "VMCALL (18)", "VMEXIT_VMMCALL (0x81)"),
    "msr": ("KVM_EXIT_X86_RDMSR/WRMSR", "MSR_READ/WRITE (31, 32)", "VMEXIT_MSR (0x7c)"),
    "system-event": ("KVM_EXIT_SYSTEM_EVENT", "-", "-"),
    "rescued": ("KVM_EXIT_INTERNAL_ERROR, emulation failed", "-", "-"),
    "fault": ("KVM_EXIT_INTERNAL_ERROR/FAIL_ENTRY", "entry failures (33, 34)", "VMEXIT_INVALID (-1)"),
}
"""Canonical name of an exit -> KVM's, VMX's (SDM Vol. 3D, Appendix C) and SVM's (APM Vol. 2, Appendix C)."""


class SiteInfo(NamedTuple):
    """What a counter counts. `address` is a port or a GPA, where the exit has one; sizes in bytes."""

    name: str
    direction: str = ""
    address: int | None = None
    size: int = 0
    register: str = ""
    site: Site = OTHER_SITES


class Counter(Record):
    """Handling times of one site, in ns of host time: from KVM_RUN's return to the end of the handler."""

    __slots__ = ("info", "sum_ns", "min_ns", "max_ns", "histogram")

    def __init__(self, info: SiteInfo) -> None:
        self.info = info
        self.sum_ns = 0
        self.min_ns = 1 << 62
        self.max_ns = 0
        self.histogram = [0] * BUCKETS

    @property
    def count(self) -> int:
        """Exits counted."""
        return sum(self.histogram)

    def add(self, elapsed: int) -> None:
        """Count one exit. The run loop does the same in line: keep the two alike."""
        self.sum_ns += elapsed
        if elapsed < self.min_ns:
            self.min_ns = elapsed
        if elapsed > self.max_ns:
            self.max_ns = elapsed
        self.histogram[elapsed.bit_length()] += 1


def percentile(histogram: list[int], share: float) -> int:
    """Upper bound, in ns, of the bucket that holds the `share` (0..1) quantile; 0 for an empty one."""
    total = sum(histogram)
    if not total:
        return 0
    wanted = max(1, -int(-share * total // 1))
    seen = 0
    for bucket, count in enumerate(histogram):
        seen += count
        if seen >= wanted:
            return (1 << bucket) - 1 if bucket else 0
    return (1 << BUCKETS) - 1


class VcpuStats(Record):
    """Everything counted for one vCPU. Only its own thread writes."""

    __slots__ = ("index", "guest_ns", "kicks", "counters", "overflow")

    def __init__(self, index: int) -> None:
        self.index = index
        self.guest_ns = 0
        """Host time spent inside `Vcpu.run`: in the guest, and in the kernel on its behalf."""
        self.kicks = 0
        """Times the guest was left because the VMM, not the guest, wanted it."""
        self.counters: list[Counter] = []
        self.overflow: dict[tuple[str, str], Counter] = {}
        """Where sites beyond MAX_SITES go, by exit name and direction."""

    def open(self, info: SiteInfo) -> Counter:
        """A counter for a new site, or the shared one of its kind once there are too many."""
        if len(self.counters) >= MAX_SITES:
            key = info.name, info.direction
            shared = self.overflow.get(key)
            if shared is None:
                shared = self.overflow[key] = Counter(SiteInfo(*key, register="(other sites)"))
                self.counters.append(shared)
            return shared
        counter = Counter(info)
        self.counters.append(counter)
        return counter

    @property
    def full(self) -> bool:
        """No more sites are kept apart."""
        return len(self.counters) >= MAX_SITES
