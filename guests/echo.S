/* echo: gives back what is typed, until a line starts with q or Ctrl-D comes.
 *
 * Look at: what polling costs: every look at the line status register is an `io` exit, whether a byte
 * has come or not.
 */
#include "guest.h"

#define CTRL_D 4

    .globl _start
_start:
line_start:
    mov bl, 1                   /* BL: nothing on this line yet */
wait:
    mov edx, COM1_LSR
    in al, dx
    test al, 1
    jz wait
    mov edx, COM1
    in al, dx
    cmp al, CTRL_D
    je done
    cmp al, 'q'
    jne not_q
    test bl, bl
    jnz done
not_q:
    out dx, al
    xor ebx, ebx
    cmp al, '\n'
    je line_start
    cmp al, '\r'                /* what a terminal's Enter key sends: move to the next line as well */
    jne wait
    mov al, '\n'
    out dx, al
    jmp line_start
done:
    EXIT 0
