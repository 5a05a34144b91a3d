"""Builds `_cffi.py`, the out-of-line ABI-mode description of the little of C that KVM needs.

Run `python -m minihv.engine.kvm._ffi_build` after a change; a test checks that the file in the
repository is what this builder makes. ABI mode: no compiler is needed here or at install, and importing
the result parses no C. The structures are those of the kernel's public headers, linux/kvm.h and
asm/kvm.h (KVM API document, Documentation/virt/kvm/api.rst).
"""

from pathlib import Path

from cffi import FFI

CDEF = """
int ioctl(int fd, unsigned long request, void *argument);

struct kvm_userspace_memory_region {
    uint32_t slot; uint32_t flags;
    uint64_t guest_phys_addr; uint64_t memory_size; uint64_t userspace_addr;
};
struct kvm_regs {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
};
struct kvm_segment {
    uint64_t base; uint32_t limit; uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g, avl, unusable, padding;
};
struct kvm_dtable { uint64_t base; uint16_t limit; uint16_t padding[3]; };
struct kvm_sregs {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    uint64_t interrupt_bitmap[4];
};
struct kvm_msr_entry { uint32_t index; uint32_t reserved; uint64_t data; };
struct kvm_msrs { uint32_t nmsrs; uint32_t pad; struct kvm_msr_entry entries[]; };
struct kvm_msr_list { uint32_t nmsrs; uint32_t indices[]; };
struct kvm_cpuid_entry2 {
    uint32_t function, index, flags, eax, ebx, ecx, edx, padding[3];
};
struct kvm_cpuid2 { uint32_t nent; uint32_t padding; struct kvm_cpuid_entry2 entries[]; };
struct kvm_pit_config { uint32_t flags; uint32_t pad[15]; };
struct kvm_irq_level { uint32_t irq; uint32_t level; };
struct kvm_interrupt { uint32_t irq; };
struct kvm_msi { uint32_t address_lo, address_hi, data, flags, devid; uint8_t pad[12]; };
struct kvm_irqchip { uint32_t chip_id, pad; uint8_t chip[512]; };
struct kvm_lapic_state { uint8_t regs[1024]; };
struct kvm_mp_state { uint32_t mp_state; };
struct kvm_xsave { uint8_t region[4096]; };
struct kvm_xcr { uint32_t xcr; uint32_t reserved; uint64_t value; };
struct kvm_xcrs { uint32_t nr_xcrs; uint32_t flags; struct kvm_xcr xcrs[16]; uint64_t padding[16]; };
struct kvm_debugregs { uint64_t db[4]; uint64_t dr6; uint64_t dr7; uint64_t flags; uint64_t reserved[9]; };
struct kvm_guest_debug { uint32_t control; uint32_t pad; uint64_t debugreg[8]; };
struct kvm_enable_cap { uint32_t cap; uint32_t flags; uint64_t args[4]; uint8_t pad[64]; };
struct kvm_vcpu_events {
    struct { uint8_t injected, nr, has_error_code, pending; uint32_t error_code; } exception;
    struct { uint8_t injected, nr, soft, shadow; } interrupt;
    struct { uint8_t injected, pending, masked, pad; } nmi;
    uint32_t sipi_vector; uint32_t flags;
    struct { uint8_t smm, pending, smm_inside_nmi, latched_init; } smi;
    struct { uint8_t pending; } triple_fault;
    uint8_t reserved[26];
    uint8_t exception_has_payload;
    uint64_t exception_payload;
};
struct kvm_translation {
    uint64_t linear_address, physical_address; uint8_t valid, writeable, usermode, pad[5];
};
struct kvm_signal_mask { uint32_t len; uint8_t sigset[8]; };
struct kvm_run {
    uint8_t request_interrupt_window, immediate_exit, padding1[6];
    uint32_t exit_reason;
    uint8_t ready_for_interrupt_injection, if_flag;
    uint16_t flags;
    uint64_t cr8, apic_base;
    union {
        struct { uint64_t hardware_exit_reason; } hw;
        struct { uint64_t hardware_entry_failure_reason; uint32_t cpu; } fail_entry;
        struct { uint32_t exception, error_code; } ex;
        struct { uint8_t direction, size; uint16_t port; uint32_t count; uint64_t data_offset; } io;
        struct { uint32_t exception, pad; uint64_t pc, dr6, dr7; } debug;
        struct { uint64_t phys_addr; uint8_t data[8]; uint32_t len; uint8_t is_write; } mmio;
        struct { uint64_t nr, args[6], ret; uint32_t longmode, pad; } hypercall;
        struct { uint32_t suberror, ndata; uint64_t data[16]; } internal;
        struct { uint32_t suberror, ndata; uint64_t flags; uint8_t insn_size, insn_bytes[15]; } emulation;
        struct { uint32_t type, ndata; uint64_t data[16]; } system_event;
        struct { uint8_t error, pad[7]; uint32_t reason, index; uint64_t data; } msr;
        uint8_t padding[256];
    };
    uint64_t kvm_valid_regs, kvm_dirty_regs;
    union { struct kvm_regs regs; uint8_t padding2[2048]; };
};
"""


def build(target: Path) -> None:
    """Write the generated module to `target`."""
    ffi = FFI()
    ffi.set_source("minihv.engine.kvm._cffi", None)
    ffi.cdef(CDEF)
    ffi.emit_python_code(str(target))


if __name__ == "__main__":
    build(Path(__file__).with_name("_cffi.py"))
