/* XSAVE, UMIP, PKU, PCID and INVPCID, SMAP's instructions, cache and memory hints: claimed means working,
 * not claimed means #UD or #GP. */
#include "kernel.h"

static u8 area[4096] __attribute__((aligned(64)));

static u32 try_xsetbv(u32 index, u64 v)
{
    return ATTEMPT("xsetbv", NONE, INS("c"(index), "a"((u32)v), "d"((u32)(v >> 32))));
}
static u32 try_xgetbv(u64 index, u64 *v)
{
    u32 lo = 0, hi = 0;
    u32 vector = ATTEMPT("xgetbv", OUTS("+a"(lo), "+d"(hi)), INS("c"(index)));
    *v = (u64)hi << 32 | lo;
    return vector;
}

static word user_xsetbv(word v)
{
    return try_xsetbv(0, 3);
}

static void xsave(void)
{
    word cr4 = get_cr4();
    u64 v;
    section("XSAVE");
    set_cr4(cr4 & ~CR4_OSXSAVE);
    check(!(cpuid(1, 0).c >> 27 & 1), "OSXSAVE clear without CR4.OSXSAVE");
    equal(try_xgetbv(0, &v), UD, "XGETBV without OSXSAVE");
    equal(try_xsetbv(0, 3), UD, "XSETBV without OSXSAVE");
    equal(ATTEMPT("xsave %0", NONE, INS("m"(area), "a"(3), "d"(0))), UD, "XSAVE without OSXSAVE");
    if (!(cpuid(1, 0).c >> 26 & 1)) {
        equal(try_cr4(cr4 | CR4_OSXSAVE), GP, "CR4.OSXSAVE without XSAVE");
        return;
    }
    set_cr4(cr4 | CR4_OSXSAVE);
    check(cpuid(1, 0).c >> 27 & 1, "OSXSAVE set");
    u64 supported = cpuid(0xd, 0).a;
    check((supported & 3) == 3, "x87 and SSE in XCR0");
    static const u64 good[] = {1, 3};
    for (u32 n = 0; n < 2; n++) {
        equal(try_xsetbv(0, good[n]), NOTHING, "XCR0 = %X", good[n]);
        equal(try_xgetbv(0, &v), NOTHING, "read");
        equal(v, good[n], "the same");
        equal(try_xgetbv(0x1234500000000ull, &v), NOTHING, "RCX above 31 does not count");
        equal(cpuid(0xd, 0).b, 576, "CPUID: area of what is enabled");
    }
    static const u64 bad[] = {0, 2, 4, 5, 7 | 1ull << 63, 8, 16, 3 | 1 << 10, 3ull | 1ull << 32};
    for (u32 n = 0; n < sizeof bad / 8; n++)
        if (bad[n] & ~supported || !(bad[n] & 1))
            equal(try_xsetbv(0, bad[n]), GP, "XCR0 = %X is #GP", bad[n]);
    for (u32 n = 1; n < 32; n++) {
        if (n != 1 && try_xgetbv(n, &v) != GP)
            check(0, "XGETBV(%u) is #GP", n);
        if (try_xsetbv(n, 1) != GP || try_xgetbv(1u << n, &v) != GP || try_xsetbv(1u << n, 3) != GP)
            check(0, "XCR %u, XCR 1 << %u are #GP", n, n);
    }
    check(1, "other XCRs were tried");
    equal(in_ring3(user_xsetbv, 0), GP, "XSETBV in ring 3");
    equal(try_xsetbv(0, 3), NOTHING, "XCR0 = 3 again");
    for (int n = 0; n < 4096; n++)
        area[n] = 0xcc;
    clear(area + 512, 64);
    equal(ATTEMPT("fninit; pcmpeqd %%xmm3, %%xmm3; xsave %0; pxor %%xmm3, %%xmm3", NONE, INS("m"(area), "a"(3), "d"(0))), NOTHING, "XSAVE");
    check((area[512] & 2) == 2, "XSTATE_BV has SSE");
    equal(*(u64 *)(area + 160 + 48), ~0ull, "XMM3 is in the area");
    u64 low = 0;
    equal(ATTEMPT("xrstor %1; movq %%xmm3, %0", OUTS("=m"(low)), INS("m"(area), "a"(3), "d"(0))), NOTHING, "XRSTOR");
    equal(low, ~0ull, "XMM3 is back");
    area[512] = 0;
    equal(ATTEMPT("xrstor %1; movq %%xmm3, %0", OUTS("=m"(low)), INS("m"(area), "a"(3), "d"(0))), NOTHING, "XRSTOR of nothing");
    equal(low, 0, "initialises XMM3");
    area[512] = 4;
    equal(ATTEMPT("xrstor %0", NONE, INS("m"(area), "a"(7), "d"(0))), GP, "XRSTOR of a component that is not enabled");
    area[512] = 3;
    area[520] = 1;
    equal(ATTEMPT("xrstor %0", NONE, INS("m"(area), "a"(3), "d"(0))), GP, "XRSTOR: XCOMP_BV");
    area[520] = 0;
    equal(ATTEMPT("xsave (%0)", NONE, INS("r"(area + 32), "a"(3), "d"(0))), GP, "XSAVE not aligned to 64");
    equal(ATTEMPT("xsaveopt %0", NONE, INS("m"(area), "a"(3), "d"(0))), cpuid(0xd, 1).a & 1 ? NOTHING : UD, "XSAVEOPT as claimed");
    equal(ATTEMPT("xsavec %0", NONE, INS("m"(area), "a"(3), "d"(0))), cpuid(0xd, 1).a & 2 ? NOTHING : UD, "XSAVEC as claimed");
    equal(ATTEMPT("xsaves %0", NONE, INS("m"(area), "a"(3), "d"(0))), cpuid(0xd, 1).a & 8 ? NOTHING : UD, "XSAVES as claimed");
    equal(try_xgetbv(1, &v), cpuid(0xd, 1).a & 4 ? NOTHING : GP, "XGETBV(1) as claimed");
    equal(ATTEMPT(".byte 0xf0; xsave %0", NONE, INS("m"(area), "a"(3), "d"(0))), UD, "lock xsave");
    set_cr0(get_cr0() | CR0_TS);
    equal(ATTEMPT("xsave %0", NONE, INS("m"(area), "a"(3), "d"(0))), NM, "XSAVE with TS");
    set_cr0(get_cr0() & ~CR0_TS);
    set_cr4(cr4);
    check((cpuid(1, 0).c >> 27 & 1) == !!(cr4 & CR4_OSXSAVE), "OSXSAVE follows CR4");
}

/* --- UMIP */

static struct table table;
static word umip_set(word v)
{
    word got = 0;
    got |= (ATTEMPT("smsw %%ax", NONE, NONE, "ax") == GP) << 0;
    got |= (ATTEMPT("sgdt %0", OUTS("=m"(table)), NONE) == GP) << 1;
    got |= (ATTEMPT("sidt %0", OUTS("=m"(table)), NONE) == GP) << 2;
    got |= (ATTEMPT("sldt %%ax", NONE, NONE, "ax") == GP) << 3;
    got |= (ATTEMPT("str %%ax", NONE, NONE, "ax") == GP) << 4;
    return got;
}

static void umip(void)
{
    word cr4 = get_cr4();
    section("UMIP");
    equal(umip_set(0), 0, "ring 0 without UMIP");
    equal(in_ring3(umip_set, 0), 0, "ring 3 without UMIP");
    if (!(cpuid(7, 0).c >> 2 & 1)) {
        equal(try_cr4(cr4 | CR4_UMIP), GP, "CR4.UMIP without UMIP");
        return;
    }
    set_cr4(cr4 | CR4_UMIP);
    equal(umip_set(0), 0, "ring 0 with UMIP");
    equal(in_ring3(umip_set, 0), 0x1f, "ring 3 with UMIP: all five");
    set_cr4(cr4);
}

/* --- PKU */

static word rdpkru3(word v)
{
    u32 a = 0, d = 1;
    word vector = ATTEMPT("rdpkru", OUTS("=a"(a), "=d"(d)), INS("c"(0)));
    return vector == NOTHING ? a : vector << 32;
}

static void pku(void)
{
    word cr4 = get_cr4();
    section("PKU");
    set_cr4(cr4 & ~CR4_PKE);
    equal(ATTEMPT("rdpkru", NONE, INS("c"(0)), "eax", "edx"), UD, "RDPKRU without CR4.PKE");
    equal(ATTEMPT("wrpkru", NONE, INS("a"(0), "c"(0), "d"(0))), UD, "WRPKRU without CR4.PKE");
    if (!(cpuid(7, 0).c >> 3 & 1)) {
        equal(try_cr4(cr4 | CR4_PKE), GP, "CR4.PKE without PKU");
        return;
    }
    check(!(cpuid(7, 0).c >> 4 & 1), "OSPKE clear");
    set_cr4(cr4 | CR4_PKE);
    check(cpuid(7, 0).c >> 4 & 1, "OSPKE set");
    equal(ATTEMPT("wrpkru", NONE, INS("a"(0x5a5a5a58), "c"(0), "d"(0))), NOTHING, "WRPKRU");
    u32 a = 0, d = 7;
    equal(ATTEMPT("rdpkru", OUTS("=a"(a), "=d"(d)), INS("c"(0))), NOTHING, "RDPKRU");
    check(a == 0x5a5a5a58 && d == 0, "the value, EDX 0");
    equal(ATTEMPT("rdpkru", NONE, INS("c"(1)), "eax", "edx"), GP, "RDPKRU with ECX 1");
    equal(ATTEMPT("wrpkru", NONE, INS("a"(0), "c"(1), "d"(0))), GP, "WRPKRU with ECX 1");
    equal(ATTEMPT("wrpkru", NONE, INS("a"(0), "c"(0), "d"(1))), GP, "WRPKRU with EDX 1");
    equal(in_ring3(rdpkru3, 0), 0x5a5a5a58, "RDPKRU in ring 3");
    equal(ATTEMPT("wrpkru", NONE, INS("a"(0), "c"(0), "d"(0))), NOTHING, "WRPKRU 0");
    set_cr4(cr4);
}

/* --- PCID */

struct invpcid { u64 pcid, address; };
static u32 try_invpcid(u64 type, u64 pcid, u64 address)
{
    struct invpcid d = {pcid, address};
    return ATTEMPT("invpcid %0, %1", NONE, INS("m"(d), "r"(type)));
}
static word invpcid3(word v)
{
    return try_invpcid(2, 0, 0);
}

static void pcid(void)
{
    word cr0 = get_cr0(), cr3 = get_cr3(), cr4 = get_cr4();
    section("PCID");
    int has = cpuid(1, 0).c >> 17 & 1, inv = cpuid(7, 0).b >> 10 & 1;
    if (!has)
        equal(try_cr4(cr4 | CR4_PCIDE), GP, "CR4.PCIDE without PCID");
    else {
        set_cr3(cr3 | 1 << 3);
        equal(try_cr4(cr4 | CR4_PCIDE), GP, "CR4.PCIDE while CR3[11:0] is not 0");
        set_cr3(cr3);
        equal(try_cr4(cr4 | CR4_PCIDE), NOTHING, "CR4.PCIDE");
        equal(try_cr0(cr0 & ~CR0_PG), GP, "paging off with PCIDE");
        equal(try_cr3(cr3 | 5), NOTHING, "CR3 with PCID 5");
        equal(get_cr3(), cr3 | 5, "kept");
        equal(try_cr3(cr3 | 6 | 1ull << 63), NOTHING, "CR3 with bit 63");
        equal(get_cr3(), cr3 | 6, "bit 63 is not kept");
        set_cr3(cr3);
    }
    if (!inv) {
        set_cr4(cr4);
        equal(try_invpcid(2, 0, 0), UD, "INVPCID not claimed");
        return;
    }
    for (u64 type = 0; type < 4; type++)
        equal(try_invpcid(type, 0, 0), NOTHING, "INVPCID %u", (u32)type);
    equal(try_invpcid(4, 0, 0), GP, "INVPCID 4");
    equal(try_invpcid(1, 1 << 12, 0), GP, "INVPCID: reserved bits");
    equal(try_invpcid(0, 0, 0x800000000000), GP, "INVPCID 0: address not canonical");
    equal(try_invpcid(1, 0, 0x800000000000), NOTHING, "INVPCID 1 has no address");
    equal(in_ring3(invpcid3, 0), GP, "INVPCID in ring 3");
    if (has)
        equal(try_invpcid(1, 10, 0), NOTHING, "INVPCID 1 of PCID 10 with PCIDE");
    set_cr4(cr4);
    equal(try_invpcid(1, 0, 0), NOTHING, "INVPCID 1 of PCID 0 without PCIDE");
    equal(try_invpcid(1, 1, 0), GP, "INVPCID 1 of PCID 1 without PCIDE");
    equal(try_invpcid(2, 0, 0), NOTHING, "INVPCID 2 without PCIDE");
}

/* --- SMAP */

static word stac3(word v)
{
    return ATTEMPT("stac", NONE, NONE);
}

static void smap(void)
{
    word cr4 = get_cr4();
    section("STAC, CLAC");
    if (!(cpuid(7, 0).b >> 20 & 1)) {
        equal(ATTEMPT("stac", NONE, NONE), UD, "STAC not claimed");
        equal(try_cr4(cr4 | CR4_SMAP), GP, "CR4.SMAP not claimed");
        return;
    }
    asm volatile("stac");
    check(get_flags() & F_AC, "STAC");
    asm volatile("clac");
    check(!(get_flags() & F_AC), "CLAC");
    equal(in_ring3(stac3, 0), UD, "STAC in ring 3 is #UD");
    equal(ATTEMPT(".byte 0xf0; stac", NONE, NONE), UD, "lock stac");
    /* a supervisor access by a gate to a user page is forbidden whatever AC says; POPF and IRET change AC */
    set_flags(get_flags() | F_AC);
    check(get_flags() & F_AC, "POPF sets AC");
    set_flags(get_flags() & ~F_AC);
}

static void hints(void)
{
    section("cache and memory instructions");
    u32 ebx7 = cpuid(7, 0).b;
    equal(ATTEMPT("clflush (%0)", NONE, INS("r"(area))), cpuid(1, 0).d >> 19 & 1 ? NOTHING : UD, "CLFLUSH");
    equal(ATTEMPT("clflush (%0)", NONE, INS("r"(0x8000000000ul))), PF, "CLFLUSH of nothing");
    equal(ATTEMPT("sfence", NONE, NONE), NOTHING, "SFENCE");
    equal(ATTEMPT("lfence", NONE, NONE), NOTHING, "LFENCE");
    equal(ATTEMPT("mfence", NONE, NONE), NOTHING, "MFENCE");
    equal(ATTEMPT(".byte 0x66, 0x0f, 0xae, 0x3b", NONE, INS("b"(area))), ebx7 >> 23 & 1 ? NOTHING : UD, "CLFLUSHOPT");
    equal(ATTEMPT(".byte 0x66, 0x0f, 0xae, 0x33", NONE, INS("b"(area))), ebx7 >> 24 & 1 ? NOTHING : UD, "CLWB");
    equal(ATTEMPT(".byte 0x66, 0x0f, 0xae, 0xf0", NONE, NONE), UD, "a CLWB of a register is none");
    equal(ATTEMPT(".byte 0x66, 0x0f, 0xae, 0xf8", NONE, NONE), UD, "PCOMMIT is none");
    equal(ATTEMPT("pause", NONE, NONE), NOTHING, "PAUSE");
    equal(ATTEMPT("prefetcht0 (%0)", NONE, INS("r"(0x8000000000ul))), NOTHING, "PREFETCHT0 never faults");
    equal(ATTEMPT("prefetchw (%0)", NONE, INS("r"(0x8000000000ul))), NOTHING, "PREFETCHW never faults");
    equal(ATTEMPT("wbinvd", NONE, NONE), NOTHING, "WBINVD");
    equal(ATTEMPT("invd", NONE, NONE), NOTHING, "INVD");
    equal(ATTEMPT(".byte 0xf3; wbinvd", NONE, NONE), NOTHING, "WBNOINVD, where it is none, is WBINVD");
    equal(ATTEMPT("nopl (%0)", NONE, INS("r"(0x8000000000ul))), NOTHING, "long NOP");
    equal(ATTEMPT(".byte 0xf3, 0x0f, 0x1e, 0xfa", NONE, NONE), NOTHING, "ENDBR64 is a NOP");
    equal(ATTEMPT("monitor", NONE, INS("a"(area), "c"(0), "d"(0))), UD, "MONITOR is not claimed");
}

static void absent(void)
{
    word cr4 = get_cr4();
    section("not claimed, refused");
    equal(try_cr4(cr4 | 1ul << 12), GP, "LA57");
    equal(try_cr4(cr4 | 1ul << 23), GP, "CET");
    equal(try_cr4(cr4 | 1ul << 24), GP, "PKS");
    equal(try_cr4(cr4 | 1ul << 13), GP, "VMX");
    equal(try_cr4(cr4 | 1ul << 14), GP, "SMX");
    equal(try_cr4(cr4 | 1ul << 25), GP, "UINTR");
    equal(try_cr4(cr4 | 1ul << 28), GP, "LAM_SUP");
    equal(try_cr3(get_cr3() | 1ul << 61), GP, "LAM_U57 in CR3");
    equal(try_cr3(get_cr3() | 1ul << 62), GP, "LAM_U48 in CR3");
    u64 v;
    equal(try_rdmsr(0x6e1, &v), GP, "IA32_PKRS");
    equal(try_rdmsr(0x6a2, &v), GP, "S_CET");
    equal(try_rdmsr(0x38f, &v), GP, "PERF_GLOBAL_CTRL");
    equal(try_rdmsr(0x122, &v), GP, "TSX_CTRL");
    equal(ATTEMPT(".byte 0xf3, 0x0f, 0x01, 0xe8", NONE, NONE), UD, "SETSSBSY");
    equal(ATTEMPT("xbegin 7f; 7:", NONE, NONE), UD, "XBEGIN");
    equal(ATTEMPT("xtest", NONE, NONE), UD, "XTEST");
    equal(ATTEMPT("rdpmc", NONE, INS("c"(0x40000000)), "eax", "edx"), GP, "RDPMC of a fixed counter");
    equal(ATTEMPT("vpxor %%xmm0, %%xmm0, %%xmm0", NONE, NONE), UD, "AVX");
    equal(ATTEMPT("aesenc %%xmm0, %%xmm1", NONE, NONE), cpuid(1, 0).c >> 25 & 1 ? NOTHING : UD, "AES as claimed");
    equal(ATTEMPT("pclmulqdq $0, %%xmm0, %%xmm1", NONE, NONE), cpuid(1, 0).c >> 1 & 1 ? NOTHING : UD, "PCLMULQDQ as claimed");
    equal(ATTEMPT("sha1nexte %%xmm0, %%xmm1", NONE, NONE), cpuid(7, 0).b >> 29 & 1 ? NOTHING : UD, "SHA as claimed");
    equal(ATTEMPT(".byte 0x0f, 0x38, 0xf0, 0xc0", NONE, NONE), UD, "MOVBE of a register");
}

void test(void)
{
    xsave();
    umip();
    pku();
    pcid();
    smap();
    hints();
    absent();
}
