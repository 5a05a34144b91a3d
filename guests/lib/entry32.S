/* Entry of 32-bit guests written in C: a stack, then kernel(EAX, EBX), then the exit port. Both multiboot
   and PVH leave the stack undefined and put what they hand over in EAX and EBX. */
#include "guest.h"

    .code32
    .globl _start
_start:
    mov esp, offset stack_top
    push ebx
    push eax
    call kernel
    EXIT al

    .bss
    .balign 16
    .skip 4096
stack_top:
