/* triple: crashes on purpose with a triple fault.
 *
 * Look at: the report after the crash: no handler for #UD, none for the double fault that follows, so
 * the processor shuts down.
 */
#include "guest.h"

    .globl _start
_start:
    cld
    lea rsi, [rip + message]
    mov edx, COM1
1:  lodsb
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:  lidt [rip + no_idt]
crash:
    ud2

    .section .rodata
message:
    .asciz "An exception without a table to handle it:\n"
no_idt:
    .word 0
    .quad 0
