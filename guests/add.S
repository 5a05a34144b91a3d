/* add: computes 1 + 2 and prints the result.
 *
 * Look at: the instruction at `the_add`, which no engine needs help for, beside the one at `the_out`,
 * which leaves the guest.
 */
#include "guest.h"

    .globl _start, the_add, the_out
_start:
    mov eax, 1
    mov ebx, 2
the_add:
    add eax, ebx
computed:
    add al, '0'
    mov [rip + digit], al
    cld
    lea rsi, [rip + message]
    mov edx, COM1
print:
    lodsb
    test al, al
    jz done
the_out:
    out dx, al
printed:
    jmp print
done:
    EXIT 0

    .data
message:
    .ascii "1 + 2 = "
digit:
    .asciz "?\n"
