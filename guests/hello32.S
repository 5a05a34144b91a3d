/* hello32: says hello in 32-bit protected mode.
 *
 * Look at: the same exits as hello16 and hello64; what differs is the state the loader entered it with.
 */
#include "guest.h"

    .code32
    .globl _start
_start:
    cld
    mov esi, offset message
    mov edx, COM1
print:
    lodsb
    test al, al
    jz done
    out dx, al
    jmp print
done:
    EXIT 0

    .section .rodata
message:
    .asciz "Hello from protected mode!\n"
