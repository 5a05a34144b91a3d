/* smp: starts every other processor, one after the other; each prints one line.
 *
 * Look at: INIT and SIPI (start-up IPI), sent through the local APIC, and the exits of each vCPU. Run it
 * with 1 to 16 CPUs.
 */
#include "guest.h"

#define LAPIC 0xfee00000
#define LAPIC_ID 0x020
#define LAPIC_SVR 0x0f0
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
#define STACK_SIZE 1024
#define MAX_CPUS 16
#define PTE_RW 3
#define PTE_RW_2M 0x83
#define PTE_RW_2M_UNCACHED 0x93

    .globl _start
_start:
    lea rsp, [rip + stacks + STACK_SIZE]
    call load_page_tables       /* from here on nothing below 1 MiB belongs to the loader any more */
    call kernel_init

    mov dx, FW_CFG_SELECT
    mov ax, FW_CFG_CPUS
    out dx, ax
    mov dx, FW_CFG_DATA
    in al, dx
    movzx ebx, al
    in al, dx
    mov bh, al
    mov [rip + cpus], ebx

    lea rsi, [rip + trampoline]
    mov edi, TRAMPOLINE
    mov ecx, offset trampoline_end - trampoline
    cld
    rep movsb

    mov ebp, LAPIC
    mov dword ptr [rbp + LAPIC_SVR], 0x1ff
    call report
start_next:
    mov eax, [rip + online]
    cmp eax, [rip + cpus]
    jae all_started
    cmp eax, MAX_CPUS
    jae too_many
    call start_cpu
    jmp start_next
all_started:
    PRINT "CPUs online: "
    mov edi, [rip + online]
    call putdec
    PRINT "\n"
    EXIT 0
too_many:
    PRINT "more CPUs than this guest has stacks for\n"
    EXIT 1

/* start_cpu(EAX = its number, which is its APIC ID too); returns when that CPU has printed its line. One
   SIPI is enough for a virtual CPU; hardware wants 10 ms after INIT and a second SIPI (Vol. 3A, 8.4.4.1). */
start_cpu:
    mov r12d, eax
    mov ecx, ICR_INIT
    call send_ipi
    mov ecx, ICR_STARTUP | TRAMPOLINE >> 12
    call send_ipi
1:  pause
    cmp [rip + online], r12d
    jbe 1b
    ret

/* send_ipi(R12D = destination, ECX = command) */
send_ipi:
    mov eax, r12d
    shl eax, 24
    mov [rbp + LAPIC_ICR_HIGH], eax
    mov [rbp + LAPIC_ICR_LOW], ecx
1:  test dword ptr [rbp + LAPIC_ICR_LOW], ICR_PENDING
    jnz 1b
    ret

/* Print this CPU's line, then count it. */
report:
    PRINT "cpu "
    mov edi, [rip + online]
    call putdec
    PRINT " of "
    mov edi, [rip + cpus]
    call putdec
    PRINT ", APIC ID "
    mov eax, LAPIC + LAPIC_ID
    mov edi, [rax]
    shr edi, 24
    call putdec
    PRINT "\n"
    lock inc dword ptr [rip + online]
    ret

/* Where the trampoline leads: long mode, a stack chosen by the CPU's number. */
secondary:
    mov eax, [rip + online]
    inc eax
    imul eax, eax, STACK_SIZE
    lea rsp, [rip + stacks]
    add rsp, rax
    call kernel_init
    call report
1:  cli
    hlt
    jmp 1b

load_page_tables:
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

/* Copied to TRAMPOLINE. A CPU comes here in real mode with CS:IP = page:0 and goes to long mode at once:
   PAE, CR3, LME, then paging and protection together (SDM Vol. 3A, 9.8.5). */
    .code16
trampoline:
    cli
    mov ax, cs
    mov ds, ax
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, offset pml4
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
stacks:
    .skip MAX_CPUS * STACK_SIZE
cpus:
    .skip 4
online:
    .skip 4
