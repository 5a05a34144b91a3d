"""CpuState <-> the structures of KVM_GET/SET_* for one vCPU."""

from typing import Any

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.engine.kvm.kernel import Kernel
from minihv.x86.state import CpuState, DescriptorTable, Events, MpState, Segment

GPR_ORDER = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
"""struct kvm_regs members in encoding order."""

APIC_BASE_ENABLE = 1 << 11
MSR_BATCH = 128
"""MSRs in one KVM_GET_MSRS or KVM_SET_MSRS; the kernel takes fewer than 256 (MAX_IO_MSRS)."""

FCW_AT, MXCSR_AT = 0, 24
FCW_INITIAL, MXCSR_INITIAL = 0x37F, 0x1F80
"""The FPU after FNINIT and the SSE control word after RESET, and where an XSAVE area has them (SDM Vol. 1,
13.4.1). With XSTATE_BV clear everything else is initial, but MXCSR is loaded all the same (13.8.1)."""


def segment_from_kvm(s: Any) -> Segment:
    """struct kvm_segment -> Segment with VMX access rights (SDM Vol. 3C, 25.4.1)."""
    access = s.type | s.s << 4 | s.dpl << 5 | s.present << 7
    access |= s.avl << 12 | s.l << 13 | s.db << 14 | s.g << 15 | s.unusable << 16
    return Segment(s.selector, s.base, s.limit, access)


def segment_to_kvm(s: Any, segment: Segment) -> None:
    """Fill a struct kvm_segment."""
    access = segment.access
    s.selector, s.base, s.limit = segment.selector, segment.base, segment.limit
    s.type, s.s, s.dpl, s.present = access & 15, access >> 4 & 1, access >> 5 & 3, access >> 7 & 1
    s.avl, s.l, s.db, s.g = access >> 12 & 1, access >> 13 & 1, access >> 14 & 1, access >> 15 & 1
    s.unusable = access >> 16 & 1


class StatePort:
    """Reads and writes the state of the vCPU behind `fd`.

    `msrs` are the indices that this host can save; `xsave_size` is 0 where the host has no XSAVE state.
    """

    def __init__(
        self, kernel: Kernel, fd: int, msrs: list[int], xsave_size: int, has_lapic: bool, events_flags: int
    ) -> None:
        self._kernel = kernel
        self._fd = fd
        self._msrs = msrs
        self._xsave_size = xsave_size
        self._has_lapic = has_lapic
        self._events_flags = events_flags
        self.refused_msrs: dict[int, int] = {}
        """MSRs of the last `store` that this host does not take, with the values that were lost."""

    def _get(self, request: int, structure: str) -> Any:
        target = ffi.new(structure)
        self._kernel.ioctl(self._fd, request, target)
        return target

    def load(self) -> CpuState:
        """The vCPU's state as a new CpuState.

        First the MP state: asking for it makes KVM take an INIT or start-up IPI that is still latched, and
        that changes everything else.
        """
        mp_state = self.mp_state()
        regs = self._get(abi.GET_REGS, "struct kvm_regs *")
        sregs = self._get(abi.GET_SREGS, "struct kvm_sregs *")
        debug = self._get(abi.GET_DEBUGREGS, "struct kvm_debugregs *")
        state = CpuState(
            gpr=[getattr(regs, name) for name in GPR_ORDER],
            rip=regs.rip,
            rflags=regs.rflags,
            es=segment_from_kvm(sregs.es),
            cs=segment_from_kvm(sregs.cs),
            ss=segment_from_kvm(sregs.ss),
            ds=segment_from_kvm(sregs.ds),
            fs=segment_from_kvm(sregs.fs),
            gs=segment_from_kvm(sregs.gs),
            ldtr=segment_from_kvm(sregs.ldt),
            tr=segment_from_kvm(sregs.tr),
            gdtr=DescriptorTable(sregs.gdt.base, sregs.gdt.limit),
            idtr=DescriptorTable(sregs.idt.base, sregs.idt.limit),
            cr0=sregs.cr0,
            cr2=sregs.cr2,
            cr3=sregs.cr3,
            cr4=sregs.cr4,
            cr8=sregs.cr8,
            efer=sregs.efer,
            apic_base=sregs.apic_base,
            dr=[*debug.db, debug.dr6, debug.dr7],
            msrs=self.load_msrs(),
            events=self._load_events(),
            mp_state=mp_state,
        )
        if self._xsave_size:
            state.xsave = self._load_xsave()
            xcrs = self._get(abi.GET_XCRS, "struct kvm_xcrs *")
            state.xcr0 = xcrs.xcrs[0].value if xcrs.nr_xcrs else 1
        if self._has_lapic:
            state.lapic = bytes(ffi.buffer(self._get(abi.GET_LAPIC, "struct kvm_lapic_state *")))
        return state

    def mp_state(self) -> MpState:
        """Running, halted, or waiting to be started."""
        return MpState(self._get(abi.GET_MP_STATE, "struct kvm_mp_state *").mp_state)

    def load_sregs(self) -> Any:
        """struct kvm_sregs alone: enough to find code in memory."""
        return self._get(abi.GET_SREGS, "struct kvm_sregs *")

    def load_regs(self) -> Any:
        """struct kvm_regs alone."""
        return self._get(abi.GET_REGS, "struct kvm_regs *")

    def translate(self, linear: int) -> int | None:
        """The GPA behind a linear address by the vCPU's own page tables (KVM_TRANSLATE), or None."""
        query = ffi.new("struct kvm_translation *", {"linear_address": linear})
        if self._kernel.try_ioctl(self._fd, abi.TRANSLATE, query) < 0 or not query.valid:
            return None
        gpa: int = query.physical_address
        return gpa

    def load_msrs(self) -> dict[int, int]:
        """All MSRs of the host's list that can be read just now (KVM_GET_MSRS stops at a bad one)."""
        found: dict[int, int] = {}
        todo = self._msrs
        while todo:
            entries = [{"index": i} for i in todo[:MSR_BATCH]]
            table = ffi.new("struct kvm_msrs *", {"nmsrs": len(entries), "entries": entries})
            count = self._kernel.ioctl(self._fd, abi.GET_MSRS, table)
            found.update((table.entries[i].index, table.entries[i].data) for i in range(count))
            todo = todo[count if count == len(entries) else count + 1 :]
        return found

    def _load_xsave(self) -> bytes:
        area = ffi.new("uint8_t[]", self._xsave_size)
        request = abi.GET_XSAVE2 if self._xsave_size > 4096 else abi.GET_XSAVE
        self._kernel.ioctl(self._fd, request, area)
        return bytes(ffi.buffer(area))

    def _load_events(self) -> Events:
        e = self._get(abi.GET_VCPU_EVENTS, "struct kvm_vcpu_events *")
        raised = e.exception.injected or e.exception.pending
        return Events(
            exception=e.exception.nr if raised else None,
            exception_pending=bool(e.exception.pending),
            error_code=e.exception.error_code if raised and e.exception.has_error_code else None,
            payload=e.exception_payload if e.exception_has_payload else None,
            interrupt=e.interrupt.nr if e.interrupt.injected else None,
            interrupt_soft=bool(e.interrupt.soft),
            nmi_injected=bool(e.nmi.injected),
            nmi_pending=bool(e.nmi.pending),
            nmi_masked=bool(e.nmi.masked),
            shadow_sti=bool(e.interrupt.shadow & abi.SHADOW_STI),
            shadow_mov_ss=bool(e.interrupt.shadow & abi.SHADOW_MOV_SS),
            sipi_vector=e.sipi_vector,
            smm=bool(e.smi.smm),
            smi_pending=bool(e.smi.pending),
            smm_inside_nmi=bool(e.smi.smm_inside_nmi),
            smi_latched_init=bool(e.smi.latched_init),
            triple_fault=bool(e.triple_fault.pending),
        )

    def store(self, state: CpuState) -> None:
        """Make `state` the vCPU's. Raises KvmError where the kernel refuses it.

        The order matters: EFER and the control registers (in sregs) decide which MSRs and which FPU state
        are accepted; the TSC deadline, an MSR, is taken only where the LAPIC's timer is in that mode; events
        come last because earlier calls may clear them.
        """
        self._store_sregs(state)
        regs = ffi.new("struct kvm_regs *")
        for name, value in zip(GPR_ORDER, state.gpr, strict=True):
            setattr(regs, name, value)
        regs.rip, regs.rflags = state.rip, state.rflags | 2
        self._kernel.ioctl(self._fd, abi.SET_REGS, regs)
        if self._xsave_size:
            self._store_xsave(state)
        if self._has_lapic and state.lapic:
            lapic = ffi.new("struct kvm_lapic_state *")
            ffi.buffer(lapic)[:] = state.lapic
            self._kernel.ioctl(self._fd, abi.SET_LAPIC, lapic)
        self.refused_msrs = {}
        self._store_msrs(state.msrs)
        debug = ffi.new("struct kvm_debugregs *")
        debug.db, debug.dr6, debug.dr7 = state.dr[:4], state.dr[4], state.dr[5]
        self._kernel.ioctl(self._fd, abi.SET_DEBUGREGS, debug)
        if self._has_lapic:
            mp_state = ffi.new("struct kvm_mp_state *", {"mp_state": state.mp_state.value})
            self._kernel.ioctl(self._fd, abi.SET_MP_STATE, mp_state)
        self._store_events(state.events)

    def _store_sregs(self, state: CpuState) -> None:
        sregs = self.load_sregs()
        for name in ("es", "cs", "ss", "ds", "fs", "gs"):
            segment_to_kvm(getattr(sregs, name), getattr(state, name))
        segment_to_kvm(sregs.ldt, state.ldtr)
        segment_to_kvm(sregs.tr, state.tr)
        sregs.gdt.base, sregs.gdt.limit = state.gdtr.base, state.gdtr.limit
        sregs.idt.base, sregs.idt.limit = state.idtr.base, state.idtr.limit
        sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8 = (
            state.cr0, state.cr2, state.cr3, state.cr4, state.cr8
        )  # fmt: skip
        sregs.efer = state.efer
        if state.apic_base is not None:
            sregs.apic_base = state.apic_base
        sregs.interrupt_bitmap = [0, 0, 0, 0]
        self._kernel.ioctl(self._fd, abi.SET_SREGS, sregs)

    def disable_apic(self) -> None:
        """Clear IA32_APIC_BASE.E, from which KVM makes CPUID leaf 1 EDX[9]: for a vCPU without a LAPIC."""
        sregs = self.load_sregs()
        sregs.apic_base &= ~APIC_BASE_ENABLE
        self._kernel.ioctl(self._fd, abi.SET_SREGS, sregs)

    def _store_xsave(self, state: CpuState) -> None:
        area = ffi.new("uint8_t[]", max(self._xsave_size, 4096))
        size = min(len(state.xsave), self._xsave_size)
        buffer = ffi.buffer(area)
        if size:
            buffer[:size] = state.xsave[:size]
        else:
            buffer[FCW_AT : FCW_AT + 2] = FCW_INITIAL.to_bytes(2, "little")
            buffer[MXCSR_AT : MXCSR_AT + 4] = MXCSR_INITIAL.to_bytes(4, "little")
        xcrs = ffi.new("struct kvm_xcrs *", {"nr_xcrs": 1})
        xcrs.xcrs[0].value = state.xcr0
        self._kernel.ioctl(self._fd, abi.SET_XCRS, xcrs)
        self._kernel.ioctl(self._fd, abi.SET_XSAVE, area)

    def _store_msrs(self, msrs: dict[int, int]) -> None:
        """KVM_SET_MSRS stops at the first MSR it refuses: note that one and go on behind it."""
        todo = list(msrs.items())
        while todo:
            entries = [{"index": index, "data": value} for index, value in todo[:MSR_BATCH]]
            table = ffi.new("struct kvm_msrs *", {"nmsrs": len(entries), "entries": entries})
            count = self._kernel.ioctl(self._fd, abi.SET_MSRS, table)
            if count < len(entries):
                self.refused_msrs[todo[count][0]] = todo[count][1]
                count += 1
            todo = todo[count:]

    def _store_events(self, events: Events) -> None:
        e = ffi.new("struct kvm_vcpu_events *")
        flags = abi.EVENT_NMI_PENDING | abi.EVENT_SIPI_VECTOR | abi.EVENT_SHADOW
        if events.exception is not None:
            e.exception.nr = events.exception
            # Without KVM_CAP_EXCEPTION_PAYLOAD there is no "pending": it is delivered at once.
            e.exception.injected = 1
            if events.error_code is not None:
                e.exception.has_error_code, e.exception.error_code = 1, events.error_code
        if events.interrupt is not None:
            e.interrupt.injected, e.interrupt.nr, e.interrupt.soft = (
                1,
                events.interrupt,
                events.interrupt_soft,
            )
        e.interrupt.shadow = events.shadow_sti * abi.SHADOW_STI | events.shadow_mov_ss * abi.SHADOW_MOV_SS
        e.nmi.injected, e.nmi.pending, e.nmi.masked = (
            events.nmi_injected, events.nmi_pending, events.nmi_masked
        )  # fmt: skip
        e.sipi_vector = events.sipi_vector
        if self._events_flags & abi.EVENT_SMM:
            flags |= abi.EVENT_SMM
            e.smi.smm, e.smi.pending = events.smm, events.smi_pending
            e.smi.smm_inside_nmi, e.smi.latched_init = events.smm_inside_nmi, events.smi_latched_init
        e.flags = flags
        self._kernel.ioctl(self._fd, abi.SET_VCPU_EVENTS, e)
