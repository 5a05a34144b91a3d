/* The exit port: a byte, a word and a dword give (value << 1) | 1; by argument: byte, word, dword, hang, sleep. */
#include "kernel.h"

void test(void)
{
    if (argument("byte"))
        out8(0xf4, 5);
    if (argument("word"))
        out16(0xf4, 6);
    if (argument("dword"))
        out32(0xf4, 7);
    while (argument("hang"))
        ;
    while (argument("sleep"))
        asm volatile("sti; hlt");
    check(0, "there was an argument");
}
