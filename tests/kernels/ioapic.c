/* I/O APIC: registers, edges, levels, masks, remote IRR, destinations. Data sheet 290566. Four CPUs. */
#include "kernel.h"

#define PIN 14
#define TMR 0x180
#define IRR 0x200
#define LEVEL 0x8000u
#define MASKED 0x10000u
#define REMOTE_IRR 0x4000u
static volatile u32 *const select = (volatile u32 *)0xfec00000ul, *const window = (volatile u32 *)0xfec00010ul;

static u32 read(u32 index)
{
    *select = index;
    return *window;
}

static void write(u32 index, u32 v)
{
    *select = index;
    *window = v;
}

static void route(u32 pin, u32 low, u32 destination)
{
    write(0x10 + 2 * pin, MASKED);
    write(0x11 + 2 * pin, destination << 24);
    write(0x10 + 2 * pin, low);
}

static void line(u32 n, int level)
{
    out8(0x2000 + n, level);
}

static void pulse(u32 n)
{
    line(n, 1);
    line(n, 0);
}

static volatile u32 count, on_cpu[CPUS], order[8], ordered, tmr_seen, again;
static volatile word ip_of[8];

static void plain(struct frame *f)
{
    count++;
    __atomic_fetch_add(&on_cpu[apic_id() & 7], 1, __ATOMIC_SEQ_CST);
    eoi();
}

static void lowering(struct frame *f)
{
    __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&on_cpu[apic_id() & 7], 1, __ATOMIC_SEQ_CST);
    tmr_seen = apic_read(TMR + (f->vector >> 5) * 16) >> (f->vector & 31) & 1;
    line(PIN, 0);
    eoi();
}

static void noting(struct frame *f)
{
    ip_of[ordered & 7] = f->ip;
    order[ordered++ & 7] = f->vector;
    eoi();
}

static void second_time(struct frame *f)
{
    if (++count == 2)
        line(PIN, 0);
    eoi();
}

static void toggling(struct frame *f)
{
    if (++count == 1) {
        line(PIN, 0);
        line(PIN, 1);
    }
    line(PIN, 0);
    eoi();
}

static void masking(struct frame *f)
{
    count++;
    write(0x10 + 2 * PIN, read(0x10 + 2 * PIN) | MASKED);
    eoi();
}

static void redirecting(struct frame *f)
{
    count++;
    line(PIN, 0);
    write(0x11 + 2 * PIN, 1u << 24);
    eoi();
}

static void fresh(handler h, u32 vector)
{
    handlers[vector] = h;
    count = ordered = 0;
    for (int n = 0; n < CPUS; n++)
        on_cpu[n] = 0;
}

static void registers(void)
{
    section("registers");
    u32 version = read(1);
    equal(version >> 16 & 0xff, 23, "24 entries");
    write(1, ~version);
    equal(read(1), version, "version is read-only");
    u32 id = read(0);
    write(0, ~id);
    equal(read(0) ^ id, 0x0f000000, "of the id only bits 24 to 27 are writable");
    write(0, 0x05000000);
    equal(read(2), 0x05000000, "arbitration id follows the id");
    write(2, 0);
    equal(read(2), 0x05000000, "arbitration id is read-only");
    write(0, id);
    equal(read(0x10 + 2 * 5) & MASKED, MASKED, "entries start masked");
    write(0x10 + 2 * 5, 0x1ffff);
    equal(read(0x10 + 2 * 5), 0x1afff, "delivery status and remote IRR are read-only");
    write(0x11 + 2 * 5, 0xffffffff);
    equal(read(0x11 + 2 * 5), 0xff000000, "the high half has the destination only");
    write(0x10 + 2 * 5, MASKED);
    write(0x11 + 2 * 5, 0);
    equal(read(0x7f), 0, "a register that is none");
}

static void edges(void)
{
    section("edges");
    on();
    fresh(plain, 0x76);
    route(PIN, 0x76, 0);
    pulse(PIN);
    equal(count, 1, "one pulse, one interrupt");
    line(PIN, 1);
    line(PIN, 1);
    equal(count, 2, "a line that stays high is one edge");
    line(PIN, 0);
    equal(count, 2, "falling is none");
    fresh(noting, 0x78);
    handlers[0x66] = noting;
    route(PIN, 0x78, 0);
    route(PIN + 1, 0x66, 0);
    off();
    pulse(PIN + 1);
    pulse(PIN);
    on();
    asm volatile("nop");
    check(ordered == 2 && order[0] == 0x78 && order[1] == 0x66 && ip_of[0] == ip_of[1], "two at once: the higher vector first, the other right behind");
    route(PIN + 1, MASKED, 0);
    fresh(lowering, 0x81);
    route(PIN, 0x81 | MASKED, 0);
    pulse(PIN);
    equal(count, 0, "masked");
    write(0x10 + 2 * PIN, 0x81);
    equal(count, 0, "unmasked: the edge is lost");
    line(PIN, 1);
    equal(count, 1, "the next one comes");
    off();
}

static void levels(void)
{
    section("levels");
    on();
    fresh(lowering, 0x77);
    route(PIN, 0x77 | LEVEL, 0);
    line(PIN, 1);
    equal(count, 1, "one level, one interrupt");
    fresh(toggling, 0x98);
    route(PIN, 0x98 | LEVEL, 0);
    line(PIN, 1);
    equal(count, 1, "what happens before EOI is one");
    fresh(lowering, 0x99);
    route(PIN, 0x99 | LEVEL, 0);
    line(PIN, 1);
    line(PIN, 1);
    equal(count, 2, "raised again after EOI: two");
    fresh(second_time, 0x9a);
    route(PIN, 0x9a | LEVEL, 0);
    off();
    line(PIN, 1);
    for (int n = 0; n < 10 && count < 2; n++)
        asm volatile("sti; hlt; cli");
    equal(count, 2, "still high at EOI: again, and HLT wakes");
    on();
    fresh(lowering, 0x82);
    route(PIN, 0x82 | LEVEL | MASKED, 0);
    line(PIN, 1);
    equal(count, 0, "masked");
    write(0x10 + 2 * PIN, 0x82 | LEVEL);
    equal(count, 1, "unmasked while high: now");
    fresh(masking, 0x83);
    route(PIN, 0x83 | LEVEL, 0);
    line(PIN, 1);
    equal(count, 1, "the handler masks, high");
    equal(read(0x10 + 2 * PIN) & REMOTE_IRR, 0, "its EOI clears remote IRR");
    write(0x10 + 2 * PIN, 0x83 | LEVEL);
    equal(count, 2, "unmasked: again");
    line(PIN, 0);
    off();
    fresh(lowering, 0x85);
    route(PIN, 0x85 | LEVEL, 0);
    line(PIN, 1);
    equal(read(0x10 + 2 * PIN) & REMOTE_IRR, REMOTE_IRR, "remote IRR while it waits");
    on();
    asm volatile("nop");
    equal(read(0x10 + 2 * PIN) & REMOTE_IRR, 0, "and not after EOI");
    off();
}

static void trigger_modes(void)
{
    section("TMR");
    on();
    fresh(lowering, 0x79);
    route(PIN, 0x79, 0);
    pulse(PIN);
    check(count == 1 && !tmr_seen, "an edge leaves the bit clear");
    route(PIN, 0x79 | LEVEL, 0);
    line(PIN, 1);
    check(count == 2 && tmr_seen, "a level sets it");
    route(PIN, 0x79, 0);
    pulse(PIN);
    check(count == 3 && !tmr_seen, "and an edge clears it");
    fresh(redirecting, 0x84);
    route(PIN, 0x84 | LEVEL, 0);
    line(PIN, 1);
    check(count == 1 && !(read(0x10 + 2 * PIN) & REMOTE_IRR), "redirected while it is served: EOI finds it");
    route(PIN, MASKED, 0);
    off();
}

static volatile u32 stop_loop;
static void wait_open(void *unused)
{
    on();
    while (!stop_loop)
        relax();
    off();
}

static void pulse_here(void *unused)
{
    off();
    pulse(PIN);
    on();
}

static void logical(void *unused)
{
    apic_write(0xe0, 0xffffffff);
    apic_write(0xd0, 0x01000000u << apic_id());
}

static void x2(void *unused)
{
    use_x2apic();
}

static int reaches(u32 wanted)
{
    u64 start = rdtsc();
    while (count < wanted && rdtsc() - start < 1000000000)
        relax();
    for (int n = 0; n < 200; n++)
        relax();
    return count == wanted;
}

static void destinations(void)
{
    u32 cpus = cpu_count();
    section("destinations");
    for (u32 n = 0; n < cpus; n++)
        run_on(n, logical, 0);
    stop_loop = 0;
    for (u32 n = 1; n < cpus; n++)
        start_on(n, wait_open, 0);
    on();
    fresh(lowering, 0x85);
    route(PIN, 0x85 | LEVEL, 1);
    line(PIN, 1);
    check(reaches(1) && on_cpu[1] == 1, "physical");
    fresh(lowering, 0x85);
    route(PIN, 0x85 | 0x800 | LEVEL, 2);
    line(PIN, 1);
    check(reaches(1) && on_cpu[1] == 1, "logical: one");
    if (cpus >= 4) {
        fresh(lowering, 0x86);
        route(PIN, 0x86 | 0x800 | LEVEL, 0xd);
        line(PIN, 1);
        check(reaches(3) && on_cpu[0] == 1 && on_cpu[2] == 1 && on_cpu[3] == 1, "logical: three");
    }
    fresh(lowering, 0x85);
    route(PIN, 0x85 | 0x100 | 0x800, 0xff);
    line(PIN, 1);
    check(reaches(1), "lowest priority: one of all");
    stop_loop = 1;
    for (u32 n = 1; n < cpus; n++)
        wait_for(n);
    fresh(lowering, 0x79);
    route(PIN, 0x79, 0);
    start_on(1, pulse_here, 0);
    while (!count)
        ; /* no PAUSE */
    check(count == 1, "another processor raises the line");
    wait_for(1);
    off();
    section("x2APIC processors");
    for (u32 n = 0; n < cpus; n++)
        run_on(n, x2, 0);
    stop_loop = 0;
    for (u32 n = 1; n < cpus; n++)
        start_on(n, wait_open, 0);
    on();
    fresh(lowering, 0x85);
    route(PIN, 0x85 | LEVEL, 1);
    line(PIN, 1);
    check(reaches(1) && on_cpu[1] == 1, "physical");
    fresh(lowering, 0x86);
    route(PIN, 0x86 | 0x800 | LEVEL, 3);
    line(PIN, 1);
    check(reaches(2) && on_cpu[0] == 1 && on_cpu[1] == 1, "logical");
    equal(read(0x10 + 2 * PIN) & REMOTE_IRR, 0, "EOI by MSR clears remote IRR");
    route(PIN, MASKED, 0);
    stop_loop = 1;
    for (u32 n = 1; n < cpus; n++)
        wait_for(n);
    off();
}

static void nmi_seen(struct frame *f)
{
    again++;
}

static void other_modes(void)
{
    section("other delivery modes");
    handlers[NMI] = nmi_seen;
    again = 0;
    route(PIN, 0x400, 0);
    pulse(PIN);
    asm volatile("nop");
    equal(again, 1, "NMI");
    /* the 8259 by LINT0, and by an ExtINT entry: IRQ 1 of the board, which is also pin 1 */
    route(PIN, MASKED, 0);
    static const u8 icw[][2] = {{0x20, 0x11}, {0x21, 0x30}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11}, {0xa1, 0x38}, {0xa1, 2}, {0xa1, 1}};
    for (u32 n = 0; n < 8; n++)
        out8(icw[n][0], icw[n][1]);
    out8(0x21, 0xfd);
    out8(0xa1, 0xff);
    fresh(noting, 0x31);
    apic_write(0x350, 0x700); /* LINT0: ExtINT */
    pulse(1);
    line(1, 1);
    on();
    asm volatile("nop");
    equal(ordered, 1, "the 8259 through LINT0");
    line(1, 0);
    off();
    out8(0x20, 0x20);
    apic_write(0x350, 0x10700);
    line(1, 1);
    on();
    asm volatile("nop");
    equal(ordered, 1, "LINT0 masked: not");
    off();
    line(1, 0);
    out8(0x21, 0xff);
    apic_write(0x350, 0x10000);
}

void test(void)
{
    registers();
    edges();
    levels();
    trigger_modes();
    other_modes();
    if (cpu_count() < 2) {
        skip("one processor only");
        return;
    }
    start_processors();
    destinations();
}
