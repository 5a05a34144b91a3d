/* Events that meet other events: faults while delivering, NMIs, shadows, stacks that are not there (both widths). */
#include "kernel.h"

extern u8 idt[];
#ifdef __x86_64__
#define IDT_ENTRY 16
#define SP "rsp"
#else
#define IDT_ENTRY 8
#define SP "esp"
#endif

static volatile u32 ran[256], sequence[16], at;
static volatile word divisor, ips[16];

static void note(struct frame *f)
{
    ran[f->vector]++;
    if (at < 16) {
        ips[at] = f->ip;
        sequence[at++] = f->vector;
    }
    if (f->vector >= 32)
        eoi();
}

static void mend_divisor(struct frame *f)
{
    note(f);
    divisor = 10;
}

static void fresh(void)
{
    clear((void *)ran, sizeof ran);
    at = 0;
}

static void self(u32 vector)
{
    apic_ipi(0x44000 | vector, 0);
}

static void plain(void)
{
    u32 a = 1500, d = 0;
    section("one event");
    fresh();
    divisor = 0;
    asm volatile("divl %2" : "+a"(a), "+d"(d) : "m"(divisor) : "cc");
    check(a == 150 && ran[DE] == 1, "#DE: the handler mends, the instruction runs again");
    fresh();
    handlers[BP] = note;
    asm volatile("int $3" : : : "memory");
    equal(ran[BP], 1, "INT 3");
    asm volatile(".byte 0xcd, 3" : : : "memory");
    equal(ran[BP], 2, "INT n with 3");
    handlers[BP] = 0;
#ifndef __x86_64__
    fresh();
    handlers[OF] = note;
    u8 sum = 127;
    asm volatile("addb $127, %0; into" : "+q"(sum) : : "cc", "memory");
    equal(ran[OF], 1, "INTO");
    asm volatile("addb $1, %0; addr16 into" : "+q"(sum) : : "cc", "memory");
    equal(ran[OF], 1, "INTO without overflow");
    sum = 127;
    asm volatile("addb $127, %0; addr16 into" : "+q"(sum) : : "cc", "memory");
    equal(ran[OF], 2, "INTO of two bytes");
    handlers[OF] = 0;
#endif
    fresh();
    on();
    self(33);
    off();
    equal(ran[33], 1, "self IPI");
    asm volatile("int $33" : : : "memory");
    equal(ran[33], 2, "INT 33");
}

static void order(void)
{
    section("several");
    fresh();
    self(32);
    self(49);
    on();
    off();
    check(ran[32] == 1 && ran[49] == 1 && sequence[0] == 49 && ips[0] == ips[1], "two interrupts: the higher class first");
    fresh();
    self(32);
    asm volatile("sti; int $33; cli" : : : "memory");
    check(at == 2 && sequence[0] == 33 && sequence[1] == 32, "INT n in the shadow of STI comes before the interrupt");
    fresh();
    self(32);
    asm volatile("sti; cli" : : : "memory");
    equal(ran[32], 0, "STI; CLI opens nothing");
    on();
    off();
    equal(ran[32], 1, "it is still there");
    fresh();
    self(32);
    word ss = DATA0;

    asm volatile("sti; mov %0, %%ss; nop; after_shadow: nop; cli" : : "r"(ss) : "memory");
    check(ran[32] == 1, "MOV SS after STI");
    fresh();
    apic_write(0x80, 0xf0);
    on();
    self(32);
    self(62);
    equal(at, 0, "TPR f holds both back");
    apic_write(0x80, 0x20);
    check(at == 1 && sequence[0] == 62, "TPR 2 lets the higher class go");
    apic_write(0x80, 0);
    check(at == 2 && sequence[1] == 32, "TPR 0 the other");
    off();
}

static u64 *slot(int vector)
{
    return (u64 *)(idt + IDT_ENTRY * vector);
}

static void mend_gate(struct frame *f)
{
    note(f);
    *slot(33) = (*slot(33) & ~0xffff0000ull) | (u64)CODE0 << 16;
}

static void faults(void)
{
    section("faults of the delivery");
    fresh();
    handlers[NP] = mend_gate;
    *slot(33) = (*slot(33) & ~0xffff0000ull) | (u64)ABSENT << 16;
    asm volatile("int $33" : : : "memory");
    check(ran[NP] == 1 && ran[33] == 1, "#NP of INT n: mended, again");
    fresh();
    *slot(33) = (*slot(33) & ~0xffff0000ull) | (u64)ABSENT << 16;
    on();
    self(33);
    off();
    handlers[NP] = 0;
    check(ran[NP] == 1, "#NP of an interrupt");
    equal(ran[33], 0, "which was acknowledged, and is gone");
    eoi(); /* it is in service */
    fresh();
    on();
    self(33);
    off();
    equal(ran[33], 1, "after EOI the next one comes");
}

extern char iret_ip[];
static void nested(struct frame *f)
{
    note(f);
}
static void on_nmi(struct frame *f)
{
    note(f);
    handlers[NMI] = nested;
    apic_ipi(0x4400, 0);
    asm volatile("nop");
    if (ran[NMI] != 1)
        note(f);
}

static volatile word nested_sp;
static void on_nmi_iret(struct frame *f)
{
    note(f);
    handlers[NMI] = nested;
    apic_ipi(0x4400, 0);
    /* an IRET of our own, on another stack: it opens the way for the second NMI */
    u8 *other = page();
#ifdef __x86_64__
    asm volatile("mov %%rsp, %%rdx; mov %0, %%rsp; push $0x10; push %%rdx; pushf; push $8; push $nmi_back; iretq; nmi_back: nop"
                 : : "r"(other + 2048) : "rdx", "memory");
#else
    asm volatile("mov %%esp, %%edx; mov %0, %%esp; pushf; push $8; push $nmi_back; iret; nmi_back: mov %%edx, %%esp"
                 : : "r"(other + 2048) : "edx", "memory");
#endif
    extern char nmi_back[];
    nested_sp = (word)nmi_back;
}

static void nmis(void)
{
    section("NMI");
    fresh();
    handlers[NMI] = on_nmi;
    apic_ipi(0x4400, 0);
    asm volatile("nop");
    equal(ran[NMI], 2, "a second NMI waits for IRET");
    fresh();
    handlers[NMI] = on_nmi_iret;
    apic_ipi(0x4400, 0);
    asm volatile("nop");
    check(ran[NMI] == 2 && ips[1] == nested_sp, "any IRET ends the masking");
    fresh();
    handlers[NMI] = note;
    on();
    self(32);
    apic_ipi(0x4400, 0);
    off();
    check(ran[32] == 1 && ran[NMI] == 1, "NMI and interrupt");
    handlers[NMI] = 0;
    /* an exception inside the NMI handler: its IRET ends the masking, too */
}

#ifdef __x86_64__
static u8 *stack_page;
static word stack_at = 0x7000000000;

static void mend_stack(struct frame *f)
{
    note(f);
    map(stack_at, (word)stack_page | P_P | P_W | P_U);
}

static void stacks(void)
{
    section("stacks that are not there");
    u32 a = 1500, d = 0;
    stack_page = page();
    handlers[PF] = mend_stack;
    gate(PF, stubs + STUB_SIZE * PF, 0, INTERRUPT_GATE, 1);
    map(stack_at, (word)stack_page | P_P | P_U);
    fresh();
    divisor = 0;
    asm volatile("mov %%rsp, %%rbx; mov %3, %%rsp; divl %2; mov %%rbx, %%rsp"
                 : "+a"(a), "+d"(d) : "m"(divisor), "r"(stack_at + 4080) : "rbx", "cc", "memory");
    check(a == 150, "#DE on a read-only stack: #PF, mended");
    check(ran[PF] == 1 && ran[DE] == 1 && sequence[0] == PF, "the #PF first, then #DE");
    map(stack_at, 0);
    fresh();
    asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; int $33; mov %%rbx, %%rsp" : : "r"(stack_at + 4080) : "rbx", "memory");
    check(ran[PF] == 1 && ran[33] == 1 && sequence[0] == PF && sequence[1] == 33, "INT 33 on an absent stack");
    map(stack_at, 0);
    fresh();
    self(33);
    asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; sti; nop; cli; mov %%rbx, %%rsp" : : "r"(stack_at + 4080) : "rbx", "memory");
    check(ran[PF] == 1, "an interrupt on an absent stack");
    if (!ran[33])
        eoi();
    handlers[PF] = 0;
    restore_gate(PF);
    /* the stack of a double fault */

    handlers[DF] = 0;
    gate(DF, stubs + STUB_SIZE * DF, 0, INTERRUPT_GATE, 1);
    map(stack_at, 0);
    caught.vector = NOTHING;
    asm volatile("mov %%rsp, %%rbx; movq $9f, caught; mov %0, %%rsp; push %%rax; 9: mov %%rbx, %%rsp; movq $0, caught" : : "r"(stack_at + 4080) : "rbx", "memory");
    equal(caught.vector, DF, "#PF on an absent stack is #DF");
    equal(caught.error, 0, "error code 0");
    restore_gate(DF);
    /* IDT read faults */
    struct table full, far;
    asm volatile("sidt %0" : "=m"(full));
    u8 *copy_of_idt = page();
    copy(copy_of_idt, idt, 4096);
    map(0x7100000000, (word)copy_of_idt | P_P);
    map(0x7100001000, 0);
    far = full;
    far.base = 0x7100000ff0 - 16 * 0x30;
    copy(copy_of_idt + 0xff0 - 16 * 0x30, idt, 16 * 0x31);
    asm volatile("lidt %0" : : "m"(far));
    caught.vector = NOTHING;
    u32 vector = ATTEMPT("int $0x30", NONE, NONE);
    u32 second = ATTEMPT("int $0x31", NONE, NONE);
    word error = caught.error, address = caught.address;
    asm volatile("lidt %0" : : "m"(full));
    equal(vector, 0x30, "an IDT in another page");
    equal(second, PF, "its second page absent: #PF");
    equal(error, 0, "a supervisor read");
    equal(address, 0x7100001000, "CR2 is the descriptor");
}
#endif

void test(void)
{
    handlers[DE] = mend_divisor;
    handlers[32] = handlers[33] = handlers[49] = handlers[62] = note;
    plain();
    order();
    faults();
    nmis();
#ifdef __x86_64__
    stacks();
#endif
}
