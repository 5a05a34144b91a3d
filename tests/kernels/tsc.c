/* Time: TSC, TSC_ADJUST, TSC_AUX, RDTSCP, RDPID, PIT and ACPI timer-less delays (both widths). */
#include "kernel.h"

#define MSR_TSC 0x10
#define MSR_ADJUST 0x3b
#define MSR_AUX 0xc0000103

static void counter(void)
{
    section("TSC");
    u64 last = rdtsc();
    int good = 1;
    for (int n = 0; n < 2000; n++) {
        u64 now = rdtsc();
        good = good && now > last;
        last = now;
    }
    check(good, "it goes up");
    wrmsr(MSR_TSC, 0);
    check(rdtsc() < 1000000000, "written with 0");
    wrmsr(MSR_TSC, 1ull << 40);
    u64 v = rdtsc();
    check(v >= 1ull << 40 && v < (1ull << 40) + 1000000000, "written with 64 bits");
    v = rdmsr(MSR_TSC);
    check(rdtsc() >= v, "the MSR is the counter");
}

static void adjust(void)
{
    section("TSC_ADJUST");
    check(cpuid(7, 0).b >> 1 & 1, "CPUID");
    wrmsr(MSR_ADJUST, 0);
    equal(rdmsr(MSR_ADJUST), 0, "0");
    wrmsr(MSR_ADJUST, 0x100000000);
    equal(rdmsr(MSR_ADJUST), 0x100000000, "kept");
    u64 t = rdtsc();
    wrmsr(MSR_ADJUST, 0x10000000000);
    check(rdtsc() - t >= 0xff00000000, "moves the counter");
    wrmsr(MSR_ADJUST, 0);
    t = rdtsc();
    wrmsr(MSR_TSC, t + 0x10000000000);
    u64 moved = rdmsr(MSR_ADJUST);
    check(moved > 0xff00000000 && moved <= 0x10000000000, "a write to the counter moves it");
    wrmsr(MSR_ADJUST, (u64)-0x1000);
    equal(rdmsr(MSR_ADJUST), (u64)-0x1000, "negative");
    wrmsr(MSR_ADJUST, 0);
}

static void auxiliary(void)
{
    u32 a, d, c;
    section("RDTSCP, RDPID");
    check(cpuid(0x80000001, 0).d >> 27 & 1, "CPUID: RDTSCP");
    wrmsr(MSR_AUX, 0x12345678);
    asm volatile("rdtscp" : "=a"(a), "=d"(d), "=c"(c));
    equal(c, 0x12345678, "RDTSCP gives TSC_AUX");
    u64 t1 = rdtsc();
    asm volatile("rdtscp" : "=a"(a), "=d"(d), "=c"(c));
    check(((u64)d << 32 | a) >= t1, "and the counter");
    if (cpuid(7, 0).c >> 22 & 1) {
        word v = 0;
        asm volatile(".byte 0xf3, 0x0f, 0xc7, 0xf8" : "=a"(v)); /* rdpid */
        equal(v, 0x12345678, "RDPID");
    } else
        skip("RDPID is not claimed");
    equal(try_wrmsr(MSR_AUX, 1ull << 32), is_amd() ? GP : GP, "TSC_AUX: the upper half is reserved");
    wrmsr(MSR_AUX, 0);
}

static void pit(void)
{
    section("8254");
    /* channel 2, mode 0, by the speaker gate: 11932 ticks are 10 ms */
    out8(0x61, (in8(0x61) & ~2) | 1);
    out8(0x43, 0xb0);
    out8(0x42, 11932 & 0xff);
    out8(0x42, 11932 >> 8);
    u64 t = rdtsc();
    while (!(in8(0x61) & 0x20) && rdtsc() - t < 10000000000)
        ;
    t = rdtsc() - t;
    check(t > 5000000 && t < 200000000, "10 ms by channel 2");
    out8(0x43, 0x34); /* channel 0, mode 2 */
    out8(0x40, 0);
    out8(0x40, 0);
    out8(0x43, 0);
    u16 a = in8(0x40);
    a |= in8(0x40) << 8;
    for (int n = 0; n < 2000; n++)
        relax();
    out8(0x43, 0);
    u16 b = in8(0x40);
    b |= in8(0x40) << 8;
    check(a != b, "channel 0 counts");
}

void test(void)
{
    counter();
    adjust();
    auxiliary();
    pit();
}
