/* hello64: says hello in 64-bit mode.
 *
 * Look at: one `io` exit for each byte of the greeting and one for the exit port; nothing else leaves
 * the guest.
 */
#include "guest.h"

    .globl _start
_start:
    cld
    lea rsi, [rip + message]
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
    .asciz "Hello from long mode!\n"
