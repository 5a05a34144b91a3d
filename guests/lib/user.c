/* What a C program in ring 3 needs: entry, exit, and output in lines, one system call each. */
#include "guest.h"
#include "print.h"

int main(void);

static char line[128];
static unsigned long used;

static void system_call(unsigned long number, unsigned long first, unsigned long second)
{
    __asm__ volatile("int %3"
                     : "+a"(number), "+D"(first), "+S"(second)
                     : "i"(SYSTEM_CALL)
                     : "rdx", "memory");
}

void putc(char byte)
{
    line[used++] = byte;
    if (byte == '\n' || used == sizeof line) {
        system_call(SYS_WRITE, (unsigned long)line, used);
        used = 0;
    }
}

/* Where lib/user64.S enters ring 3. Output that lacks its newline is written out at the end. */
void user_start(void)
{
    unsigned long status = main();

    if (used)
        system_call(SYS_WRITE, (unsigned long)line, used);
    system_call(SYS_EXIT, status, 0);
}
