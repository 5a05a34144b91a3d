/* spin: never ends, for trying time limits, budgets and Ctrl-C.
 *
 * Look at: interrupts are off and nothing leaves the guest, yet minihv gets the processor back.
 */
#include "guest.h"

    .globl _start
_start:
    cli
forever:
    jmp forever
