/* hello16: a boot sector says hello in real mode.
 *
 * Look at: 16-bit code at 0x7c00, one `io` exit for each byte; no paging, no protection, no tables.
 */
#include "guest.h"

    .code16
    .globl _start
_start:
    xor ax, ax
    mov ds, ax
    cld
    mov si, offset message
    mov dx, COM1
print:
    lodsb
    test al, al
    jz done
    out dx, al
    jmp print
done:
    EXIT 0

message:
    .asciz "Hello from real mode!\n"
