/* Starting the other processors, for 64-bit guests. The guest supplies `secondary`, where they arrive.
 *
 * A guest calls smp_page_tables (or loads page tables of its own that map the first 2 MiB and the local
 * APIC), then smp_init, then smp_start for one APIC ID after the other.
 */
#include "guest.h"

#define LAPIC_ICR_LOW 0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_PENDING 0x1000
#define ICR_INIT 0x4500         /* INIT, assert (SDM Vol. 3A, 10.6.1) */
#define ICR_STARTUP 0x4600      /* plus the page number the CPU starts at */

#define TRAMPOLINE 0x8000       /* below 1 MiB and on a page border, as SIPI demands */
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PE_PG 0x80000001
#define CR4_PAE 0x20
#define PTE_RW 3
#define PTE_RW_2M 0x83
#define PTE_RW_2M_UNCACHED 0x93

    .globl smp_page_tables, smp_cpus, smp_init, smp_start

/* Page tables of our own: from then on nothing below 1 MiB belongs to the loader any more. */
smp_page_tables:
    lea rax, [rip + pdpt + PTE_RW]
    mov [rip + pml4], rax
    lea rax, [rip + pd_low + PTE_RW]
    mov [rip + pdpt], rax
    lea rax, [rip + pd_lapic + PTE_RW]
    mov [rip + pdpt + (LAPIC >> 30) * 8], rax
    mov qword ptr [rip + pd_low], PTE_RW_2M
    mov eax, (LAPIC & ~0x1fffff) | PTE_RW_2M_UNCACHED
    mov [rip + pd_lapic + (LAPIC >> 21 & 511) * 8], rax
    lea rax, [rip + pml4]
    mov cr3, rax
    ret

/* smp_cpus() -> EAX: how many processors the board has. Changes EDX. */
smp_cpus:
    mov dx, FW_CFG_SELECT
    mov ax, FW_CFG_CPUS
    out dx, ax
    mov dx, FW_CFG_DATA
    in al, dx
    movzx ecx, al
    in al, dx
    mov ch, al
    mov eax, ecx
    ret

/* Copy the trampoline and tell it the page tables in use, which must lie below 4 GiB. Changes RAX, RCX,
   RSI, RDI. */
smp_init:
    lea rsi, [rip + trampoline]
    mov edi, TRAMPOLINE
    mov ecx, offset trampoline_end - trampoline
    cld
    rep movsb
    mov rax, cr3
    mov ecx, TRAMPOLINE + trampoline_cr3 - trampoline
    mov [rcx], eax
    ret

/* smp_start(EDI = APIC ID): that processor is on its way to `secondary`. One SIPI is enough for a virtual
   CPU; hardware wants 10 ms after INIT and a second SIPI (Vol. 3A, 8.4.4.1). Changes RAX, RCX, RDX. */
smp_start:
    mov ecx, ICR_INIT
    call send_ipi
    mov ecx, ICR_STARTUP | TRAMPOLINE >> 12
    call send_ipi
    ret

/* send_ipi(EDI = destination, ECX = command) */
send_ipi:
    mov edx, LAPIC
    mov eax, edi
    shl eax, 24
    mov [rdx + LAPIC_ICR_HIGH], eax
    mov [rdx + LAPIC_ICR_LOW], ecx
1:  test dword ptr [rdx + LAPIC_ICR_LOW], ICR_PENDING
    jnz 1b
    ret

/* Copied to TRAMPOLINE. A CPU comes here in real mode with CS:IP = page:0 and goes to long mode at once:
   PAE, CR3, LME, then paging and protection together (SDM Vol. 3A, 9.8.5). */
    .code16
trampoline:
    cli
    mov ax, cs
    mov ds, ax
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, [trampoline_cr3 - trampoline]
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    lgdt [early_gdt_pointer - trampoline]
    mov eax, cr0
    and eax, 0x9fffffff         /* caches on, not write-through */
    or eax, CR0_PE_PG
    mov cr0, eax
    data32 ljmp KERNEL_CODE, offset secondary
    .balign 8
early_gdt:
    .quad 0
    .quad 0x00af9a000000ffff
    .quad 0x00cf92000000ffff
early_gdt_pointer:
    .word early_gdt_pointer - early_gdt - 1
    .long TRAMPOLINE + early_gdt - trampoline
trampoline_cr3:
    .long 0
trampoline_end:

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd_low:
    .skip 4096
pd_lapic:
    .skip 4096
