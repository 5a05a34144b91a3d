/* Small operations, many times: nothing hangs, the time per operation is printed (both widths). */
#include "kernel.h"

static u32 rounds = 300;
static void nothing(void *unused) {}

#define COST(name, code)                                                                                 \
    ({                                                                                                   \
        u64 t = rdtsc();                                                                                 \
        for (u32 n = 0; n < rounds; n++) {                                                               \
            code;                                                                                        \
        }                                                                                                \
        t = rdtsc() - t;                                                                                 \
        print("%s %u\n", name, (u32)t / rounds);                                                         \
    })

static volatile u32 fired;
static void on_timer(struct frame *f)
{
    fired++;
    eoi();
}

void test(void)
{
    handlers[0xe0] = on_timer;
    COST("cpuid", cpuid(0, 0));
    COST("vmcall", ATTEMPT("vmcall", NONE, INS("a"(-1ul)), "ebx", "ecx", "edx"));
#ifdef __x86_64__
    COST("mov_from_cr8", get_cr8());
    COST("mov_to_cr8", set_cr8(0));
#endif
    COST("inl_pmtimer", in32(0xb008));
    COST("inl_nobody", in32(0x1234));
    COST("inl_elcr", in8(0x4d0));
    COST("outb_elcr", out8(0x4d0, 0));
    COST("rdmsr_tsc_adjust", rdmsr(0x3b));
    COST("wrmsr_tsc_adjust", wrmsr(0x3b, 0));
    COST("rdtscp", asm volatile("rdtscp" : : : "eax", "edx", "ecx"));
    COST("xgetbv", ATTEMPT("xgetbv", NONE, INS("c"(0)), "eax", "edx"));
    COST("apic_read", apic_read(0x30));
    COST("apic_eoi", eoi());
    fired = 0;
    on();
    COST("self_ipi", apic_ipi(0x440e0, 0));
    equal(fired, rounds, "each self IPI arrived");
    apic_write(0x320, 0x400e0);
    fired = 0;
    COST("tsc_deadline_now", wrmsr(0x6e0, rdtsc()));
    equal(fired, rounds, "each deadline arrived");
    fired = 0;
    COST("tsc_deadline", ({ u32 was = fired; wrmsr(0x6e0, rdtsc() + 2000); while (fired == was) relax(); }));
    equal(fired, rounds, "each later deadline arrived");
    off();
    COST("invlpg", flush(0x800000));
    COST("mov_cr3", set_cr3(get_cr3()));
    COST("ud2", ATTEMPT("ud2", NONE, NONE));
    if (cpu_count() > 1) {
        start_processors();
        COST("ipi", run_on(1, nothing, 0));
        COST("ipi+halt", ({ run_on(1, nothing, 0); u64 t = rdtsc() + 2000; while (rdtsc() < t) ; }));
    }
    check(1, "all came to an end");
}
