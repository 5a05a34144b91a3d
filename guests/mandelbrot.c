/* mandelbrot: draws the Mandelbrot set in characters, computed in ring 3 with fixed-point numbers.
 *
 * Look at: guest time against exits: one system call a line stays inside, one `io` exit a character
 * leaves.
 */
#include "print.h"

#define COLUMNS 78
#define ROWS 30
#define ROUNDS 64
#define ONE (1 << 24) /* 8.24 fixed point: 4.0 and the products below fit 64 bits with room */

/* Rounds until x^2 + y^2 exceeds 4, at most ROUNDS. */
static int escape_time(long real, long imaginary)
{
    long x = 0, y = 0;
    int round = 0;

    for (; round < ROUNDS; round++) {
        long xx = x * x / ONE, yy = y * y / ONE;

        if (xx + yy > 4L * ONE)
            break;
        y = 2 * x * y / ONE + imaginary;
        x = xx - yy + real;
    }
    return round;
}

int main(void)
{
    static const char shades[] = " .:-=+*#%@"; /* the last one is for points that never escape */

    for (int row = 0; row < ROWS; row++) {
        /* -1.25 to 1.25 downwards, -2.2 to 0.8 to the right */
        long imaginary = 5L * ONE * row / (2 * (ROWS - 1)) - 5L * ONE / 4;

        for (int column = 0; column < COLUMNS; column++) {
            long real = 3L * ONE * column / (COLUMNS - 1) - 11L * ONE / 5;
            int rounds = escape_time(real, imaginary);

            putc(rounds == ROUNDS ? shades[9] : shades[rounds < 18 ? rounds / 2 : 8]);
        }
        putc('\n');
    }
    return 0;
}
