/* Several processors: start, locks, atomic counters, INIT while running, waiting in HLT (both widths). */
#include "kernel.h"

static volatile u32 locked, counter, unguarded, order;
static volatile u32 seen_id[CPUS], seen_features[CPUS];
#define ROUNDS 200

static void take(void)
{
    while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE))
        relax();
}
static void release(void)
{
    __atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
}

static void identify(void *unused)
{
    u32 me = apic_id();
    seen_id[me & 7] = cpuid(1, 0).b >> 24;
    seen_features[me & 7] = cpuid(1, 0).d;
}

static void count(void *unused)
{
    for (int n = 0; n < ROUNDS; n++) {
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
        take();
        u32 v = unguarded;
        asm volatile("" : : : "memory");
        unguarded = v + 1;
        release();
    }
}

static volatile u32 ticket, served, good = 1;
static void in_order(void *unused)
{
    for (int n = 0; n < 50; n++) {
        u32 mine = __atomic_fetch_add(&ticket, 1, __ATOMIC_SEQ_CST);
        while (served != mine)
            ; /* no PAUSE here */
        served++;
    }
}

static volatile u32 ball;
static void pong(void *rounds)
{
    for (u32 n = 0; n < (word)rounds; n++) {
        while (ball != 1)
            relax();
        ball = 0;
    }
}

static void nothing(void *unused)
{
}

static volatile u32 forever;
static void spin(void *unused)
{
    on();
    forever = 1;
    for (;;)
        ;
}

static volatile u64 tsc_of[CPUS];
static void read_tsc(void *unused)
{
    tsc_of[apic_id() & 7] = rdtsc();
}

void test(void)
{
    u32 cpus = cpu_count();
    section("start");
    start_processors();
    check(1, "%u processors are there", cpus);
    for (u32 n = 0; n < cpus; n++)
        run_on(n, identify, 0);
    int ids = 1;
    for (u32 n = 0; n < cpus; n++)
        ids = ids && seen_id[n] == n && seen_features[n] == seen_features[0];
    check(ids, "each has its id and the same features");

    section("shared memory");
    for (u32 n = 1; n < cpus; n++)
        start_on(n, count, 0);
    count(0);
    for (u32 n = 1; n < cpus; n++)
        wait_for(n);
    equal(counter, ROUNDS * cpus, "atomic additions");
    equal(unguarded, ROUNDS * cpus, "a lock");
    for (u32 n = 1; n < cpus; n++)
        start_on(n, in_order, 0);
    in_order(0);
    for (u32 n = 1; n < cpus; n++)
        wait_for(n);
    equal(served, 50 * cpus, "tickets, waiting without PAUSE");
    if (cpus == 1) {
        skip("the rest needs two processors");
        return;
    }
    start_on(1, pong, (void *)1000ul);
    for (int n = 0; n < 1000; n++) {
        ball = 1;
        while (ball)
            relax();
    }
    wait_for(1);
    check(1, "1000 times there and back");
    for (int n = 0; n < 300; n++)
        run_on(1, nothing, 0);
    check(1, "300 calls by IPI to a processor in HLT");
    for (u32 n = 0; n < cpus; n++)
        run_on(n, read_tsc, 0);
    check(tsc_of[1] >= tsc_of[0], "time goes on from one to the other");

    section("INIT and start again");
    forever = 0;
    start_on(1, spin, 0);
    while (!forever)
        relax();
    apic_ipi(0x4500, 1); /* INIT stops it */
    for (int n = 0; n < 1000; n++)
        relax();
    volatile u32 *mark = (volatile u32 *)0x9000;
    static const u8 code[] = {0x2e, 0xc7, 0x06, 0, 0x10, 0x34, 0x12, 0xf4, 0xeb, 0xfd}; /* movw $0x1234, %cs:0x1000; hlt */
    copy((void *)0x8000, code, sizeof code);
    *mark = 0;
    apic_ipi(0x4600 | 8, 1);
    u64 limit = rdtsc() + 1000000000;
    while (*mark != 0x1234 && rdtsc() < limit)
        relax();
    equal(*mark, 0x1234, "it runs from its start-up vector, CS is writable");
    apic_ipi(0x4600 | 9, 1);
    check(1, "a second start-up is ignored");
}
