/* Local APIC: modes, registers, interrupts between processors, priorities, timer, errors. Two CPUs and more.
 * SDM Vol. 3A, chapter 10. */
#include "kernel.h"

#define TPR 0x80
#define PPR 0xa0
#define LDR 0xd0
#define DFR 0xe0
#define SVR 0xf0
#define ISR 0x100
#define IRR 0x200
#define ESR 0x280
#define ICR 0x300
#define LVT_TIMER 0x320
#define LVT_LINT0 0x350
#define LVT_ERROR 0x370
#define T_INITIAL 0x380
#define T_CURRENT 0x390
#define T_DIVIDE 0x3e0
#define MSR_DEADLINE 0x6e0

static volatile u32 count[CPUS];
static volatile u32 nmis[CPUS];
static volatile u8 order[8];
static volatile u32 ordered;

static void counting(struct frame *f)
{
    __atomic_fetch_add(&count[apic_id() & 7], 1, __ATOMIC_SEQ_CST);
    eoi();
}

static void ordering(struct frame *f)
{
    order[ordered++ & 7] = f->vector;
    eoi();
}

static void on_nmi(struct frame *f)
{
    __atomic_fetch_add(&nmis[apic_id() & 7], 1, __ATOMIC_SEQ_CST);
}

static void reset_counts(void)
{
    for (int n = 0; n < CPUS; n++)
        count[n] = nmis[n] = 0;
    ordered = 0;
}

static int arrives(volatile u32 *what, u32 wanted)
{
    u64 start = rdtsc();
    while (*what < wanted && rdtsc() - start < 2000000000)
        relax();
    return *what == wanted;
}

static u32 bit_of(u32 base, u32 vector)
{
    return apic_read(base + (vector >> 5) * 16) >> (vector & 31) & 1;
}

static void modes(void)
{
    section("modes");
    u64 base = rdmsr(MSR_APIC_BASE), off = base & ~0xc00ull;
    check(base & 0x100, "the first processor is the bootstrap processor");
    equal(base & ~0xfffull, LAPIC, "the page is at its default place");
    u32 version = apic_read(0x30);
    check((version & 0xff) >= 0x10 && (version & 0xff) <= 0x15, "version %x", (word)version);
    check(version >> 16 >= 3, "LVT entries");
    check(cpuid(1, 0).c >> 21 & 1, "CPUID: x2APIC");
    equal(try_wrmsr(MSR_APIC_BASE, off | 0x400), GP, "xAPIC to EXTD without EN");
    equal(try_wrmsr(MSR_APIC_BASE, base | 0xc00), NOTHING, "xAPIC to x2APIC");
    equal(try_wrmsr(MSR_APIC_BASE, off | 0x400), GP, "x2APIC to EXTD without EN");
    equal(try_wrmsr(MSR_APIC_BASE, off | 0x800), GP, "x2APIC to xAPIC");
    check(cpuid(1, 0).d >> 9 & 1, "CPUID: APIC while enabled");
    equal(try_wrmsr(MSR_APIC_BASE, off), NOTHING, "x2APIC to disabled");
    check(!(cpuid(1, 0).d >> 9 & 1), "CPUID: no APIC while disabled");
    equal(try_wrmsr(MSR_APIC_BASE, off | 0x400), GP, "disabled to EXTD without EN");
    equal(try_wrmsr(MSR_APIC_BASE, off | 0xc00), GP, "disabled to x2APIC");
    volatile u32 *page = (volatile u32 *)LAPIC;
    clear((void *)LAPIC, 4096);
    equal(page[0x30 / 4], 0xffffffff, "disabled: the page reads all ones");
    word cr8 = get_cr8();
    set_cr8(cr8 ^ 15);
    equal(get_cr8(), cr8 ^ 15, "disabled: CR8 works");
    equal(page[0x80 / 4], 0xffffffff, "disabled: the TPR does not");
    set_cr8(cr8);
    u64 v;
    equal(try_rdmsr(0x802, &v), GP, "disabled: no x2APIC MSRs");
    equal(try_wrmsr(MSR_APIC_BASE, off | 0x800), NOTHING, "disabled to xAPIC");
    equal(page[0x30 / 4], version, "xAPIC: the version is there again");
    equal(page[0x80 / 4], cr8 << 4, "xAPIC: TPR is CR8");
    set_cr8(cr8 ^ 15);
    equal(page[0x80 / 4], (cr8 ^ 15) << 4, "and follows it");
    set_cr8(cr8);
    equal(page[SVR / 4], 0xff, "SVR after a reset");
    equal(page[LVT_TIMER / 4], 0x10000, "LVT timer after a reset");
    equal(page[DFR / 4], 0xffffffff, "DFR after a reset");
    equal(try_rdmsr(0x802, &v), GP, "xAPIC: no x2APIC MSRs");
    apic_write(SVR, 0x1ff);
    equal(try_wrmsr(MSR_APIC_BASE, base | 1), GP, "reserved low bit");
    equal(try_wrmsr(MSR_APIC_BASE, base | 1ull << (cpuid(0x80000008, 0).a & 0xff)), GP, "bit MAXPHYADDR");
    wrmsr(MSR_APIC_BASE, off);
    wrmsr(MSR_APIC_BASE, (off & 0xfff) | 0xfed40000 | 0x800);
    equal(*(volatile u32 *)(0xfed40000ul + 0x30), version, "moved to fed40000");
    equal(page[0x30 / 4], 0xffffffff, "and gone from fee00000");
    wrmsr(MSR_APIC_BASE, base);
    equal(page[0x30 / 4], version, "and back");
    apic_write(SVR, 0x1ff);
}

static void x2apic_registers(void)
{
    u64 v;
    section("x2APIC registers");
    use_x2apic();
    equal(apic_read(0x20), 0, "id");
    equal(cpuid(0xb, 0).d, 0, "the id that CPUID leaf B has");
    equal(rdmsr(0x80d), 1, "LDR: cluster 0, first");
    equal(try_wrmsr(0x802, 0), GP, "id is read-only");
    equal(try_wrmsr(0x803, 0), GP, "version is read-only");
    equal(try_wrmsr(0x80d, 1), GP, "LDR is read-only");
    equal(try_rdmsr(0x80e, &v), GP, "no DFR");
    equal(try_rdmsr(0x809, &v), GP, "no APR");
    equal(try_rdmsr(0x80b, &v), GP, "EOI is write-only");
    equal(try_wrmsr(0x80b, 1), GP, "EOI takes 0 only");
    equal(try_rdmsr(0x831, &v), GP, "no ICR2");
    equal(try_rdmsr(0x83f, &v), GP, "SELF IPI is write-only");
    equal(try_wrmsr(0x80f, 1ull << 32), GP, "SVR: reserved bits");
    equal(try_wrmsr(0x808, 0x100), GP, "TPR: reserved bits");
    equal(try_wrmsr(0x828, 1), GP, "ESR takes 0 only");
    equal(try_wrmsr(0x810, 0), GP, "ISR is read-only");
    equal(try_rdmsr(0x8ff, &v), GP, "the last MSR of the range");
    equal(try_rdmsr(0x840, &v), GP, "an MSR behind the last register");
    equal(try_wrmsr(0x830, 1ull << 20), GP, "ICR: reserved bits");
    equal(try_wrmsr(0x808, 0x30), NOTHING, "TPR");
    equal(get_cr8(), 3, "is CR8");
    wrmsr(0x808, 0);
    reset_counts();
    wrmsr(0x83f, 0xe0);
    on();
    check(arrives(&count[0], 1), "SELF IPI");
    off();
    volatile u32 *page = (volatile u32 *)LAPIC;
    equal(page[0x30 / 4], 0xffffffff, "the page is not there");
    use_xapic();
}

static void self_and_priorities(void)
{
    section("self IPI and priorities");
    reset_counts();
    apic_ipi(0x40000 | 0xe0, 0);
    equal(bit_of(IRR, 0xe0), 1, "with interrupts off it waits in the IRR");
    on();
    equal(count[0], 1, "shorthand self");
    off();
    equal(bit_of(IRR, 0xe0), 0, "the IRR bit is gone");
    apic_ipi(0xe0, apic_id());
    on();
    equal(count[0], 2, "physical destination self");
    off();
    reset_counts();
    apic_ipi(0x40000 | 0x61, 0);
    apic_ipi(0x40000 | 0x62, 0);
    apic_ipi(0x40000 | 0x71, 0);
    on();
    off();
    check(ordered == 3 && order[0] == 0x71 && order[1] == 0x62 && order[2] == 0x61, "the highest vector first");
    reset_counts();
    apic_write(TPR, 0x60);
    equal(apic_read(PPR), 0x60, "PPR is the TPR when nothing is served");
    apic_ipi(0x40000 | 0x61, 0);
    apic_ipi(0x40000 | 0x71, 0);
    on();
    check(ordered == 1 && order[0] == 0x71, "TPR 60 holds 61 back");
    apic_write(TPR, 0x5f);
    check(ordered == 2 && order[1] == 0x61, "TPR 5f lets it go");
    apic_write(TPR, 0);
    apic_write(TPR, 0xf0);
    apic_ipi(0x40000 | 0x71, 0);
    equal(ordered, 2, "TPR f0 holds everything back");
    set_cr8(0);
    equal(ordered, 3, "CR8 0 lets it go");
    off();
    /* in service: ISR, PPR */
    extern void nested(struct frame *f);
    handlers[0x81] = nested;
    reset_counts();
    on();
    apic_ipi(0x40000 | 0x81, 0);
    off();
    check(ordered == 1 && order[0] == 0x71, "a lower one waits for EOI");
    /* spurious vectors below 16 */
    apic_write(ESR, 0);
    apic_write(ESR, 0);
    equal(apic_read(ESR), 0, "no errors");
    apic_ipi(0x40000 | 5, 0);
    apic_write(ESR, 0);
    check(apic_read(ESR) & 0x60, "an illegal vector is an error");
    apic_write(ESR, 0);
    apic_write(ESR, 0);
    equal(apic_read(ESR), 0, "and cleared by two writes");
    /* software disable */
    apic_write(LVT_TIMER, 0xe0);
    apic_write(SVR, 0xff);
    equal(apic_read(LVT_TIMER), 0x100e0, "disabling by software masks the LVT");
    apic_write(LVT_TIMER, 0xe0);
    equal(apic_read(LVT_TIMER), 0x100e0, "and it stays masked");
    reset_counts();
    apic_ipi(0x40000 | 0xe0, 0);
    on();
    off();
    equal(count[0], 0, "no fixed interrupts while disabled");
    apic_write(SVR, 0x1ff);
    word cr8 = get_cr8();
    equal(cr8, 0, "CR8 at the end");
}

static volatile u32 isr_seen, ppr_seen;
void nested(struct frame *f)
{
    isr_seen = bit_of(ISR, 0x81);
    ppr_seen = apic_read(PPR);
    check(isr_seen == 1, "ISR has the vector that is served");
    equal(ppr_seen, 0x80, "PPR is its class");
    apic_ipi(0x40000 | 0x71, 0);
    on();
    equal(ordered, 0, "a lower class does not interrupt");
    apic_ipi(0x40000 | 0x91, 0);
    off();
    check(ordered == 0, "91 has a handler of its own");
    equal(count[0], 1, "a higher class interrupts");
    eoi();
}

static void nmi(void)
{
    section("NMI");
    handlers[NMI] = on_nmi;
    reset_counts();
    apic_ipi(0x4400, apic_id());
    asm volatile("nop");
    equal(nmis[0], 1, "to self, interrupts off");
    apic_ipi(0x4400 | 0x55, apic_id());
    equal(nmis[0], 2, "whatever the vector says");
}

static volatile u32 nmi_depth, nmi_most, nmi_total;
static void nmi_in_nmi(struct frame *f)
{
    nmi_total++;
    if (++nmi_depth > nmi_most)
        nmi_most = nmi_depth;
    if (nmi_total == 1)
        for (int n = 0; n < 10; n++)
            apic_ipi(0x4400, apic_id());
    nmi_depth--;
}

static void nmi_masking(void)
{
    for (int n = 0; n < 50; n++) {
        nmi_total = nmi_most = 0;
        handlers[NMI] = nmi_in_nmi;
        apic_ipi(0x4400, apic_id());
        for (int k = 0; k < 20; k++)
            relax();
        if (nmi_most != 1 || nmi_total < 2 || nmi_total > 3)
            break;
    }
    equal(nmi_most, 1, "an NMI waits until the handler of the last returns");
    check(nmi_total >= 2 && nmi_total <= 3, "several become one or two: %u", nmi_total);
    handlers[NMI] = on_nmi;
}

/* --- several processors */

static volatile u32 stop_loop;

static void wait_open(void *unused)
{
    on();
    while (!stop_loop)
        relax();
    off();
}

static void everybody(void (*code)(void *))
{
    stop_loop = 0;
    for (u32 n = 1; n < cpu_count(); n++)
        start_on(n, code, 0);
}

static void done(void)
{
    stop_loop = 1;
    for (u32 n = 1; n < cpu_count(); n++)
        wait_for(n);
}

static int total(u32 expected)
{
    u64 start = rdtsc();
    u32 sum, cpus = cpu_count();
    do {
        relax();
        sum = 0;
        for (u32 n = 0; n < cpus; n++)
            sum += count[n];
    } while (sum < expected && rdtsc() - start < 2000000000);
    for (int n = 0; n < 200; n++)
        relax();
    sum = 0;
    for (u32 n = 0; n < cpus; n++)
        sum += count[n];
    return sum == expected;
}

static void set_logical(void *unused)
{
    apic_write(DFR, 0xffffffff);
    apic_write(LDR, 0x01000000u << apic_id());
}

static void set_cluster(void *unused)
{
    apic_write(DFR, 0x0fffffff);
    apic_write(LDR, (0x10u | 1u << apic_id()) << 24);
}

static void to_x2apic(void *unused)
{
    use_x2apic();
}

static void to_xapic(void *unused)
{
    use_xapic();
}

static void others(void)
{
    u32 cpus = cpu_count(), all = (1u << cpus) - 1;
    section("between processors, xAPIC");
    everybody(wait_open);
    on();
    reset_counts();
    apic_ipi(0x40e0, 1);
    check(total(1) && count[1] == 1, "physical destination");
    reset_counts();
    apic_ipi(0xc40e0, 0);
    check(total(cpus - 1) && count[0] == 0, "all but self");
    reset_counts();
    apic_ipi(0x840e0, 0);
    check(total(cpus), "all");
    reset_counts();
    apic_ipi(0x40e0, 0xff);
    check(total(cpus), "physical broadcast ff");
    reset_counts();
    apic_ipi(0x40e0, 0x77);
    check(total(0), "an id that nobody has");
    reset_counts();
    apic_ipi(0x4400, 1);
    check(arrives(&nmis[1], 1), "NMI to another processor");
    apic_ipi(0xc4400, 0);
    check(arrives(&nmis[1], 2) && nmis[0] == 0, "NMI to all but self");
    done();
    off();
    for (u32 n = 0; n < cpus; n++)
        run_on(n, set_logical, 0);
    everybody(wait_open);
    on();
    reset_counts();
    apic_ipi(0x48e0, 2);
    check(total(1) && count[1] == 1, "logical, flat: one");
    reset_counts();
    apic_ipi(0x48e0, all);
    check(total(cpus), "logical, flat: all");
    reset_counts();
    apic_ipi(0x48e0, 0xff);
    check(total(cpus), "logical broadcast");
    reset_counts();
    apic_ipi(0x49e0, all);
    check(total(1), "lowest priority: one of them");
    reset_counts();
    apic_ipi(0x48e0, 0x80);
    check(total(0), "logical: nobody");
    done();
    off();
    for (u32 n = 0; n < cpus; n++)
        run_on(n, set_cluster, 0);
    everybody(wait_open);
    on();
    reset_counts();
    apic_ipi(0x48e0, 0x12);
    check(total(1) && count[1] == 1, "logical, cluster 1: one");
    reset_counts();
    apic_ipi(0x48e0, 0x22);
    check(total(0), "another cluster: nobody");
    done();
    off();
    section("between processors, x2APIC");
    for (u32 n = 0; n < cpus; n++)
        run_on(n, to_x2apic, 0);
    everybody(wait_open);
    on();
    reset_counts();
    apic_ipi(0x40e0, 1);
    check(total(1) && count[1] == 1, "physical destination");
    reset_counts();
    apic_ipi(0x40e0, 0xffffffff);
    check(total(cpus), "physical broadcast ffffffff");
    reset_counts();
    apic_ipi(0x40e0, 0xff);
    check(total(0), "ff is an id like another");
    reset_counts();
    apic_ipi(0x48e0, 3);
    check(total(2) && count[0] == 1 && count[1] == 1, "logical, cluster 0");
    reset_counts();
    apic_ipi(0xc40e0, 0);
    check(total(cpus - 1), "all but self");
    done();
    off();
    for (u32 n = 0; n < cpus; n++)
        run_on(n, to_xapic, 0);
}

static u32 id_1, first_1, x2_id_1, cpuid_b_1, changed_1, after_1;
static void ids_of_1(void *unused)
{
    id_1 = apic_id();
    first_1 = cpuid(1, 0).b >> 24;
    apic_write(0x20, (id_1 + 1) << 24);
    changed_1 = apic_id();
    use_x2apic();
    x2_id_1 = apic_id();
    cpuid_b_1 = cpuid(0xb, 0).d;
    use_xapic();
    after_1 = apic_id();
    if (after_1 != id_1)
        apic_write(0x20, id_1 << 24);
}

static void ids(void)
{
    section("ids");
    run_on(1, ids_of_1, 0);
    equal(id_1, 1, "xAPIC id of the second processor");
    equal(first_1, id_1, "CPUID leaf 1 has it");
    check(changed_1 == id_1 || changed_1 == id_1 + 1, "the xAPIC id may be writable");
    equal(x2_id_1, id_1, "x2APIC id");
    equal(cpuid_b_1, id_1, "CPUID leaf B has it");
    equal(after_1, id_1, "xAPIC id after the way through disabled");
    check(!(rdmsr(MSR_APIC_BASE) & 0) , "alive");
}

static volatile u32 base_1_low;
static void base_of_1(void *unused)
{
    base_1_low = (u32)rdmsr(MSR_APIC_BASE);
}

static void sti_nmi(void)
{
    /* An NMI may come between STI and the next instruction on some processors; it must not be lost. */
    section("NMI storm");
    everybody(wait_open);
    reset_counts();
    for (u32 n = 1; n <= 200; n++) {
        apic_ipi(0x4400, 1);
        if (!arrives(&nmis[1], n))
            break;
    }
    equal(nmis[1], 200, "200 NMIs one by one");
    done();
}

/* Two NMIs to the first processor, one from itself, one from the second: each is seen. */
static volatile u32 here, there, here_after, there_after, over, flushed;
static void flushing(struct frame *f)
{
    flushed = 1;
    eoi();
}
static void send_back(void *unused)
{
    while (!over) {
        ++there;
        while (there != here && !over)
            relax();
        if (over)
            return;
        apic_ipi(0x4400, 0);
        apic_ipi(0x4072, 0); /* an interrupt behind it tells that the NMI is there */
        ++there_after;
        while (there_after != here_after && !over)
            relax();
    }
}

static void two_nmis(void)
{
    u32 n;
    section("two NMIs at a time");
    handlers[0x72] = flushing;
    over = here = there = here_after = there_after = 0;
    start_on(1, send_back, 0);
    on();
    for (n = 0; n < 200; n++) {
        flushed = 0;
        reset_counts();
        ++here;
        while (there != here)
            relax();
        apic_ipi(0x4400, 0);
        while (!flushed)
            relax();
        if (nmis[0] != 2)
            break;
        ++here_after;
        while (there_after != here_after)
            relax();
    }
    equal(n, 200, "200 times two arrive");
    over = 1;
    wait_for(1);
    off();
}

static void timer(void)
{
    section("timer");
    reset_counts();
    apic_write(T_DIVIDE, 0xb);
    apic_write(LVT_TIMER, 0xe0);
    on();
    u64 start = rdtsc();
    apic_write(T_INITIAL, 0x10000);
    check(arrives(&count[0], 1), "one-shot");
    check(rdtsc() - start >= 0x10000, "not too early");
    equal(apic_read(T_CURRENT), 0, "the count is 0 then");
    equal(apic_read(T_INITIAL), 0x10000, "the initial count stays");
    reset_counts();
    apic_write(LVT_TIMER, 0x200e0);
    apic_write(T_INITIAL, 0x100000);
    u64 until = rdtsc() + 50000000;
    while (count[0] < 5 && rdtsc() < until)
        relax();
    check(count[0] >= 5, "periodic");
    apic_write(T_INITIAL, 0);
    u32 now = count[0];
    for (int n = 0; n < 3000; n++)
        relax();
    check(count[0] <= now + 1, "0 stops it");
    equal(apic_read(T_CURRENT), 0, "count 0 when stopped");
    off();
    apic_write(LVT_TIMER, 0x100e0);
    apic_write(T_INITIAL, 0x1000000);
    u32 a = apic_read(T_CURRENT), b;
    while ((b = apic_read(T_CURRENT)) == a)
        relax();
    check(b < a && a <= 0x1000000, "the count goes down");
    while (apic_read(T_CURRENT) > 0x800000)
        relax();
    apic_write(LVT_TIMER, 0x300e0);
    check(apic_read(T_CURRENT) <= 0x800000, "one-shot to periodic: it counts on");
    equal(apic_read(T_INITIAL), 0x1000000, "with the same initial count");
    u64 limit = rdtsc() + 2000000000;
    while ((b = apic_read(T_CURRENT)) <= 0x800000 && rdtsc() < limit)
        relax();
    check(b > 0x800000, "and starts again");
    apic_write(LVT_TIMER, 0x100e0);
    while (apic_read(T_CURRENT) && rdtsc() < limit)
        relax();
    equal(apic_read(T_CURRENT), 0, "periodic to one-shot: it ends");
    apic_write(T_INITIAL, 1000000);
    apic_write(T_DIVIDE, 0xa); /* by 128 */
    u64 from = rdtsc();
    a = apic_read(T_CURRENT);
    while (apic_read(T_CURRENT) > a - 1000 && apic_read(T_CURRENT))
        relax();
    check(rdtsc() - from > 50000, "divided by 128 it is slower");
    apic_write(T_INITIAL, 0);
    apic_write(T_DIVIDE, 0xb);

    section("TSC deadline");
    check(cpuid(1, 0).c >> 24 & 1, "CPUID");
    reset_counts();
    wrmsr(MSR_DEADLINE, rdtsc() + 1000);
    equal(rdmsr(MSR_DEADLINE), 0, "in another mode writes are dropped");
    apic_write(LVT_TIMER, 0x400e0);
    on();
    wrmsr(MSR_DEADLINE, rdtsc());
    asm volatile("nop");
    equal(count[0], 1, "a deadline of now: at once");
    equal(rdmsr(MSR_DEADLINE), 0, "and disarmed");
    u64 due = rdtsc() + 3000000;
    wrmsr(MSR_DEADLINE, due);
    equal(rdmsr(MSR_DEADLINE), due, "armed");
    check(arrives(&count[0], 2), "comes");
    check(rdtsc() >= due, "not too early");
    wrmsr(MSR_DEADLINE, rdtsc() + 3000000);
    wrmsr(MSR_DEADLINE, 0);
    u64 end = rdtsc() + 6000000;
    while (rdtsc() < end)
        relax();
    equal(count[0], 2, "0 disarms it");
    wrmsr(MSR_DEADLINE, rdtsc() + 100000000);
    apic_write(LVT_TIMER, 0xe0);
    equal(rdmsr(MSR_DEADLINE), 0, "leaving the mode disarms it");
    off();
    apic_write(LVT_TIMER, 0x10000);
}

static void halts(void)
{
    section("HLT");
    reset_counts();
    apic_write(LVT_TIMER, 0xe0);
    apic_write(T_INITIAL, 200000);
    asm volatile("sti; hlt; cli");
    equal(count[0], 1, "STI; HLT wakes by the timer");
    apic_ipi(0x40000 | 0xe0, 0);
    asm volatile("sti; hlt; cli");
    equal(count[0], 2, "a pending interrupt wakes HLT at once");
    apic_write(LVT_TIMER, 0x10000);
}

void test(void)
{
    handlers[0xe0] = handlers[0x91] = counting;
    handlers[0x61] = handlers[0x62] = handlers[0x71] = ordering;
    modes();
    x2apic_registers();
    self_and_priorities();
    nmi();
    nmi_masking();
    timer();
    halts();
    if (cpu_count() < 2) {
        skip("one processor only");
        return;
    }
    start_processors();
    run_on(1, base_of_1, 0);
    check(!(base_1_low & 0x100), "the second processor is not the bootstrap processor");
    ids();
    others();
    sti_nmi();
    two_nmis();
}
