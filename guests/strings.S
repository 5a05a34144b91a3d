/* strings: string instructions on ports: REP OUTSB/OUTSW and REP INSB/INSW/INSD.
 *
 * Look at: how many exits one REP becomes: a REP IN arrives whole, a REP OUT element by element under
 * KVM; either way the device sees every element.
 */
#include "guest.h"

#define EMPTY_PORT 0x2e0        /* nobody owns it: reads as all ones */
#define GUARD 0xcc

/* REP_IN insn, port, count: into a buffer filled with GUARD. */
.macro REP_IN insn, port, count
    call fill_buffer
    lea rdi, [rip + buffer]
    mov ecx, \count
    mov edx, \port
    rep \insn
.endm

    .globl _start
_start:
    cld
    lea rsi, [rip + forward]
    mov ecx, offset forward_end - forward
    mov edx, DEBUG_CONSOLE
    rep outsb

    std                         /* the same, from the last byte down */
    lea rsi, [rip + backward_end - 1]
    mov ecx, offset backward_end - backward
    mov edx, COM1
    rep outsb
    cld

    REP_IN insb, DEBUG_CONSOLE, 5
    PRINT "insb x5: "
    call show_buffer

    /* Two words to the selector, of which the last counts; then the signature, byte by byte. */
    lea rsi, [rip + selectors]
    mov ecx, 2
    mov edx, FW_CFG_SELECT
    rep outsw
    REP_IN insb, FW_CFG_DATA, 4
    PRINT "outsw x2, insb x4: "
    call show_buffer

    REP_IN insw, EMPTY_PORT, 2
    PRINT "insw x2: "
    call show_buffer
    REP_IN insd, EMPTY_PORT, 1
    PRINT "insd x1: "
    call show_buffer
    REP_IN insb, EMPTY_PORT, 0
    PRINT "insb x0: "
    call show_buffer
    EXIT 0

fill_buffer:
    lea rdi, [rip + buffer]
    mov rax, GUARD * 0x0101010101010101
    stosq
    ret

/* The buffer in hexadecimal, first byte first. */
show_buffer:
    lea rbx, [rip + buffer]
    mov rdi, [rbx]
    bswap rdi
    mov esi, 16
    call puthex
    PUTC '\n'
    ret

    .section .rodata
forward:
    .ascii "outsb upwards\n"
forward_end:
backward:
    .ascii "\nsdrawnwod bstuo"
backward_end:
    .balign 2
selectors:
    .word FW_CFG_CPUS, FW_CFG_SIGNATURE

    .bss
    .balign 8
buffer:
    .skip 8
