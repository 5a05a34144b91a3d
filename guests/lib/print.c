#include "print.h"

void puts(const char *text)
{
    while (*text)
        putc(*text++);
}

void putdec(unsigned long value)
{
    char digits[20]; /* 2^64 has twenty */
    int count = 0;

    do {
        digits[count++] = '0' + value % 10;
        value /= 10;
    } while (value);
    while (count)
        putc(digits[--count]);
}

void puthex(unsigned long long value, int digits)
{
    puts("0x");
    while (digits--)
        putc("0123456789abcdef"[value >> (4 * digits) & 15]);
}
