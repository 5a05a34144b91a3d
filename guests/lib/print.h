/* Printing for guests: everything ends in `putc`, which lib/serial.c or lib/user.c supplies. */
#pragma once

void putc(char byte);
void puts(const char *text); /* up to the NUL; adds no newline */
void putdec(unsigned long value);
void puthex(unsigned long long value, int digits); /* "0x" and that many digits, 1 to 16 */
