/* primes: counts the primes below two million in ring 3, with a sieve and by trial division.
 *
 * Look at: how far the engines are apart in speed: a lot of computing, next to no exits.
 */
#include "print.h"

#define LIMIT 2000000
#define TRIAL_LIMIT 20000

/* composite[i] stands for the odd number 2 * i + 1. */
static unsigned char composite[LIMIT / 2];

static void sieve(void)
{
    for (unsigned number = 3; number * number < LIMIT; number += 2)
        if (!composite[number / 2])
            for (unsigned multiple = number * number; multiple < LIMIT; multiple += 2 * number)
                composite[multiple / 2] = 1;
}

static unsigned count_sieved(unsigned limit)
{
    unsigned count = 1; /* 2 is the only even prime */

    for (unsigned number = 3; number < limit; number += 2)
        count += !composite[number / 2];
    return count;
}

static int is_prime(unsigned number)
{
    for (unsigned divisor = 3; divisor * divisor <= number; divisor += 2)
        if (number % divisor == 0)
            return 0;
    return 1;
}

static unsigned count_by_trial(unsigned limit)
{
    unsigned count = 1;

    for (unsigned number = 3; number < limit; number += 2)
        count += is_prime(number);
    return count;
}

static void report(const char *method, unsigned limit, unsigned count)
{
    puts(method);
    puts(": ");
    putdec(count);
    puts(" primes below ");
    putdec(limit);
    putc('\n');
}

int main(void)
{
    unsigned by_trial = count_by_trial(TRIAL_LIMIT);

    sieve();
    report("sieve", LIMIT, count_sieved(LIMIT));
    report("trial division", TRIAL_LIMIT, by_trial);
    return by_trial != count_sieved(TRIAL_LIMIT);
}
