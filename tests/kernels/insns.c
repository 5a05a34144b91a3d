/* Instructions on I/O memory, across pages, and corner cases of operands: what emulators get wrong. */
#include "kernel.h"

#define IO 0xff000000ul
static volatile u8 *const io = (volatile u8 *)IO;
static u8 ram[8192] __attribute__((aligned(4096)));

#define ASM(code, outs, ins, ...) asm volatile(code : UNPACK outs : UNPACK ins : "memory", "cc", ##__VA_ARGS__)

static void string_io(void)
{
    static const char text[] = "abcdefghijklmnop";
    section("string I/O");
    word si = (word)text, cx = 16, di;
    ASM("cld; rep outsb", OUTS("+S"(si), "+c"(cx)), INS("d"(0xe0)));
    check(in8(0xe0) == 'p' && cx == 0 && si == (word)text + 16, "REP OUTSB up");
    si = (word)text + 15, cx = 16;
    ASM("std; rep outsb; cld", OUTS("+S"(si), "+c"(cx)), INS("d"(0xe0)));
    check(in8(0xe0) == 'a' && cx == 0 && si == (word)text - 1, "REP OUTSB down");
    out32(0xe0, 0x9988);
    di = (word)ram, cx = 3;
    ASM("rep insw", OUTS("+D"(di), "+c"(cx)), INS("d"(0xe0)));
    check(*(u32 *)ram == 0x99889988 && di == (word)ram + 6 && cx == 0, "REP INSW");
    di = IO + 4032, cx = 1024;
    out8(0xe0, 0x77);
    ASM("rep insb", OUTS("+D"(di), "+c"(cx)), INS("d"(0xe0)));
    check(io[4032] == 0x77 && io[5055] == 0x77 && di == IO + 5056, "REP INSB into I/O memory over a page's edge");
    si = (word)text, cx = 0;
    ASM("rep outsb", OUTS("+S"(si), "+c"(cx)), INS("d"(0xe0)));
    check(si == (word)text, "REP with count 0 does nothing");
    out32(0xe0, 0);
    si = (word)text, cx = 2;
    ASM("rep outsl", OUTS("+S"(si), "+c"(cx)), INS("d"(0xe0)));
    equal(in32(0xe0), 0x68676665, "REP OUTSL");
    /* a fault in the middle */
    u8 *p = page();
    map(0x7000000000, (word)p | 7);
    map(0x7000001000, 0);
    p[4095] = 0x42;
    si = 0x7000000ffe, cx = 5;
    caught.vector = NOTHING;
    ASM("movq $9f, caught; rep outsb; 9: movq $0, caught", OUTS("+S"(si), "+c"(cx)), INS("d"(0xe0)));
    check(caught.vector == PF && si == 0x7000001000 && cx == 3 && in8(0xe0) == 0x42, "REP OUTSB stops at a fault");
}

static void compare_strings(u8 *m1, u8 *m3, const char *where)
{
    word si, di, cx;
#define CMPS(suffix, count, left, moved)                                                                 \
    si = (word)m1, di = (word)m3, cx = count;                                                            \
    ASM("repe cmps" suffix, OUTS("+S"(si), "+D"(di), "+c"(cx)), NONE);                                   \
    check(cx == left && si == (word)m1 + moved && di == (word)m3 + moved, "%s: REPE CMPS" suffix " %u", where, (u32)(count))
    CMPS("b", 30, 0, 30);
    CMPS("w", 15, 0, 30);
    CMPS("l", 7, 0, 28);
    CMPS("q", 4, 0, 32);
    CMPS("b", 130, 29, 101);
    CMPS("w", 65, 14, 102);
    CMPS("l", 32, 6, 104);
    CMPS("q", 16, 3, 104);
}

static void strings(u8 *mem, const char *where)
{
    static u8 third[1024];
    word si, di, cx;
    u8 z;
    section(where);
    for (int n = 0; n < 100; n++)
        mem[n] = third[n] = n;
    for (int n = 100; n < 200; n++) {
        third[n] = n;
        mem[n] = n + 1;
    }
    compare_strings(mem, third, where);
    for (int n = 0; n < 8; n++)
        mem[n] = 0x11 * (n + 1);
#define SCAS(suffix, value, size, wanted)                                                                \
    di = (word)mem;                                                                                      \
    ASM("scas" suffix "; setz %0", OUTS("=q"(z), "+D"(di)), INS("a"(value)));                            \
    check(z == wanted && di == (word)mem + size, "%s: SCAS" suffix, where)
    SCAS("b", 0xff11ul, 1, 1);
    SCAS("b", 0xff54ul, 1, 0);
    SCAS("w", 0xff2211ul, 2, 1);
    SCAS("w", 0xffdd11ul, 2, 0);
    SCAS("l", 0xff44332211ul, 4, 1);
    SCAS("l", 0x45332211ul, 4, 0);
    SCAS("q", 0x8877665544332211ul, 8, 1);
    SCAS("q", 3ul, 8, 0);
    word a;
    si = (word)mem;
    ASM("lodsb", OUTS("=a"(a), "+S"(si)), INS("0"(~0ul)));
    equal(a, 0xffffffffffffff11, "%s: LODSB", where);
    ASM("lodsw", OUTS("=a"(a), "+S"(si)), INS("0"(~0ul)));
    equal(a, 0xffffffffffff3322, "%s: LODSW", where);
    ASM("lodsl", OUTS("=a"(a), "+S"(si)), INS("0"(~0ul)));
    equal(a, 0x77665544, "%s: LODSL", where);
    si = (word)mem;
    ASM("lodsq", OUTS("=a"(a), "+S"(si)), INS("0"(0ul)));
    equal(a, 0x8877665544332211, "%s: LODSQ", where);
    di = (word)mem, cx = 5;
    ASM("rep stosl", OUTS("+D"(di), "+c"(cx)), INS("a"(0x01020304ul)));
    check(*(volatile u32 *)(mem + 16) == 0x01020304 && di == (word)mem + 20, "%s: REP STOSL", where);
    di = (word)mem + 40, cx = 16, si = (word)third;
    ASM("rep movsb", OUTS("+D"(di), "+S"(si), "+c"(cx)), NONE);
    check(mem[55] == 15 && di == (word)mem + 56, "%s: REP MOVSB", where);
    di = (word)mem + 1, cx = 20, si = (word)mem;
    mem[0] = 0xaa;
    ASM("rep movsb", OUTS("+D"(di), "+S"(si), "+c"(cx)), NONE);
    check(mem[20] == 0xaa && mem[10] == 0xaa, "%s: overlapping REP MOVSB copies byte by byte", where);
    di = (word)third + 100, cx = 2, si = (word)mem + 16;
    ASM("std; rep movsq; cld", OUTS("+D"(di), "+S"(si), "+c"(cx)), NONE);
    check(di == (word)third + 84 && si == (word)mem, "%s: REP MOVSQ down", where);
}

static void stack(u8 *mem, const char *where)
{
    word *top = (word *)(mem + 4096), value = 0x123456789abcdef, sp, other = 0;
    for (int n = 1; n < 9; n++)
        top[-n] = 0x5555;
    ASM("mov %%rsp, %%rbx; mov %1, %%rsp; pushq $-7; pushq %2; pushq (%3); pushq $-7070707; mov %%rsp, %0; mov %%rbx, %%rsp",
        OUTS("=&r"(sp)), INS("r"(top), "r"(-17l), "r"(&value)), "rbx");
    check(top[-1] == -7ul && top[-2] == -17ul && top[-3] == value && top[-4] == -7070707ul && sp == (word)(top - 4), "%s: PUSH", where);
    ASM("pushq %1; popq (%0)", NONE, INS("r"(mem), "m"(value)));
    equal(*(volatile word *)mem, value, "%s: POP to memory", where);
    ASM("mov %%rsp, %%rbx; mov %1, %%rsp; pushq %2; popq %0; mov %%rbx, %%rsp", OUTS("=&r"(other)), INS("r"(top), "r"(value + 1)), "rbx");
    equal(other, value + 1, "%s: POP to a register", where);
    ASM("mov %%rsp, %%rbx; mov %1, %%rsp; pushq $0x55; popq 8(%%rsp); mov %%rsp, %0; mov %%rbx, %%rsp", OUTS("=&r"(sp)), INS("r"(top - 4)), "rbx");
    check(top[-3] == 0x55 && sp == (word)(top - 4), "%s: POP with RSP as base counts after the pop", where);
    ASM("mov %%rsp, %%rbx; mov %1, %%rsp; push %%rsp; pop %0; mov %%rbx, %%rsp", OUTS("=&r"(sp)), INS("r"(top)), "rbx");
    equal(sp, (word)top, "%s: PUSH RSP pushes the old value", where);
    ASM("mov %%rsp, %%rbx; mov %0, %%rsp; lea 1f(%%rip), %%rax; push %%rax; ret; ud2; 1: mov %%rbx, %%rsp", NONE, INS("r"(top)), "rbx", "rax");
    check(1, "%s: RET", where);
    ASM("mov %%rsp, %%rbx; mov %0, %%rsp; call 1f; ud2; 1: mov %%rbx, %%rsp", NONE, INS("r"(top)), "rbx");
    check(1, "%s: CALL", where);
    word bp = 0;
    top[-1] = 0x778899;
    ASM("mov %%rsp, %%rbx; mov %%rbp, %%rcx; mov %2, %%rbp; leave; mov %%rsp, %0; mov %%rbp, %1; mov %%rbx, %%rsp; mov %%rcx, %%rbp",
        OUTS("=&r"(sp), "=&r"(bp)), INS("r"(top - 1)), "rbx", "rcx");
    check(sp == (word)top && bp == 0x778899, "%s: LEAVE", where);
    ASM("mov %%rsp, %%rbx; mov %%rbp, %%rcx; mov %2, %%rsp; mov %3, %%rbp; enter $0x238, $0; mov %%rsp, %0; mov %%rbp, %1; mov %%rbx, %%rsp; mov %%rcx, %%rbp",
        OUTS("=&r"(sp), "=&r"(bp)), INS("r"(top), "r"(0xaa55aa55bb66bb66)), "rbx", "rcx");
    check(sp == (word)top - 8 - 0x238 && bp == (word)top - 8 && top[-1] == 0xaa55aa55bb66bb66, "%s: ENTER", where);
    word before, after;
    u16 small = 0;
    *(volatile u16 *)mem = 0x4321;
    ASM("mov %%rsp, %0; pushw (%3); popw %1; mov %%rsp, %2", OUTS("=&r"(before), "=&r"(small), "=&r"(after)), INS("r"(mem)));
    check(before == after && small == 0x4321, "%s: PUSH and POP of 16 bits", where);
    ASM("mov %%rsp, %%rbx; mov %1, %%rsp; stc; pushf; clc; popf; setc %b0; mov %%rbx, %%rsp", OUTS("=&r"(sp)), INS("r"(top)), "rbx");
    equal(sp & 1, 1, "%s: PUSHF, POPF", where);
}

static void arithmetic(u8 *mem, const char *where)
{
    volatile u64 *q = (volatile u64 *)mem;
    volatile u32 *l = (volatile u32 *)mem;
    u64 a, d;
    u8 bit;
    *q = 0;
    ASM("incl (%0)", NONE, INS("r"(mem)));
    equal(*q, 1, "%s: INC", where);
    ASM("lock; decl (%0)", NONE, INS("r"(mem)));
    equal(*q, 0, "%s: LOCK DEC", where);
    *q = 1234;
    ASM("lock; negq (%0)", NONE, INS("r"(mem)));
    equal(*q, -1234ull, "%s: LOCK NEG", where);
    ASM("lock; notq (%0)", NONE, INS("r"(mem)));
    equal(*q, 1233, "%s: LOCK NOT", where);
    *q = 0x42;
    ASM("lock; negb (%0)", NONE, INS("r"(mem)));
    equal(*q, 0xbe, "%s: LOCK NEG of a byte", where);
    *l = 0x1234;
    ASM("orl %1, (%0); addl $2, (%0); xorl $0x1111, (%0); subl $0x26, (%0)", NONE, INS("r"(mem), "r"(0x8001)));
    equal(*l, 0x8300, "%s: OR, ADD, XOR, SUB", where);
    ASM("clc; adcl %1, (%0)", NONE, INS("r"(mem), "r"(0x100)));
    equal(*l, 0x8400, "%s: ADC without carry", where);
    ASM("stc; adcl %1, (%0)", NONE, INS("r"(mem), "r"(0x100)));
    equal(*l, 0x8501, "%s: ADC with carry", where);
    ASM("stc; sbbl $0, (%0)", NONE, INS("r"(mem)));
    equal(*l, 0x8500, "%s: SBB with borrow", where);
    ASM("andl %1, (%0); testl $0xf000, (%0)", NONE, INS("r"(mem), "r"(0xfe77)));
    equal(*l, 0x8400, "%s: AND, TEST", where);
    *q = 0x123456789abcdef;
    a = 0xfedcba9876543210;
    ASM("xchg %%al, (%1)", OUTS("+a"(a)), INS("r"(mem)));
    check(a == 0xfedcba98765432ef && *q == 0x123456789abcd10, "%s: XCHG of a byte", where);
    a = 0xfedcba9876543210, *q = 0x123456789abcdef;
    ASM("xchg %%eax, (%1)", OUTS("+a"(a)), INS("r"(mem)));
    check(a == 0x89abcdef && *q == 0x123456776543210, "%s: XCHG of a dword", where);
    a = 0xfedcba9876543210, *q = 0x123456789abcdef;
    ASM("xadd %%ax, (%1)", OUTS("+a"(a)), INS("r"(mem)));
    check(a == 0xfedcba987654cdef && *q == 0x123456789abffff, "%s: XADD of a word", where);
    a = 0xfedcba9876543210, *q = 0x123456789abcdef;
    ASM("lock; xadd %%rax, (%1)", OUTS("+a"(a)), INS("r"(mem)));
    check(a == 0x123456789abcdef && *q == ~0ull, "%s: XADD of a qword", where);
    *q = 5, a = 5;
    ASM("lock; cmpxchg %2, (%3); setz %1", OUTS("+a"(a), "=q"(bit)), INS("r"(9ul), "r"(mem)));
    check(bit && *q == 9, "%s: CMPXCHG equal", where);
    ASM("lock; cmpxchg %2, (%3); setz %1", OUTS("+a"(a), "=q"(bit)), INS("r"(7ul), "r"(mem)));
    check(!bit && *q == 9 && a == 9, "%s: CMPXCHG different", where);
    *q = 0x1111111122222222, a = 0x22222222, d = 0x11111111;
    ASM("lock; cmpxchg8b (%3); setz %2", OUTS("+a"(a), "+d"(d), "=q"(bit)), INS("r"(mem), "b"(0x33333333ul), "c"(0x44444444ul)));
    check(bit && *q == 0x4444444433333333, "%s: CMPXCHG8B equal", where);
    ASM("cmpxchg8b (%3); setz %2", OUTS("+a"(a), "+d"(d), "=q"(bit)), INS("r"(mem), "b"(1ul), "c"(2ul)));
    check(!bit && a == 0x33333333 && d == 0x44444444, "%s: CMPXCHG8B different", where);
    l[0] = l[1] = l[2] = l[3] = 0;
    ASM("btcl $32, (%0); btcl $1, 4(%0); btcl %1, (%0)", NONE, INS("r"(mem), "r"(66)));
    check(l[0] == 1 && l[1] == 2 && l[2] == 4, "%s: BTC by immediate and by register", where);
    ASM("btcl %1, 12(%0)", NONE, INS("r"(mem), "r"(-1)));
    equal(l[2], 0x80000004, "%s: BTC of a negative bit", where);
    ASM("btcq %1, 8(%0)", NONE, INS("r"(mem), "r"(-1l)));
    equal(l[1], 0x80000002, "%s: BTC of 64 bits", where);
    *q = 0xc00000000000;
    ASM("bsfq (%1), %0", OUTS("=r"(a)), INS("r"(mem)));
    ASM("bsrq (%1), %0", OUTS("=r"(d)), INS("r"(mem)));
    check(a == 46 && d == 47, "%s: BSF, BSR", where);
    *q = 0;
    ASM("bsfq (%1), %%rax; setz %0", OUTS("=q"(bit)), INS("r"(mem)), "rax");
    check(bit, "%s: BSF of 0 sets ZF", where);
    *l = 51, a = 0x1234567812345678;
    ASM("imulw (%1), %w0", OUTS("+r"(a)), INS("r"(mem)));
    equal(a, 0x12345678123439e8, "%s: IMUL of 16 bits", where);
    *q = 0x1234567812345678;
    ASM("imulq $311, (%1), %0", OUTS("=r"(a)), INS("r"(mem)));
    equal(a, 0x1d950bde1d950bc8, "%s: IMUL by an immediate", where);
    *q = 987654321098765, a = d = 123456789012345;
    ASM("divq (%2)", OUTS("+a"(a), "+d"(d)), INS("r"(mem)));
    check(a == 0x1ffffffb1b963b33 && d == 0x273ba4384ede2, "%s: DIV", where);
    *q = 0, a = 1, d = 2;
    caught.vector = NOTHING;
    ASM("movq $9f, caught; divq (%2); 9: movq $0, caught", OUTS("+a"(a), "+d"(d)), INS("r"(mem)));
    check(caught.vector == DE && a == 1 && d == 2, "%s: DIV by 0 changes nothing", where);
    *q = 0x3333333333333333, a = 0x1111111111111111, d = 0x2222222222222222;
    ASM("mulw (%2)", OUTS("+a"(a), "+d"(d)), INS("r"(mem)));
    check(a == 0x111111111111c963 && d == 0x2222222222220369, "%s: MUL of 16 bits", where);
    a = 0x1111111111111111, d = 0x2222222222222222;
    ASM("mull (%2)", OUTS("+a"(a), "+d"(d)), INS("r"(mem)));
    check(a == 0x962fc963 && d == 0x369d036, "%s: MUL of 32 bits", where);
    *l = 0x12345678;
    ASM("shldl %%cl, %1, (%0)", NONE, INS("r"(mem), "r"(0xaaaaaaaa), "c"(3)));
    equal(*l, 0x12345678u << 3 | 5, "%s: SHLD", where);
    *l = 0x12345678;
    ASM("shrdl %%cl, %1, (%0)", NONE, INS("r"(mem), "r"(0x55555555), "c"(3)));
    equal(*l, 0x12345678u >> 3 | 5u << 29, "%s: SHRD", where);
    *l = 0xabcdef12, a = 0x1234567812345678;
    ASM("cmp %%eax, %%eax; cmovnel (%1), %%eax", OUTS("+a"(a)), INS("r"(mem)));
    equal(a, 0x12345678, "%s: a CMOV that does not move clears the upper half", where);
    *q = 0x8070605040302010;
    ASM("movbe (%1), %0", OUTS("=r"(a)), INS("r"(mem)));
    equal(a, 0x1020304050607080, "%s: MOVBE", where);
    ASM("movzwl (%1), %k0", OUTS("=r"(a)), INS("r"(mem)));
    equal(a, 0x2010, "%s: MOVZX", where);
    *q = 0x80;
    ASM("movsbq (%1), %0", OUTS("=r"(a)), INS("r"(mem)));
    equal(a, 0xffffffffffffff80, "%s: MOVSX", where);
    ASM("sets (%0)", NONE, INS("r"(mem)));
    check(*mem <= 1, "%s: SETcc", where);
    a = 0xfafafafafafafafa;
    *l = 0x11223344;
    ASM("movl $0x55667788, (%1); mov (%1), %%eax", OUTS("+a"(a)), INS("r"(mem)));
    equal(a, 0x55667788, "%s: a 32-bit load clears the upper half", where);
    ASM("rolw $4, (%0); sarb $1, (%0)", NONE, INS("r"(mem)));
    equal(*(volatile u16 *)mem, 0x78c3, "%s: ROL and SAR", where);
}

static void vectors(u8 *mem, const char *where)
{
    static u32 v[4] __attribute__((aligned(16)));
    volatile u32 *l = (volatile u32 *)mem;
#define MOVE(insn)                                                                                       \
    v[0] = 1, v[1] = 2, v[2] = 3, v[3] = 4;                                                              \
    ASM("movaps %1, %%xmm1; " insn " %%xmm1, (%0)", NONE, INS("r"(mem), "m"(v)));                        \
    check(l[0] == 1 && l[1] == 2 && l[2] == 3 && l[3] == 4, "%s: " insn " store", where);                \
    l[0] = 5, l[1] = 6, l[2] = 7, l[3] = 8;                                                              \
    ASM(insn " (%0), %%xmm2; movaps %%xmm2, %1", NONE, INS("r"(mem), "m"(v)));                           \
    check(v[0] == 5 && v[1] == 6 && v[2] == 7 && v[3] == 8, "%s: " insn " load", where)
    MOVE("movdqu");
    MOVE("movaps");
    MOVE("movapd");
    MOVE("movups");
    MOVE("movupd");
    MOVE("movdqa");
    u64 m = 0x0102030405060708, got = 0;
    ASM("fninit; movq %1, %%mm0; movq %%mm0, (%0); emms", NONE, INS("r"(mem), "m"(m)));
    equal(*(volatile u64 *)mem, m, "%s: MMX store", where);
    *(volatile u64 *)mem = 0x8070605040302010;
    ASM("movq (%1), %%mm1; movq %%mm1, %0; emms", OUTS("=m"(got)), INS("r"(mem)));
    equal(got, 0x8070605040302010, "%s: MMX load", where);
}

static void across(void)
{
    static u32 v[4] __attribute__((aligned(16))) = {1, 2, 3, 4};
    section("across pages");
    io[4095] = 0x99, io[4096] = 0x77;
    equal(*(volatile u16 *)(io + 4095), 0x7799, "a word of I/O memory over a page's edge");
    *(volatile u16 *)(io + 4095) = 0x88aa;
    check(io[4095] == 0xaa && io[4096] == 0x88, "and written");
    *(volatile u64 *)(io + 4093) = 0x1122334455667788;
    equal(*(volatile u64 *)(io + 4093), 0x1122334455667788, "a qword");
    /* from RAM to I/O memory */
    u8 *p = page();
    map(0x7000000000, (word)p | 7);
    map(0x7000001000, IO | 7);
    volatile u64 *q = (volatile u64 *)0x7000000ffdul;
    *q = 0x1020304050607080;
    equal(*q, 0x1020304050607080, "half RAM, half I/O memory");
    equal(io[0], 0x50, "the second part went to the device");
    ASM("lock; addl $1, (%0)", NONE, INS("r"(0x7000000ffeul)));
    check(1, "a locked one");
    ASM("movups %1, %%xmm0; movups %%xmm0, (%0)", NONE, INS("r"(0x7000000ff8ul), "m"(v)));
    check(*(volatile u32 *)(p + 0xffc) == 2 && *(volatile u32 *)io == 3, "MOVUPS");
    map(0x7000001000, 0);
    u32 old = *(volatile u32 *)(p + 0xffc);
    v[0] = v[1] = 77;
    equal(ATTEMPT("movups %1, %%xmm0; movups %%xmm0, (%0)", NONE, INS("r"(0x7000000ff8ul), "m"(v))), PF, "MOVUPS into an absent page");
    equal(*(volatile u32 *)(p + 0xffc), old, "writes nothing");
    equal(ATTEMPT("movaps %%xmm0, (%0)", NONE, INS("r"(ram + 8))), GP, "MOVAPS not aligned");
    /* code in a page of its own, next to nothing */
    p[4093] = 0x0f, p[4094] = 0x01, p[4095] = 0xc1; /* vmcall at the end of a page */
    (void)0;
    u8 *edge = page();
    map(0x7ffffffff000, (word)edge | 7);
    clear(edge, 4096);
    edge[4093] = 0x48, edge[4094] = 0xff, edge[4095] = 0xc0; /* inc %rax */
    word a = 1;
    caught.vector = NOTHING;
    ASM("movq $9f, caught; jmp *%1; 9: movq $0, caught", OUTS("+a"(a)), INS("c"(0x7ffffffffffdul)));
    check(caught.vector == GP && a == 2 && caught.ip == 0x800000000000, "running out of the canonical space is #GP behind the last instruction");
}

static void special(void)
{
    section("special");
    u16 msw = 0;
    word cr0 = get_cr0(), a = 0x1234567890abcdef;
    ASM("smsw %w0", OUTS("+a"(a)), NONE);
    check((u16)a == (u16)cr0 && a >> 16 == 0x1234567890ab, "SMSW of 16 bits");
    ASM("smswl %k0", OUTS("=a"(a)), NONE);
    equal(a, (u32)cr0, "SMSW of 32 bits");
    ASM("smswq %0", OUTS("=a"(a)), NONE);
    equal(a, cr0, "SMSW of 64 bits");
    *(volatile u64 *)io = 0x12345678abcdef;
    ASM("smsw (%0)", NONE, INS("r"(io)));
    equal(*(volatile u64 *)io, 0x12345678ab0000 | (u16)cr0, "SMSW to memory stores 16 bits");
    msw = cr0 ^ 8;
    ASM("lmsw %0", NONE, INS("r"(msw)));
    equal(get_cr0() ^ cr0, 8, "LMSW sets TS");
    msw = cr0;
    ASM("lmsw %0", NONE, INS("m"(msw)));
    equal(get_cr0(), cr0, "LMSW by memory clears it");
    msw = cr0 & ~1;
    ASM("lmsw %0", NONE, INS("r"(msw)));
    check(get_cr0() & 1, "LMSW does not clear PE");
    set_cr0(cr0 | CR0_TS);
    ASM("clts", NONE, NONE);
    equal(get_cr0(), cr0, "CLTS");
    u16 selector = 0, tr;
    *(volatile u16 *)io = 0;
    ASM("mov %%ss, %%edx; mov (%1), %%ss; mov %%ss, %0; mov %%edx, %%ss", OUTS("=&r"(selector)), INS("r"(io)), "edx");
    equal(selector, 0, "null SS by memory");
    *(volatile u16 *)io = 3;
    equal(ATTEMPT("mov (%0), %%ss", NONE, INS("r"(io))), GP, "null SS with RPL 3");
    ASM("str %0", OUTS("=r"(tr)), NONE);
    gdt[tr / 8] &= ~(1ull << 41);
    *(volatile u16 *)io = tr;
    ASM("ltr (%0)", NONE, INS("r"(io)));
    check(gdt[tr / 8] >> 41 & 1, "LTR by memory sets the busy bit");
    struct table t = {0, 0}, now;
    ASM("sgdt %0", OUTS("=m"(t)), NONE);
    *(volatile u16 *)(io + 0x100) = t.limit;
    *(volatile u64 *)(io + 0x102) = t.base;
    ASM("lgdt (%0)", NONE, INS("r"(io + 0x100)));
    ASM("sgdt %0", OUTS("=m"(now)), NONE);
    check(now.base == t.base && now.limit == t.limit, "LGDT by I/O memory");
    u8 *m = (u8 *)ram;
    extern char far_target[];
    *(u64 *)m = (word)far_target;
    *(u16 *)(m + 8) = CODE0;
    ASM("rex64 ljmp *(%0); ud2; far_target:", NONE, INS("r"(m)));
    check(1, "far JMP by memory");
    *(volatile u64 *)io = *(u64 *)m;
    *(volatile u16 *)(io + 8) = CODE0;
    extern char far_target2[];
    *(volatile u64 *)io = (word)far_target2;
    ASM("rex64 ljmp *(%0); ud2; far_target2:", NONE, INS("r"(io)));
    check(1, "far JMP by I/O memory");
    ASM("mov %0, %%rcx", NONE, INS("i"(0)), "rcx");
    ASM("movabs $0x9090909090909090, %0", OUTS("=c"(a)), NONE);
    equal(a, 0x9090909090909090, "MOV of a 64-bit immediate");
    set_dr6(0);
    equal(get_dr6(), 0xffff0ff0, "MOV DR6");
    word src = 3, dst = 777;
    ASM("mov %1, %%cr8; mov %%cr8, %0", OUTS("=r"(dst)), INS("r"(src)));
    check(dst == 3, "MOV CR8");
    set_cr8(0);
    equal(ATTEMPT("push %%rbp; pop %%rbp; .byte 0x8d, 0xc0", NONE, NONE), UD, "LEA of a register");
    u8 *code = page();
    static const u8 relative[] = {0xc6, 0x05, 0, 0, 0, 0, 1, 0xc3}; /* movb $1, disp(%rip); ret */
    copy(code, relative, 8);
    *(u32 *)(code + 2) = (u32)((word)ram + 2 - ((word)code + 7));
    *(volatile u32 *)ram = 0;
    ((void (*)(void))code)();
    equal(*(volatile u32 *)ram, 0x10000, "RIP-relative counts from the instruction's end");
    *(u32 *)(code + 2) = 0x1002 - 7;
    *(volatile u32 *)io = 0;
    map(0x7000002000, (word)code | 7);
    map(0x7000003000, IO | 7);
    ((void (*)(void))0x7000002000ul)();
    equal(*(volatile u32 *)io, 0x10000, "and to I/O memory");
    equal(ATTEMPT("cld; lock; rep movsb", NONE, INS("S"(ram), "D"(ram), "c"(1))), UD, "LOCK REP MOVSB");
    ASM("xor %%eax, %%eax; lahf; sahf; cmc", NONE, NONE, "rax");
    ASM("mov $0x80, %%ah; sahf; lahf; mov %%eax, %k0", OUTS("=r"(a)), NONE, "rax");
    equal(a >> 8 & 0xff, 0x82, "SAHF, LAHF");
    word rcx = 0x100000003, count = 0;
    ASM("1: inc %1; addr32 loop 1b", OUTS("+c"(rcx), "+r"(count)), NONE);
    check(count == 3 && rcx == 0, "LOOP with ECX");
    ASM("mov $0x100000000, %%rcx; xor %k0, %k0; jecxz 1f; inc %0; 1:", OUTS("=r"(count)), NONE, "rcx");
    equal(count, 0, "JECXZ looks at ECX");
    word si = 0x100000000 | (word)ram, di = 0x100000000 | (word)(ram + 64);
    rcx = 4;
    ASM("rep; addr32 movsb", OUTS("+S"(si), "+D"(di), "+c"(rcx)), NONE);
    check(si == (word)(ram + 4) && di == (word)(ram + 68), "string instructions of 32-bit addresses clear the upper halves");
    /* #MF by MMX */
    u16 control = 0x0300;
    equal(ATTEMPT("fninit; fldcw %0; fldz; fldz; fdivp; movq %%mm0, %1", NONE, INS("m"(control), "m"(ram))), MF, "MMX raises a pending #MF");
    ASM("fnclex; fninit; emms", NONE, NONE);
    /* ring 3 with a GS selector whose descriptor ring 3 must not have */
}

static word load_null_gs(word v)
{
    static u64 magic = 0xdeadbeefdeadbeef;
    word got = 0;
    word at = (word)&magic - 0x400000;
    ASM("mov %%gs:(%1), %0", OUTS("=r"(got)), INS("r"(at)));
    return got;
}

static void outer_return(void)
{
    section("return to ring 3");
    ASM("mov %0, %%gs", NONE, INS("r"(DATA0)));
    wrmsr(MSR_GS_BASE, 0x400000);
    word got = in_ring3(load_null_gs, 0);
    check(got == 0xdeadbeefdeadbeef, "IRET makes GS null and leaves its base");
    ASM("mov %0, %%gs", NONE, INS("r"(0)));
    wrmsr(MSR_GS_BASE, 0);
}

static void self_modifying(void)
{
    section("self-modifying code");
    u8 *code = page();
    u32 (*run)(void) = (u32 (*)(void))code;
    static const u8 first[] = {0xb8, 1, 0, 0, 0, 0xc3};
    copy(code, first, 6);
    equal(run(), 1, "as written");
    for (u32 n = 2; n < 200; n++) {
        code[1] = n;
        if (run() != n) {
            check(0, "changed to %u", n);
            return;
        }
    }
    check(1, "changed 198 times");
    /* the next instruction, in one straight run */
    static const u8 next[] = {
        0xc6, 0x05, 1, 0, 0, 0, 7,  /* movb $7, 1(%rip): the immediate of what follows */
        0xb8, 1, 0, 0, 0,           /* mov $1, %eax */
        0xc3,
    };
    copy(code + 64, next, sizeof next);
    equal(((u32 (*)(void))(code + 64))(), 7, "the instruction right behind");
    equal(((u32 (*)(void))(code + 64))(), 7, "and again");
    copy(code + 4090, first, 6);
    equal(((u32 (*)(void))(code + 4090))(), 1, "at the end of a page");
    /* by REP MOVSB over itself */
    copy(code, first, 6);
    run();
    static const u8 other[] = {0xb8, 0x55, 0, 0, 0, 0xc3};
    copy(code, other, 6);
    equal(run(), 0x55, "by a string instruction");
    static u8 image[16];
    ASM("movups (%1), %%xmm0; movups %%xmm0, (%0)", NONE, INS("r"(code), "r"(image)));
    *(u64 *)code = 0x00c300000066b8;
    *(u64 *)code = 0xc300000066b8;
    equal(run(), 0x66, "by a qword");
}

static volatile u32 go;
static u32 (*volatile shared)(void);
static volatile u32 answer;
static void run_shared(void *unused)
{
    answer = shared();
}

static void cross_modifying(void)
{
    if (cpu_count() < 2) {
        skip("cross-modifying code: one processor only");
        return;
    }
    section("cross-modifying code");
    u8 *code = page();
    static const u8 first[] = {0xb8, 1, 0, 0, 0, 0xc3};
    copy(code, first, 6);
    shared = (u32 (*)(void))code;
    start_processors();
    run_on(1, run_shared, 0);
    equal(answer, 1, "another processor runs it");
    int good = 1;
    for (u32 n = 2; n < 40; n++) {
        code[1] = n;
        run_on(1, run_shared, 0);
        good = good && answer == n;
    }
    check(good, "and sees what this one writes");
}

void test(void)
{
    string_io();
    strings(ram, "strings in RAM");
    strings((u8 *)IO + 4000, "strings in I/O memory");
    section("stack");
    stack(ram, "RAM");
    stack((u8 *)IO, "I/O memory");
    section("arithmetic");
    arithmetic(ram, "RAM");
    arithmetic((u8 *)IO, "I/O memory");
    arithmetic((u8 *)IO + 4092, "I/O memory, page's edge");
    section("vectors");
    vectors(ram, "RAM");
    vectors((u8 *)IO, "I/O memory");
    across();
    special();
    outer_return();
    self_modifying();
    cross_modifying();
}
