/* spin: never ends, for trying time limits, budgets and Ctrl-C.
 *
 * Look at: how minihv gets the processor back although interrupts are off and nothing leaves the guest.
 */
#include "guest.h"

    .globl _start
_start:
    cli
forever:
    jmp forever
