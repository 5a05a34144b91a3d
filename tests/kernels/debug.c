/* Single-step, breakpoints, INT1, MOV SS and STI shadows (SDM Vol. 3B, 18.2 and 18.3; Vol. 3A, 6.8.3). */
#include "kernel.h"

#define DR6_FIXED 0xffff0ff0ul
#define BD 0x2000ul
#define BS 0x4000ul
#define MOST 12

static volatile u32 hits;
static volatile word at[MOST], dr6[MOST], cs[MOST];

static void on_debug(struct frame *f)
{
    if (hits < MOST) {
        at[hits] = f->ip;
        dr6[hits] = get_dr6();
        cs[hits] = f->cs;
    }
    if (get_dr6() & 15)
        f->flags |= F_RF; /* an instruction breakpoint would hit again */
    if (++hits >= MOST) {
        f->flags &= ~F_TF;
        set_dr7(0x400);
    }
}

static void begin(void)
{
    hits = 0;
    set_dr6(0);
}

/* Each of these sets TF, runs some instructions, clears TF; value: address of label 1. */
static word basic(word v)
{
    word start;
    asm volatile("pushf; pop %%rax; or $0x100, %%eax; push %%rax; popf\n"
                 "and $~0x100, %%eax\n"
                 "1: push %%rax; popf; lea 1b(%%rip), %0" : "=r"(start) : : "rax", "memory", "cc");
    return start;
}

static word emulated(word v)
{
    word start;
    asm volatile("pushf; pop %%rax; or $0x100, %%eax; push %%rax; popf\n"
                 "and $~0x100, %%eax\n"
                 "1: push %%rax\n" /* 1 byte */
                 "xor %%eax, %%eax\n" /* 2 */
                 "cpuid\n" /* 2 */
                 "mov $0x3fd, %%edx\n" /* 5 */
                 "in %%dx, %%al\n" /* 1 */
                 "popf; lea 1b(%%rip), %0" : "=r"(start) : : "rax", "rbx", "rcx", "rdx", "memory", "cc");
    return start;
}

static word after_sti(word v)
{
    word start;
    asm volatile("cli; pushf; pop %%rax; or $0x100, %%eax; push %%rax; popf\n"
                 "sti\n"
                 "1: and $~0x100, %%eax\n" /* 5 */
                 "push %%rax; popf; lea 1b(%%rip), %0" : "=r"(start) : : "rax", "memory", "cc");
    return start;
}

static word after_mov_ss(word v)
{
    word start;
    asm volatile("pushf; pop %%rax; or $0x100, %%eax; push %%rax; mov %%ss, %%ecx; popf\n"
                 "mov %%ecx, %%ss\n"
                 "and $~0x100, %%eax\n"
                 "1: push %%rax; popf; lea 1b(%%rip), %0" : "=r"(start) : : "rax", "rcx", "memory", "cc");
    return start;
}

static word after_pop_ss_like(word v)
{
    /* two MOV SS in a row: only the first one's shadow counts on some processors; both forms end somewhere */
    word start;
    asm volatile("pushf; pop %%rax; or $0x100, %%eax; push %%rax; mov %%ss, %%ecx; popf\n"
                 "mov %%ecx, %%ss\n"
                 ".byte 0xf1\n"
                 "1: .byte 0xf1\n"
                 "and $~0x100, %%eax\n" /* 5 */
                 "push %%rax; popf; lea 1b(%%rip), %0" : "=r"(start) : : "rax", "rcx", "memory", "cc");
    return start;
}

static word general_detect(void)
{
    word start;
    set_dr7(0x2400);
    asm volatile("xor %%edx, %%edx; pushf; pop %%rax; or $0x100, %%eax; push %%rax; mov %%ss, %%ecx; popf\n"
                 "mov %%ecx, %%ss\n"
                 "1: mov %%rdx, %%db6\n" /* 3 */
                 "and $~0x100, %%eax\n" /* 5 */
                 "push %%rax; popf; lea 1b(%%rip), %0" : "=r"(start) : : "rax", "rcx", "rdx", "memory", "cc");
    return start;
}

static void steps(const char *who, u32 count, word start, const u8 *lengths, const char *what)
{
    int good = hits == count;
    word expected = start;
    for (u32 n = 0; n < count; n++) {
        good = good && at[n] == expected && dr6[n] == (DR6_FIXED | BS);
        expected += lengths[n];
    }
    check(good, "%s%s", who, what);
    if (!good)
        for (u32 n = 0; n < hits && n < MOST; n++)
            print("    hit %u at +%x, DR6 %x\n", n, at[n] - start, dr6[n]);
}

static void both(word (*code)(word), u32 count, const u8 *lengths, const char *what)
{
    begin();
    word start = code(0);
    steps("", count, start, lengths, what);
    begin();
    ring3_flags = 2 | F_IOPL;
    in_ring3(code, 0);
    ring3_flags = 2;
    steps("ring 3: ", count, start, lengths, what);
}

static void single_step(void)
{
    static const u8 l_basic[] = {1, 1, 0}, l_emulated[] = {1, 2, 2, 5, 1, 1, 0}, l_sti[] = {5, 1, 1, 0};
    section("single-step");
    both(basic, 3, l_basic, "three steps");
    both(emulated, 7, l_emulated, "CPUID, IN");
    both(after_sti, 4, l_sti, "STI does not delay it");
    both(after_mov_ss, 3, l_basic, "MOV SS delays it by one instruction");

    for (int user = 0; user < 2; user++) {
        begin();
        word start = after_pop_ss_like(0);
        if (user) {
            begin();
            ring3_flags = 2 | F_IOPL;
            in_ring3(after_pop_ss_like, 0);
            ring3_flags = 2;
        }
        int good = hits == 5 && at[0] == start && dr6[0] == DR6_FIXED && at[1] == start + 1 && dr6[1] == DR6_FIXED
                   && at[2] == start + 6 && dr6[2] == (DR6_FIXED | BS) && at[3] == start + 7 && at[4] == start + 8;
        check(good, "INT1 under TF, the first behind MOV SS%s", user ? " (ring 3)" : "");
        if (!good)
            for (u32 n = 0; n < hits && n < MOST; n++)
                print("    hit %u at +%x, DR6 %x\n", n, at[n] - start, dr6[n]);
    }

    begin();
    word start = general_detect();
    int good = hits == 5 && at[0] == start && dr6[0] == (DR6_FIXED | BD) && at[1] == start + 3
               && dr6[1] == (DR6_FIXED | BS) && at[2] == start + 8 && at[3] == start + 9 && at[4] == start + 10;
    check(good, "DR7.GD behind MOV SS under TF");
    if (!good)
        for (u32 n = 0; n < hits && n < MOST; n++)
            print("    hit %u at +%x, DR6 %x\n", n, at[n] - start, dr6[n]);
    equal(get_dr7(), 0x400, "GD is cleared on the way");
}

static void on_timer(struct frame *f)
{
    eoi();
}

static void halted(void)
{
    word start;
    handlers[0xe1] = on_timer;
    apic_write(0x320, 0xe1);
    apic_write(0x3e0, 0xb);
    begin();
    apic_write(0x380, 1000000);
    asm volatile("cli; pushf; pop %%rax; or $0x100, %%eax; push %%rax; popf\n"
                 "sti\n"
                 "1: hlt\n"
                 "and $~0x100, %%eax\n"
                 "push %%rax; popf; lea 1b(%%rip), %0; cli" : "=r"(start) : : "rax", "memory", "cc");
    static const u8 lengths[] = {1, 5, 1, 1, 0};
    steps("", 5, start, lengths, "STI; HLT under TF");
    off();
    for (volatile int n = 0; n < 100000 && apic_read(0x390); n++)
        ;
    on();
    off();
}

static void strings(void)
{
    static u8 from[8] = "abcdefg", to[8];
    word start;
    begin();
    asm volatile("mov $3, %%ecx; mov $from_, %%esi; mov $to_, %%edi; pushf; pop %%rax; or $0x100, %%eax; push %%rax; popf\n"
                 "1: rep movsb\n" /* 2 */
                 "and $~0x100, %%eax; push %%rax; popf; lea 1b(%%rip), %0\n"
                 ".set from_, %c1; .set to_, %c2" : "=r"(start) : "i"(from), "i"(to)
                 : "rax", "rcx", "rsi", "rdi", "memory", "cc");
    int good = hits == 6 && at[0] == start && at[1] == start && at[2] == start + 2 && at[3] == start + 7;
    check(good, "a step after each REP iteration");
    if (!good)
        for (u32 n = 0; n < hits && n < MOST; n++)
            print("    hit %u at +%x, DR6 %x\n", n, at[n] - start, dr6[n]);
}

static volatile word value, other;

static void breakpoints(void)
{
    extern char bp1[], bp2[], wp1[], wp2[], wp3[], icebp[], io1[];
    section("breakpoints");
    begin();
    set_dr2((word)bp1);
    set_dr7(0x420); /* G2, execution */
    asm volatile("bp1: nop");
    check(hits == 1 && at[0] == (word)bp1 && dr6[0] == (DR6_FIXED | 4), "execution");
    begin();
    set_dr2((word)bp2);
    set_dr6(BS | 2);
    asm volatile("bp2: nop");
    check(hits == 1 && at[0] == (word)bp2 && dr6[0] == (DR6_FIXED | BS | 4), "hit bits are replaced, BS stays");
    set_dr7(0x400);

    begin();
    set_dr1((word)&value);
    set_dr6(BS);
    set_dr7(0x00d0040a | 0x400); /* 4 bytes, writes */
    asm volatile("mov $42, %%rax; mov %%rax, %0; wp1:" : "=m"(value) : : "rax");
    check(hits == 1 && at[0] == (word)wp1 && dr6[0] == (DR6_FIXED | BS | 2), "write; BS that was set stays");
    begin();
    asm volatile("mov $42, %%rax; mov %%rax, %0; wp2:" : "=m"(value) : : "rax");
    check(hits == 1 && at[0] == (word)wp2 && dr6[0] == (DR6_FIXED | 2), "write; BS is not set");
    begin();
    word seen = value;
    equal(hits, 0, "a read does not hit it");
    set_dr7(0x00f0040a | 0x400); /* 4 bytes, reads and writes */
    begin();
    asm volatile("mov %1, %0; wp3:" : "=r"(seen) : "m"(value));
    check(hits == 1 && at[0] == (word)wp3, "read");
    begin();
    asm volatile("mov %%eax, 4+%0" : "=m"(value) : : );
    equal(hits, 0, "just above: none");
    asm volatile("movw %%ax, -1+%0" : "=m"(value) : : );
    equal(hits, 1, "a word that reaches in hits");
    begin();
    value = 0;
    other = 0;
    asm volatile("cld; mov $2, %%ecx; rep stosq" : : "D"(&value), "a"(0ul) : "rcx", "memory");
    check(hits >= 1, "string stores hit");
    set_dr7(0x400);

    begin();
    asm volatile(".byte 0xf1; icebp:");
    check(hits == 1 && at[0] == (word)icebp && dr6[0] == DR6_FIXED, "INT1 leaves DR6 alone");

    /* I/O breakpoint */
    set_cr4(get_cr4() | CR4_DE);
    begin();
    set_dr3(0xe0);
    set_dr7(0x400 | 0x80 | 2ul << 28); /* G3, I/O, 1 byte */
    asm volatile("out %%al, $0xe0; io1:" : : : "memory");
    check(hits == 1 && at[0] == (word)io1 && dr6[0] == (DR6_FIXED | 8), "I/O");
    set_dr7(0x400);
    set_cr4(get_cr4() & ~CR4_DE);

    /* an execution breakpoint behind MOV SS is lost, a data breakpoint of MOV SS is kept */
    extern char shadowed[];
    begin();
    set_dr0((word)shadowed);
    set_dr7(0x402);
    asm volatile("mov %%ss, %%ecx; mov %%ecx, %%ss; shadowed: nop; shadowed_end: nop" : : : "rcx");
    check(hits <= 1, "an execution breakpoint behind MOV SS");
    set_dr7(0x400);
    value = DATA0;
    set_dr1((word)&value);
    set_dr7(0x00f0040a | 0x400);
    begin();
    extern char behind[];
    asm volatile("mov %0, %%ss; nop; behind: nop" : : "m"(value));
    check(hits == 1 && at[0] == (word)behind && dr6[0] == (DR6_FIXED | 2), "a data breakpoint of MOV SS comes one instruction later");
    set_dr7(0x400);
}

/* MOV SS from a watched word, and then an instruction that raises by itself. */
static volatile word saved_count, saved_ip[4];
extern void count_ip(void);
asm("count_ip:\n"
    "    push %rax; push %rcx\n"
    "    mov saved_count, %rcx; mov 16(%rsp), %rax; mov %rax, saved_ip(, %rcx, 8)\n"
    "    incq saved_count\n"
    "    pop %rcx; pop %rax\n"
    "    iretq\n");

static void shadows(void)
{
    extern char s_icebp[];
    section("MOV SS with a data breakpoint");
    value = DATA0;
    set_dr1((word)&value);
    set_dr7(0x00f0040a | 0x400);
    gate(DB, count_ip, 0, INTERRUPT_GATE, 0);
    gate(BP, count_ip, 3, INTERRUPT_GATE, 0);
    gate(0x60, count_ip, 3, INTERRUPT_GATE, 0);
    saved_count = 0;
    asm volatile("mov %0, %%ss; .byte 0xf1; s_icebp:" : : "m"(value) : "memory");
    equal(saved_count, 1, "then INT1: one #DB");
    equal(saved_ip[0], (word)s_icebp, "behind it");
    saved_count = 0;
    asm volatile("mov %0, %%ss; int3; s_int3:" : : "m"(value) : "memory");
    check(saved_count >= 1 && saved_count <= 2, "then INT3: the #BP, and perhaps the #DB");
    print("    INT3: %u deliveries\n", (u32)saved_count);
    saved_count = 0;
    asm volatile("mov %0, %%ss; int $0x60; s_int:" : : "m"(value) : "memory");
    check(saved_count >= 1 && saved_count <= 2, "then INT n: the interrupt, and perhaps the #DB");
    print("    INT n: %u deliveries\n", (u32)saved_count);
    set_dr7(0x400);
    restore_gate(DB);
    restore_gate(BP);
    restore_gate(0x60);
}

static void registers(void)
{
    section("registers");
    set_cr4(get_cr4() & ~CR4_DE);
    set_dr6(BS | 2);
    word v = 0;
    equal(ATTEMPT("mov %%db4, %0", OUTS("=r"(v)), NONE), NOTHING, "DR4 without DE");
    equal(v, DR6_FIXED | BS | 2, "is DR6");
    equal(ATTEMPT("mov %%db5, %0", OUTS("=r"(v)), NONE), NOTHING, "DR5 without DE");
    equal(v, 0x400, "is DR7");
    set_cr4(get_cr4() | CR4_DE);
    equal(ATTEMPT("mov %%db4, %0", OUTS("=r"(v)), NONE), UD, "DR4 with DE");
    equal(ATTEMPT("mov %0, %%db5", NONE, INS("r"(0x400ul))), UD, "DR5 with DE");
    set_cr4(get_cr4() & ~CR4_DE);
    set_dr6(0);
    equal(get_dr6(), DR6_FIXED, "DR6 written with 0");
    set_dr6(0xffffffff);
    equal(get_dr6() & 0xffff0ff0, DR6_FIXED, "DR6 written with ones: the fixed ones");
    set_dr6(0);
    set_dr7(0);
    equal(get_dr7(), 0x400, "DR7 written with 0");
    set_dr0(0xffffffffffffffff);
    equal(get_dr0(), 0xffffffffffffffff, "DR0 takes 64 bits");
    set_dr0(0);
    equal(ATTEMPT("mov %%db8, %%rax", NONE, NONE, "rax"), UD, "DR8");
    set_dr7(0x2400);
    equal(ATTEMPT("mov %%db0, %%rax", NONE, NONE, "rax"), NOTHING, "general detect goes to the handler");
}

static void locked(void)
{
    /* a locked access across cache lines: neither #AC nor #DB, since neither is enabled */
    static u8 lines[128] __attribute__((aligned(64)));
    section("split locks");
    begin();
    equal(ATTEMPT("lock; cmpxchgq %1, (%0)", NONE, INS("r"(lines + 60), "r"(0x1122334455667788), "a"(0ul))), NOTHING, "locked access across cache lines");
    equal(*(u64 *)(lines + 60), 0x1122334455667788, "it is done");
    equal(hits, 0, "no #DB");
}

void test(void)
{
    handlers[DB] = on_debug;
    registers();
    begin();
    set_dr7(0x400);
    breakpoints();
    single_step();
    strings();
    halted();
    shadows();
    locked();
}
