/* Entry of guests whose program is C in ring 3: straight down to it. */
#include "guest.h"

    .globl _start
_start:
    lea rdi, [rip + user_start]
    jmp enter_user
