/* A GDT and an IDT of our own for 64-bit guests that take interrupts, so that nothing depends on what
   the loader left behind. `kernel_init` loads both; `idt_gate` fills one gate. */
#include "guest.h"

    .text
    .globl kernel_init, idt_gate, gdt_tss

/* Load the tables and reload every segment register from them. */
kernel_init:
    lgdt [rip + gdt_pointer]
    lidt [rip + idt_pointer]
    mov eax, KERNEL_DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    pop rax
    push KERNEL_CODE
    push rax
    retfq

/* idt_gate(EDI = vector, RSI = handler, EDX = lowest privilege that may INT to it): an interrupt gate,
   so the handler starts with interrupts off (SDM Vol. 3A, 6.14.1). */
idt_gate:
    shl edi, 4
    lea rax, [rip + idt]
    add rdi, rax
    mov eax, esi
    and eax, 0xffff
    or eax, KERNEL_CODE << 16
    mov [rdi], eax
    shl edx, 13
    mov eax, esi
    mov ax, 0x8e00
    or eax, edx
    mov [rdi + 4], eax
    shr rsi, 32
    mov [rdi + 8], rsi
    ret

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9a000000ffff /* KERNEL_CODE: L=1, DPL 0 */
    .quad 0x00cf92000000ffff /* KERNEL_DATA */
    .quad 0x00cff2000000ffff /* USER_DATA: DPL 3 */
    .quad 0x00affa000000ffff /* USER_CODE: L=1, DPL 3 */
gdt_tss:
    .quad 0, 0 /* TSS_SELECTOR: lib/user64.S fills it */
gdt_end:

gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .word idt_end - idt - 1
    .quad idt

    .bss
    .balign 16
idt:
    .skip 0x81 * 16 /* up to vector 0x80, the highest that a guest here uses */
idt_end:
