/* Exceptions in 64-bit mode: which vector, which error code, where, and how they are delivered. */
#include "kernel.h"

extern u64 idt[];
extern u8 tss[];
static u8 scratch[4096] __attribute__((aligned(4096)));

#define EXPECT(v, code, outs, ins, ...)                                                                  \
    equal(ATTEMPT(code, outs, ins), v, __VA_ARGS__)
#define EXPECT_CODE(v, e, code, outs, ins, ...)                                                          \
    ({                                                                                                   \
        u32 got = ATTEMPT(code, outs, ins);                                                              \
        equal((u64)got << 32 | caught.error, (u64)(v) << 32 | (e), __VA_ARGS__);                         \
    })

static void plain(void)
{
    section("vectors");
    EXPECT(DE, "divb %b2", OUTS("+a"((int){1000})), INS("c"(0), "d"(0)), "#DE: division by zero");
    EXPECT(DE, "div %2", OUTS("+a"((int){1}), "+d"((int){5})), INS("c"(5)), "#DE: quotient too large");
    EXPECT(DE, "idivl %2", OUTS("+a"((int){(int)0x80000000}), "+d"((int){-1})), INS("c"(-1)), "#DE: idiv overflow");
    EXPECT(BP, "int3", NONE, NONE, "#BP");
    check((caught.flags & F_RF) == 0, "#BP pushes RF clear");
    EXPECT(UD, "ud2", NONE, NONE, "#UD");
    check((caught.flags & F_RF) != 0, "#UD pushes RF set");
    EXPECT(GP, "mov %0, %%cr4", NONE, INS("r"(0xfffffffful)), "#GP: reserved CR4 bits");
    check((caught.flags & F_RF) != 0, "#GP pushes RF set");
    equal(caught.error, 0, "its error code");
    EXPECT_CODE(GP, 0, "mov (%0), %%eax", NONE, INS("r"(0x800000000000ul)), "#GP: non-canonical load");
}

/* Some operations move the stack pointer; they are tried with the stack kept in RBX. */
#define ON_STACK(stack, code)                                                                            \
    ({                                                                                                   \
        caught.vector = NOTHING;                                                                         \
        asm volatile("mov %%rsp, %%rbx; movq $9f, caught; mov %0, %%rsp; " code "; 9: mov %%rbx, %%rsp; movq $0, caught" \
                     : : "r"(stack) : "memory", "cc", "rax", "rbx", "rcx", "rbp");                              \
        caught.vector;                                                                                   \
    })

static void stack_faults(void)
{
    section("#SS");
    gate(SS, stubs + STUB_SIZE * SS, 0, INTERRUPT_GATE, 1);
    gate(GP, stubs + STUB_SIZE * GP, 0, INTERRUPT_GATE, 1);
    equal(ON_STACK(0x800000000004ul, "push %%rax"), SS, "push to a non-canonical address");
    equal(caught.error, 0, "error code 0");
    equal(ON_STACK(0x800000000000ul, "pop %%rax"), SS, "pop from a non-canonical address");
    equal(ON_STACK(0x800000000000ul, "mov (%%rsp), %%rax"), SS, "load by RSP");
    equal(ON_STACK(0x800000000000ul, "mov %%rsp, %%rbp; mov (%%rbp), %%rax"), SS, "load by RBP");
    equal(ON_STACK(0x800000000000ul, "mov %%rsp, %%rax; mov (%%rax), %%rax"), GP, "load by RAX");
    equal(ON_STACK(0x800000000000ul, "ret"), SS, "ret");
    equal(ON_STACK(0x800000000000ul, "iretq"), SS, "iret");
    restore_gate(SS);
    restore_gate(GP);
}

static void selectors(void)
{
    section("segment loads");
    EXPECT_CODE(GP, 0xfff8, "mov %w0, %%ds", NONE, INS("r"(0xfff8)), "DS beyond the limit");
    EXPECT_CODE(GP, 0xfffc, "mov %w0, %%ds", NONE, INS("r"(0xfffc)), "DS in an LDT that is not there");
    EXPECT_CODE(GP, 0, "mov %w0, %%ss", NONE, INS("r"(3)), "null SS with RPL 3 in ring 0");
    EXPECT(NOTHING, "mov %w0, %%ss; mov %w1, %%ss", NONE, INS("r"(0), "r"(DATA0)), "null SS with RPL 0 in ring 0");
    EXPECT_CODE(GP, CODE0, "mov %w0, %%ss", NONE, INS("r"(CODE0)), "code in SS");
    EXPECT_CODE(GP, DATA3 & ~3, "mov %w0, %%ss", NONE, INS("r"(DATA3)), "ring 3 data in SS of ring 0");
    EXPECT(NOTHING, "mov %w0, %%ds; mov %w1, %%ds", NONE, INS("r"(DATA3), "r"(DATA0)), "ring 3 data in DS");
    EXPECT(NOTHING, "mov %w0, %%ds; mov %w1, %%ds", NONE, INS("r"(CODE0), "r"(DATA0)), "readable code in DS");
    gdt[SPARE / 8] = descriptor(0, 0xfffff, 0x13, 0xc0);
    EXPECT_CODE(NP, SPARE, "mov %w0, %%ds", NONE, INS("r"(SPARE)), "absent DS");
    EXPECT_CODE(SS, SPARE, "mov %w0, %%ss", NONE, INS("r"(SPARE)), "absent SS");
    gdt[SPARE / 8] = descriptor(0, 0xfffff, 0x91, 0xc0);
    EXPECT_CODE(GP, SPARE, "mov %w0, %%ss", NONE, INS("r"(SPARE)), "read-only SS");
    gdt[SPARE / 8] = descriptor(0, 0xfffff, 0x99, 0xc0);
    EXPECT_CODE(GP, SPARE, "mov %w0, %%ds", NONE, INS("r"(SPARE)), "execute-only DS");
    gdt[SPARE / 8] = descriptor(0, 0xfffff, 0x92, 0xc0);
    EXPECT(NOTHING, "mov %w0, %%es", NONE, INS("r"(SPARE)), "data without accessed bit");
    check(gdt[SPARE / 8] >> 40 & 1, "the load sets the accessed bit");
    EXPECT(UD, ".byte 0x8e, 0xc8", NONE, INS("a"(CODE0)), "mov to CS is #UD");
    EXPECT(UD, ".byte 0x8e, 0xf0", NONE, INS("a"(0)), "mov to segment register 6 is #UD");
    EXPECT_CODE(GP, 0, "ltr %w0", NONE, INS("r"(0)), "ltr of null");
    EXPECT_CODE(GP, TSS0, "ltr %w0", NONE, INS("r"(TSS0)), "ltr of a busy TSS");
    EXPECT_CODE(GP, DATA0, "ltr %w0", NONE, INS("r"(DATA0)), "ltr of data");
    EXPECT(NOTHING, "lldt %w0", NONE, INS("r"(0)), "lldt of null");
    EXPECT_CODE(GP, DATA0, "lldt %w0", NONE, INS("r"(DATA0)), "lldt of data");
    gdt[SPARE / 8] = descriptor((u32)(word)scratch, 15, 0x82, 0);
    gdt[SPARE / 8 + 1] = 0;
    EXPECT(NOTHING, "lldt %w0", NONE, INS("r"(SPARE)), "lldt");
    ((u64 *)scratch)[1] = descriptor(0, 0xfffff, 0x93, 0xc0);
    EXPECT(NOTHING, "mov %w0, %%es", NONE, INS("r"(0xc)), "a segment of the LDT");
    EXPECT_CODE(GP, 0x14, "mov %w0, %%es", NONE, INS("r"(0x14)), "beyond the LDT's limit");
    u16 ldt;
    asm volatile("sldt %0" : "=r"(ldt));
    equal(ldt, SPARE, "sldt");
    gdt[SPARE / 8 + 1] = 0xf0000000000;
    EXPECT_CODE(GP, SPARE, "lldt %w0", NONE, INS("r"(SPARE)), "lldt: type bits in the upper half");
    gdt[SPARE / 8 + 1] = 0;
    gdt[SPARE / 8] = descriptor((u32)(word)scratch, 15, 0x02, 0);
    EXPECT_CODE(NP, SPARE, "lldt %w0", NONE, INS("r"(SPARE)), "lldt: absent");
    EXPECT(NOTHING, "lldt %w0", NONE, INS("r"(0)), "lldt of null again");
    EXPECT(NOTHING, "mov %w0, %%es", NONE, INS("r"(DATA0)), "ES restored");
}

static void far_transfers(void)
{
    section("far transfers");
    struct { u64 ip; u16 cs; } __attribute__((packed)) far = {0, 0};
    EXPECT_CODE(GP, 0, "rex64 ljmp *%0", NONE, INS("m"(far)), "jump to a null CS");
    far.cs = DATA0;
    EXPECT_CODE(GP, DATA0, "rex64 ljmp *%0", NONE, INS("m"(far)), "jump to data");
    far.cs = ABSENT;
    EXPECT_CODE(NP, ABSENT, "rex64 ljmp *%0", NONE, INS("m"(far)), "jump to absent code");
    far.cs = CODE3;
    EXPECT_CODE(GP, CODE3 & ~3, "rex64 ljmp *%0", NONE, INS("m"(far)), "jump to ring 3 code");
    far.cs = 0xfff8;
    EXPECT_CODE(GP, 0xfff8, "rex64 lcall *%0", NONE, INS("m"(far)), "call beyond the GDT");
    gdt[SPARE / 8] = 0x00ef9b000000ffff; /* L and D */
    far.cs = SPARE;
    EXPECT_CODE(GP, SPARE, "rex64 ljmp *%0", NONE, INS("m"(far)), "code with L and D");
    far.cs = TSS0;
    EXPECT_CODE(GP, TSS0, "rex64 ljmp *%0", NONE, INS("m"(far)), "a TSS in 64-bit mode");
    far.cs = CODE0;
    far.ip = 0x1111111111111111;
    EXPECT_CODE(GP, 0, "rex64 ljmp *%0", NONE, INS("m"(far)), "jump to a non-canonical offset");
    EXPECT_CODE(GP, 0, "jmp *%0", NONE, INS("r"(0x1111111111111111)), "near jump to a non-canonical address");
    EXPECT_CODE(GP, 0, "jmp *%0", NONE, INS("m"(far.ip)), "near jump by memory to a non-canonical address");
    /* a call gate of 64 bits, and back */
    extern char gate_target[], gate_back[];
    gdt[SPARE / 8] = ((word)gate_target & 0xffff) | (u64)CODE0 << 16 | 0x8c0000000000 | ((word)gate_target >> 16 & 0xffff) << 48;
    gdt[SPARE / 8 + 1] = (word)gate_target >> 32;
    struct { u32 ip; u16 cs; } __attribute__((packed)) gate32 = {0xf4f4f4f4, SPARE};
    word seen = 0, cs = 0;
    asm volatile("lcall *%2; gate_back: jmp 1f; gate_target: mov (%%rsp), %0; mov 8(%%rsp), %1; lretq; 1:"
                 : "=&r"(seen), "=&r"(cs) : "m"(gate32) : "memory");
    equal(seen, (word)gate_back, "call gate: return address");
    equal(cs, CODE0, "call gate: CS");
    gdt[SPARE / 8 + 1] = 0xf0000000000;
    EXPECT_CODE(GP, SPARE, "lcall *%0", NONE, INS("m"(gate32)), "call gate: type bits in the upper half");
    gdt[SPARE / 8] &= ~(1ull << 47);
    gdt[SPARE / 8 + 1] = 0;
    EXPECT_CODE(NP, SPARE, "lcall *%0", NONE, INS("m"(gate32)), "call gate: absent");
    EXPECT(UD, ".byte 0xea, 0, 0, 0, 0, 8, 0", NONE, NONE, "direct far jump is #UD in 64-bit mode");
    EXPECT(UD, ".byte 0x9a, 0, 0, 0, 0, 8, 0", NONE, NONE, "direct far call is #UD");
}

static void delivery(void)
{
    section("delivery");
    /* IDT entries that are broken */
    u64 saved = idt[2 * 0x60];
    idt[2 * 0x60] &= ~(1ull << 47);
    EXPECT_CODE(NP, 0x60 * 8 + 2, "int $0x60", NONE, NONE, "INT n through an absent gate");
    idt[2 * 0x60] = saved & ~(0xfull << 40) | 5ull << 40;
    EXPECT_CODE(GP, 0x60 * 8 + 2, "int $0x60", NONE, NONE, "INT n through a gate of no type");
    idt[2 * 0x60] = saved & ~0xffff0000ull | (u64)ABSENT << 16;
    EXPECT_CODE(NP, ABSENT, "int $0x60", NONE, NONE, "INT n: handler's CS absent");
    idt[2 * 0x60] = saved & ~0xffff0000ull | (u64)DATA0 << 16;
    EXPECT_CODE(GP, DATA0, "int $0x60", NONE, NONE, "INT n: handler's CS is data");
    idt[2 * 0x60] = saved & ~0xffff0000ull | (u64)CODE32 << 16;
    EXPECT_CODE(GP, CODE32, "int $0x60", NONE, NONE, "INT n: handler's CS is 32-bit");
    idt[2 * 0x60] = saved & ~0xffff0000ull;
    EXPECT_CODE(GP, 0, "int $0x60", NONE, NONE, "INT n: handler's CS is null");
    idt[2 * 0x60] = saved;
    idt[2 * 0x60 + 1] = 0x10000;
    EXPECT_CODE(GP, 0, "int $0x60", NONE, NONE, "INT n: handler's address not canonical");
    idt[2 * 0x60 + 1] = 0;
    /* an exception whose own gate is broken: the error code says EXT */
    saved = idt[2 * UD];
    idt[2 * UD] &= ~(1ull << 47);
    EXPECT_CODE(NP, UD * 8 + 3, "ud2", NONE, NONE, "#UD through an absent gate: EXT set");
    idt[2 * UD] = saved & ~0xffff0000ull | (u64)ABSENT << 16;
    EXPECT_CODE(NP, ABSENT + 1, "ud2", NONE, NONE, "#UD, handler's CS absent: EXT set");
    idt[2 * UD] = saved;
    /* double fault */
    saved = idt[2 * GP];
    idt[2 * GP] &= ~(1ull << 47);
    EXPECT_CODE(DF, 0, "mov %w0, %%ds", NONE, INS("r"(0xfff8)), "#GP through an absent gate is #DF");
    idt[2 * GP] = saved;
    saved = idt[2 * PF];
    idt[2 * PF] &= ~(1ull << 47);
    EXPECT_CODE(DF, 0, "mov (%0), %%eax", NONE, INS("r"(0x8000000000)), "#PF through an absent gate is #DF");
    idt[2 * PF] = saved;
    saved = idt[2 * DE];
    idt[2 * DE] &= ~(1ull << 47);
    EXPECT_CODE(DF, 0, "divl %0", NONE, INS("r"(0), "a"(1), "d"(0)), "#DE through an absent gate is #DF");
    idt[2 * DE] = saved;
    /* IDT limit */
    struct table full, few;
    asm volatile("sidt %0" : "=m"(full));
    few = full;
    few.limit = 16 * 0x30 - 1;
    asm volatile("lidt %0" : : "m"(few));
    u32 vector = ATTEMPT("int $0x30", NONE, NONE);
    asm volatile("lidt %0" : : "m"(full));
    equal((u64)vector << 32 | caught.error, (u64)GP << 32 | (0x30 * 8 + 2), "INT n beyond the IDT's limit");
}

static word sp_in_handler, sp_before;
static void note_sp(struct frame *f)
{
    sp_in_handler = (word)f;
    sp_before = f->sp;
}

static void stacks(void)
{
    section("stacks");
    handlers[0x61] = note_sp;
    word sp;
    asm volatile("mov %%rsp, %0; sub $8, %%rsp; int $0x61; add $8, %%rsp" : "=r"(sp) : : "memory");
    equal(sp_before, sp - 8, "the pushed RSP is the old one");
    equal(sp_in_handler + sizeof(struct frame) & 15, 0, "the frame is aligned to 16 bytes");
    gate(0x61, stubs + STUB_SIZE * 0x61, 0, INTERRUPT_GATE, 1);
    asm volatile("int $0x61" : : : "memory");
    equal(sp_in_handler + sizeof(struct frame), *(u64 *)(tss + 0x24), "IST 1 is used in ring 0, too");
    *(u64 *)(tss + 0x2c) = 0x8000000000000000;
    gate(0x61, stubs + STUB_SIZE * 0x61, 0, INTERRUPT_GATE, 2);
    EXPECT_CODE(SS, 0, "int $0x61", NONE, NONE, "IST not canonical: #SS");
    restore_gate(0x61);
    handlers[0x61] = 0;
}

static word flags_in_handler;
static void note_flags(struct frame *f)
{
    flags_in_handler = get_flags();
}

static void flags(void)
{
    section("flags");
    handlers[0x61] = note_flags;
    gate(0x61, stubs + STUB_SIZE * 0x61, 0, TRAP_GATE, 0);
    asm volatile("sti; int $0x61; cli" : : : "memory");
    check(flags_in_handler & F_IF, "a trap gate leaves IF");
    restore_gate(0x61);
    asm volatile("sti; int $0x61; cli" : : : "memory");
    check(!(flags_in_handler & F_IF), "an interrupt gate clears IF");
    set_flags(get_flags() | F_NT);
    asm volatile("int $0x61" : : : "memory");
    check(!(flags_in_handler & F_NT), "NT is cleared");
    check(get_flags() & F_NT, "and comes back");
    word v = ATTEMPT("iretq", NONE, NONE);
    equal(v, GP, "IRET with NT in 64-bit mode is #GP");
    set_flags(get_flags() & ~F_NT);
    handlers[0x61] = 0;
}

static word divide(word v)
{
    return ATTEMPT("div %0", NONE, INS("r"(v), "a"(1ul), "d"(0ul)));
}
static word int_60(word v)
{
    return ATTEMPT("int $0x60", NONE, NONE);
}
static word int3(word v)
{
    return ATTEMPT("int3", NONE, NONE);
}
static word icebp(word v)
{
    return ATTEMPT(".byte 0xf1", NONE, NONE);
}
static word privileged(word v)
{
    word bad = 0;
    bad |= (ATTEMPT("hlt", NONE, NONE) != GP) << 0;
    bad |= (ATTEMPT("cli", NONE, NONE) != GP) << 1;
    bad |= (ATTEMPT("sti", NONE, NONE) != GP) << 2;
    bad |= (ATTEMPT("mov %%cr0, %%rax", NONE, NONE, "rax") != GP) << 3;
    bad |= (ATTEMPT("mov %%rax, %%cr3", NONE, NONE) != GP) << 4;
    bad |= (ATTEMPT("mov %%db0, %%rax", NONE, NONE, "rax") != GP) << 5;
    bad |= (ATTEMPT("rdmsr", NONE, INS("c"(MSR_EFER)), "rax", "rdx") != GP) << 6;
    bad |= (ATTEMPT("wrmsr", NONE, INS("c"(MSR_EFER))) != GP) << 7;
    bad |= (ATTEMPT("lgdt %0", NONE, INS("m"(scratch))) != GP) << 8;
    bad |= (ATTEMPT("lidt %0", NONE, INS("m"(scratch))) != GP) << 9;
    bad |= (ATTEMPT("ltr %w0", NONE, INS("r"(0))) != GP) << 10;
    bad |= (ATTEMPT("lldt %w0", NONE, INS("r"(0))) != GP) << 11;
    bad |= (ATTEMPT("lmsw %w0", NONE, INS("r"(0))) != GP) << 12;
    bad |= (ATTEMPT("clts", NONE, NONE) != GP) << 13;
    bad |= (ATTEMPT("invlpg (%0)", NONE, INS("r"(0))) != GP) << 14;
    bad |= (ATTEMPT("wbinvd", NONE, NONE) != GP) << 15;
    bad |= (ATTEMPT("swapgs", NONE, NONE) != GP) << 16;
    bad |= (ATTEMPT("inb $0x80, %%al", NONE, NONE, "rax") != GP) << 17;
    bad |= (ATTEMPT("outb %%al, $0x80", NONE, NONE) != GP) << 18;
    bad |= (ATTEMPT("sysretq", NONE, NONE) != GP) << 19;
    bad |= (ATTEMPT("mov %w0, %%ds", NONE, INS("r"(DATA0))) != GP) << 20;
    bad |= (caught.error != DATA0) << 21;
    bad |= (ATTEMPT("insb", NONE, INS("d"(0x80), "D"(scratch))) != GP) << 22;
    bad |= (ATTEMPT("outsb", NONE, INS("d"(0x80), "S"(scratch))) != GP) << 23;
    bad |= (ATTEMPT("mov %%cr8, %%rax", NONE, NONE, "rax") != GP) << 24;
    bad |= (ATTEMPT("invd", NONE, NONE) != GP) << 25;
    return bad;
}
static word flags_stay(word v)
{
    /* POPF below IOPL leaves IF and IOPL alone */
    set_flags(F_IF | F_IOPL | 2);
    word f = get_flags();
    return f & (F_IF | F_IOPL);
}

static void ring3(void)
{
    section("ring 3");
    equal(in_ring3(divide, 0), DE, "#DE");
    equal(caught.cs, CODE3, "its CS");
    equal(in_ring3(int_60, 0), GP, "INT n through a gate of DPL 0");
    equal(caught.error, 0x60 * 8 + 2, "its error code");
    equal(in_ring3(int3, 0), GP, "INT3 through a gate of DPL 0");
    equal(caught.error, BP * 8 + 2, "its error code");
    gate(BP, stubs + STUB_SIZE * BP, 3, INTERRUPT_GATE, 0);
    equal(in_ring3(int3, 0), BP, "INT3 through a gate of DPL 3");
    restore_gate(BP);
    equal(in_ring3(icebp, 0), DB, "INT1 asks for no privilege");
    equal(in_ring3(privileged, 0), 0, "privileged instructions are #GP (bits of those that are not)");
    equal(in_ring3(flags_stay, 0), 0, "POPF changes neither IF nor IOPL");
    ring3_flags = 2 | F_IOPL;
    equal(in_ring3(flags_stay, 0), F_IF | F_IOPL, "with IOPL 3 it changes IF");
    ring3_flags = 2;
}

static word unaligned(word v)
{
    return ATTEMPT("mov (%0), %%eax", NONE, INS("r"(scratch + 1)), "rax");
}
static word unaligned_with_ac(word v)
{
    word vector;
    set_flags(get_flags() | F_AC);
    caught.vector = NOTHING;
    asm volatile("movq $9f, caught; mov (%0), %%eax; 9: movq $0, caught" : : "r"(scratch + v) : "memory", "rax");
    vector = caught.vector;
    set_flags(get_flags() & ~F_AC);
    return vector;
}

static void alignment(void)
{
    section("#AC");
    set_cr0(get_cr0() | CR0_AM);
    equal(in_ring3(unaligned, 0), NOTHING, "CR0.AM alone does nothing");
    equal(in_ring3(unaligned_with_ac, 1), AC, "with EFLAGS.AC a dword at 1 is #AC");
    equal(caught.error, 0, "error code 0");
    equal(in_ring3(unaligned_with_ac, 2), AC, "a dword at 2, too");
    equal(in_ring3(unaligned_with_ac, 4), NOTHING, "at 4 it is none");
    equal(unaligned_with_ac(1), NOTHING, "not in ring 0");
    set_cr0(get_cr0() & ~CR0_AM);
    equal(in_ring3(unaligned_with_ac, 1), NOTHING, "EFLAGS.AC alone does nothing");
}

static void floating_point(void)
{
    section("#NM, #MF, #XM");
    word cr0 = get_cr0(), cr4 = get_cr4();
    set_cr0(cr0 | CR0_TS);
    EXPECT(NM, "fninit", NONE, NONE, "x87 with TS");
    EXPECT(NM, "movups (%0), %%xmm0", NONE, INS("r"(scratch)), "SSE with TS");
    EXPECT(NM, "movq (%0), %%mm0", NONE, INS("r"(scratch)), "MMX with TS");
    EXPECT(NM, "fwait", NONE, NONE, "FWAIT with TS and MP");
    set_cr0((cr0 | CR0_TS) & ~CR0_MP);
    EXPECT(NOTHING, "fwait", NONE, NONE, "FWAIT with TS alone");
    set_cr0(cr0 | CR0_EM);
    EXPECT(NM, "fninit", NONE, NONE, "x87 with EM");
    EXPECT(UD, "movups (%0), %%xmm0", NONE, INS("r"(scratch)), "SSE with EM");
    EXPECT(UD, "movq (%0), %%mm0", NONE, INS("r"(scratch)), "MMX with EM");
    set_cr0(cr0);
    set_cr4(cr4 & ~CR4_OSFXSR);
    EXPECT(UD, "movups (%0), %%xmm0", NONE, INS("r"(scratch)), "SSE without OSFXSR");
    EXPECT(NOTHING, "movq (%0), %%mm0; emms", NONE, INS("r"(scratch)), "MMX without OSFXSR");
    set_cr4(cr4);
    EXPECT(GP, "movaps (%0), %%xmm0", NONE, INS("r"(scratch + 8)), "MOVAPS unaligned");
    EXPECT(NOTHING, "movups (%0), %%xmm0", NONE, INS("r"(scratch + 8)), "MOVUPS unaligned");
    u16 control = 0x033a; /* zero divide, invalid... unmasked: bit 2 (ZM) and 0 (IM) clear */
    EXPECT(MF, "fninit; fldcw %0; fld1; fldz; fdivrp; fwait", NONE, INS("m"(control)), "#MF of a division by zero");
    EXPECT(MF, "fldz", NONE, NONE, "#MF again before the next x87 instruction");
    EXPECT(NOTHING, "fnclex; fninit", NONE, NONE, "FNCLEX does not wait");
    u32 mxcsr = 0x1f80 & ~0x200, usual = 0x1f80, one = 0x3f800000;
    EXPECT(XM, "ldmxcsr %0; movss %1, %%xmm0; xorps %%xmm1, %%xmm1; divss %%xmm1, %%xmm0", NONE, INS("m"(mxcsr), "m"(one)), "#XM of a division by zero");
    asm volatile("ldmxcsr %0" : : "m"(mxcsr));
    set_cr4(cr4 & ~CR4_OSXMMEXCPT);
    EXPECT(UD, "divss %%xmm1, %%xmm0", NONE, NONE, "it is #UD without OSXMMEXCPT");
    set_cr4(cr4);
    asm volatile("ldmxcsr %0" : : "m"(usual));
    mxcsr = 0xffff0000;
    EXPECT(GP, "ldmxcsr %0", NONE, INS("m"(mxcsr)), "LDMXCSR with reserved bits");
}

static void lengths_and_locks(void)
{
    section("illegal encodings");
    EXPECT(GP, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", NONE, NONE, "16 bytes are #GP");
    EXPECT(NOTHING, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", NONE, NONE, "15 bytes are not");
    EXPECT(UD, ".byte 0xf0, 0x90", NONE, NONE, "lock nop");
    EXPECT(UD, ".byte 0xf0, 0x01, 0xc0", NONE, NONE, "lock add to a register");
    EXPECT(UD, ".byte 0xf0, 0x8b, 0x07", NONE, INS("D"(scratch)), "lock mov");
    EXPECT(UD, ".byte 0xf0, 0x39, 0x07", NONE, INS("D"(scratch)), "lock cmp");
    EXPECT(UD, ".byte 0xf0, 0x84, 0x07", NONE, INS("D"(scratch)), "lock test");
    EXPECT(UD, ".byte 0xf0, 0x03, 0x07", NONE, INS("D"(scratch), "a"(0)), "lock add from memory");
    EXPECT(UD, ".byte 0xf0, 0x0f, 0xa3, 0x07", NONE, INS("D"(scratch), "a"(0)), "lock bt");
    EXPECT(NOTHING, ".byte 0xf0, 0x01, 0x07", NONE, INS("D"(scratch), "a"(0)), "lock add to memory");
    EXPECT(NOTHING, "lock; cmpxchg16b (%0)", NONE, INS("D"(scratch), "a"(0ul), "d"(0ul), "b"(0ul), "c"(0ul)), "lock cmpxchg16b");
    EXPECT(GP, "lock; cmpxchg16b (%0)", NONE, INS("D"(scratch + 8), "a"(0ul), "d"(0ul), "b"(0ul), "c"(0ul)), "cmpxchg16b unaligned");
    EXPECT(UD, ".byte 0x0f, 0xc7, 0xc8", NONE, NONE, "cmpxchg8b of a register");
    static const u8 gone[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x62, 0x82, 0xce, 0xd4, 0xd5, 0xd6};
    u8 *code = page();
    for (u32 n = 0; n < sizeof gone; n++) {
        code[0] = gone[n];
        code[1] = code[2] = code[3] = 0;
        code[4] = 0xff; /* jmp *%rdx */
        code[5] = 0xe2;
        EXPECT(UD, "mov $7f, %%rdx; jmp *%0; 7:", NONE, INS("c"(code)), "opcode %x is none in 64-bit mode", (word)gone[n]);
    }
    EXPECT(UD, ".byte 0x0f, 0x22, 0xc8", NONE, INS("a"(0)), "mov to CR1");
    EXPECT(UD, ".byte 0x0f, 0x20, 0xe8", NONE, NONE, "mov from CR5");
    EXPECT(UD, ".byte 0x0f, 0x22, 0xf8", NONE, INS("a"(0)), "mov to CR7");
    EXPECT(UD, ".byte 0x44, 0x0f, 0x22, 0xc8", NONE, INS("a"(0)), "mov to CR9");
    EXPECT(UD, ".byte 0x8d, 0xc0", NONE, NONE, "lea of a register");
}

static void control_registers(void)
{
    section("control registers");
    word cr0 = get_cr0(), cr3 = get_cr3(), cr4 = get_cr4();
    equal(try_cr0(cr0 & ~CR0_PE), GP, "CR0: PG without PE");
    equal(try_cr0((cr0 | CR0_NW) & ~CR0_CD), GP, "CR0: NW without CD");
    equal(try_cr0(cr0 | 1ul << 32), GP, "CR0: bit 32");
    equal(try_cr0(cr0 & ~CR0_PG), GP, "CR0: paging off in 64-bit mode");
    equal(try_cr3(cr3 | 1ul << 63), GP, "CR3: bit 63 without PCIDE");
    equal(try_cr3(cr3 | 1ul << 55), GP, "CR3: bit 55");
    equal(try_cr4(cr4 & ~CR4_PAE), GP, "CR4: PAE off in long mode");
    equal(try_cr4(cr4 | CR4_LA57), GP, "CR4: LA57");
    equal(try_cr4(cr4 | 1ul << 32), GP, "CR4: bit 32");
    equal(try_cr4(cr4 | CR4_CET), GP, "CR4: CET");
    equal(try_cr4(cr4 | 1 << 13), GP, "CR4: VMXE");
    equal(try_cr4(cr4 | 1 << 24), GP, "CR4: PKS");
    equal(try_cr4(cr4 | 1 << 15), GP, "CR4: reserved bit 15");
    equal(try_cr4(cr4 | 1 << 19), GP, "CR4: bit 19");
    equal(ATTEMPT("mov %0, %%cr8", NONE, INS("r"(0x10ul))), GP, "CR8: bit 4");
    set_cr8(5);
    equal(get_cr8(), 5, "CR8 keeps its value");
    equal(apic_read(0x80), 0x50, "and is the task priority");
    set_cr8(0);
    set_cr4(cr4 | CR4_TSD);
    EXPECT(NOTHING, "rdtsc", NONE, NONE, "TSD does not hold in ring 0");
    set_cr4(cr4);
    set_cr2(0x123456789);
    equal(get_cr2(), 0x123456789, "CR2 keeps its value");
    equal(ATTEMPT("mov %0, %%db7", NONE, INS("r"(1ul << 32))), GP, "DR7: upper half");
    equal(ATTEMPT("mov %0, %%db6", NONE, INS("r"(1ul << 32))), GP, "DR6: upper half");
}

static word tsc3(word v)
{
    return ATTEMPT("rdtsc", NONE, NONE, "rax", "rdx");
}
static void tsd(void)
{
    word cr4 = get_cr4();
    equal(in_ring3(tsc3, 0), NOTHING, "RDTSC in ring 3");
    set_cr4(cr4 | CR4_TSD);
    equal(in_ring3(tsc3, 0), GP, "RDTSC in ring 3 with TSD");
    set_cr4(cr4);
}

void test(void)
{
    plain();
    stack_faults();
    selectors();
    far_transfers();
    delivery();
    stacks();
    flags();
    ring3();
    alignment();
    floating_point();
    lengths_and_locks();
    control_registers();
    tsd();
}
