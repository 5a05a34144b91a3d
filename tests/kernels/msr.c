/* Model-specific registers: values, reserved bits, unknown ones, #GP (both widths). */
#include "kernel.h"

static void keeps(u32 index, u64 value, const char *name)
{
    u64 old = 0, now = 0;
    equal(try_rdmsr(index, &old), NOTHING, "%s: read", name);
    equal(try_wrmsr(index, value), NOTHING, "%s: write", name);
    try_rdmsr(index, &now);
    equal(now, value, "%s: kept", name);
    try_wrmsr(index, old);
}

static void refuses(u32 index, u64 value, const char *name)
{
    equal(try_wrmsr(index, value), GP, "%s: %X is #GP", name, value);
}

static void unknown(u32 index)
{
    u64 v;
    equal(try_rdmsr(index, &v), GP, "RDMSR %x is #GP", (word)index);
    equal(try_wrmsr(index, 0), GP, "WRMSR %x is #GP", (word)index);
}

#define ADDRESS 0x0000123456789abcull
#define BAD 0x8000000000000000ull

static word user_read(word v)
{
    return ATTEMPT("rdmsr", NONE, INS("c"((u32)v)), "eax", "edx");
}

void test(void)
{
    u64 v;
    section("values");
    keeps(0x174, 0x1234, "SYSENTER_CS");
    keeps(0x175, 0x12345678, "SYSENTER_ESP");
    keeps(0x176, 0x12345678, "SYSENTER_EIP");
    keeps(0x1a0, 0x1809, "MISC_ENABLE");
    keeps(0x277, 0x07070707, "PAT");
    keeps(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE, "EFER");
    keeps(0xc0000081, 0x0023001000000000, "STAR");
    keeps(0xc0000084, 0x47700, "SFMASK");
    keeps(0x2ff, 0xc06, "MTRR_DEF_TYPE");
    keeps(0x200, 0x80000006, "MTRR_PHYSBASE0");
    keeps(0x201, 0xfc0000800, "MTRR_PHYSMASK0");
    keeps(0x250, 0x0606060606060606, "MTRR_FIX64K");
    keeps(0x26f, 0x0505050505050505, "MTRR_FIX4K_F8000");
    keeps(0x3b, 0, "TSC_ADJUST");
    equal(try_rdmsr(0xfe, &v), NOTHING, "MTRRCAP");
    refuses(0xfe, 0, "MTRRCAP");
    equal(try_rdmsr(0x1d9, &v), NOTHING, "DEBUGCTL");
    equal(try_wrmsr(0x1d9, 0), NOTHING, "DEBUGCTL 0");
    equal(try_rdmsr(0x179, &v), NOTHING, "MCG_CAP");
    u32 banks = v & 0xff;
    print("%u machine-check banks\n", banks);
    for (u32 n = 0; n < banks; n++) {
        keeps(0x400 + 4 * n, 0, "MCi_CTL");
        keeps(0x400 + 4 * n, ~0ull, "MCi_CTL");
        keeps(0x401 + 4 * n, 0, "MCi_STATUS");
        refuses(0x401 + 4 * n, 1, "MCi_STATUS");
        keeps(0x402 + 4 * n, 0, "MCi_ADDR");
        keeps(0x402 + 4 * n, ~0ull, "MCi_ADDR");
        keeps(0x403 + 4 * n, 0, "MCi_MISC");
        keeps(0x403 + 4 * n, ~0ull, "MCi_MISC");
    }
    for (u32 n = banks; n < 32; n += 9)
        for (u32 k = 0; k < 4; k++)
            unknown(0x400 + 4 * n + k);

    section("refused values");
    refuses(0x277, 0x0207040600070406, "PAT with type 2");
    refuses(0x277, 0x0307040600070406, "PAT with type 3");
    refuses(0x277, 0x0807040600070406, "PAT with type 8");
    refuses(MSR_EFER, rdmsr(MSR_EFER) | 1ull << 1, "EFER bit 1");
    refuses(MSR_EFER, rdmsr(MSR_EFER) | 1ull << 63, "EFER bit 63");
    refuses(MSR_EFER, rdmsr(MSR_EFER) | 1ull << 12, "EFER.SVME");
    refuses(0x250, 0x0606060606060602, "MTRR_FIX64K with type 2");
    refuses(0x2ff, 0x1000, "MTRR_DEF_TYPE reserved bit");
    refuses(0x2ff, 2, "MTRR_DEF_TYPE type 2");
    refuses(0x200, 0x100, "MTRR_PHYSBASE0 reserved bit");
    refuses(0x200, 1ull << 52, "MTRR_PHYSBASE0 above MAXPHYADDR");
    refuses(0x201, 0x400, "MTRR_PHYSMASK0 reserved bit");

    section("addresses");
    static const struct { u32 index; const char *name; } addresses[] = {
        {MSR_FS_BASE, "FS_BASE"}, {MSR_GS_BASE, "GS_BASE"}, {0xc0000102, "KERNEL_GS_BASE"},
        {0xc0000082, "LSTAR"}, {0xc0000083, "CSTAR"},
    };
    for (u32 n = 0; n < 5; n++) {
        keeps(addresses[n].index, ADDRESS, addresses[n].name);
        keeps(addresses[n].index, 0xffff800000000000ull, addresses[n].name);
        refuses(addresses[n].index, BAD, addresses[n].name);
        refuses(addresses[n].index, 0x0000800000000000ull, addresses[n].name);
    }

    section("unknown");
    static const u32 gone[] = {0x2, 0x5, 0x100, 0x10c, 0x400 + 4 * 31, 0x480, 0x48f, 0x4b564d00, 0x4b564d06, 0x40000000,
        0x40000001, 0x570, 0x6a0, 0x6a2, 0x8ff, 0x900, 0xc0000085, 0xc0000105, 0xc0010117, 0xdeadbeef, 0xffffffff, 0x309, 0x38d};
    for (u32 n = 0; n < sizeof gone / 4; n++)
        unknown(gone[n]);
    unknown(0x11); /* KVM's own clock */
    unknown(0x12);

    section("ring 3");
    equal(in_ring3(user_read, 0x10), GP, "RDMSR of the TSC");
    equal(in_ring3(user_read, MSR_EFER), GP, "RDMSR of EFER");
#ifdef __x86_64__
    section("long mode");
    refuses(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_LME, "LME with paging on");
    refuses(MSR_EFER, rdmsr(MSR_EFER) & ~(EFER_LME | EFER_LMA), "LME and LMA with paging on");
    equal(try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_LMA), NOTHING, "LMA alone is ignored");
    check(rdmsr(MSR_EFER) & EFER_LMA, "and stays set");
    /* bases in use */
    static u64 data[2] = {0x1111, 0x2222};
    u64 seen;
    wrmsr(MSR_GS_BASE, (word)data);
    wrmsr(0xc0000102, (word)(data + 1));
    asm volatile("mov %%gs:0, %0" : "=r"(seen));
    equal(seen, 0x1111, "GS base");
    asm volatile("swapgs; mov %%gs:0, %0; swapgs" : "=r"(seen));
    equal(seen, 0x2222, "SWAPGS");
    asm volatile("mov %0, %%gs" : : "r"(DATA0));
    equal(rdmsr(MSR_GS_BASE), 0, "loading a selector loads the base of the descriptor");
    wrmsr(MSR_FS_BASE, (word)data);
    asm volatile("mov %0, %%fs" : : "r"(0));
    seen = rdmsr(MSR_FS_BASE);
    check(seen == 0 || (seen == (word)data && is_amd()), "a null selector clears the base on Intel");
    wrmsr(MSR_FS_BASE, 0);
    word cr4 = get_cr4();
    equal(ATTEMPT("rdfsbase %%rax", NONE, NONE, "rax"), UD, "RDFSBASE without CR4.FSGSBASE");
    set_cr4(cr4 | CR4_FSGSBASE);
    equal(ATTEMPT("wrfsbase %0; rdfsbase %0", OUTS("+r"((word){ADDRESS})), NONE), NOTHING, "WRFSBASE, RDFSBASE");
    equal(rdmsr(MSR_FS_BASE), ADDRESS, "they are the MSR");
    equal(ATTEMPT("wrgsbase %0", NONE, INS("r"(BAD))), GP, "WRGSBASE not canonical");
    asm volatile("wrgsbase %k0; rdgsbase %1" : : "r"(-1ul), "r"(0ul));
    equal(rdmsr(MSR_GS_BASE), 0xffffffff, "WRGSBASE of 32 bits");
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, 0);
    set_cr4(cr4);
#endif
}
