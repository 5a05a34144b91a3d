#include "guest.h"
#include "print.h"

/* One `out` and so one exit a byte; see PUTC in guest.h for why the line status is not polled. */
void putc(char byte)
{
    __asm__ volatile("out dx, al" : : "a"(byte), "d"(COM1));
}
