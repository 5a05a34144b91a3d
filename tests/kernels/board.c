/* What the machine says of itself and what the testdev board has (both widths). */
#include "kernel.h"

static void multiboot(void)
{
    u32 *info = (u32 *)boot_info;
    section("multiboot");
    equal(boot_magic, 0x2badb002, "magic in EAX");
    check(info[0] & 1, "memory sizes given");
    check(info[1] >= 600 && info[1] <= 640, "lower memory in KiB");
    equal(info[2], ram_size() / 1024 - 1024, "upper memory in KiB");
    check(info[0] >> 2 & 1, "command line given");
    print("cmdline: %s\n", (char *)(word)info[4]);
    check(*(char *)(word)info[4] != 0, "its first word is a program name");
    check(info[0] >> 6 & 1, "memory map given");
    u64 usable = 0;
    for (u32 at = info[12]; at < info[12] + info[11];) {
        u32 *e = (u32 *)(word)at;
        if (e[5] == 1)
            usable += e[3] | (u64)e[4] << 32;
        at += e[0] + 4;
    }
    check(usable > ram_size() - 0x200000 && usable <= ram_size(), "the map's usable RAM is about all");
}

static void firmware_configuration(void)
{
    section("fw_cfg");
    char name[5] = "";
    out16(0x510, 0);
    for (int n = 0; n < 4; n++)
        name[n] = in8(0x511);
    check(same(name, "QEMU", 4), "signature");
    check(cpu_count() >= 1 && cpu_count() <= CPUS, "number of CPUs");
    out16(0x510, 5);
    u16 first = in8(0x511);
    in8(0x511);
    out16(0x510, 5);
    equal(in8(0x511), first, "selecting again starts from the first byte");
    out16(0x510, 0x7777);
    equal(in8(0x511), 0, "unknown keys read zeros");
}

static void ports(void)
{
    section("testdev ports");
    out8(0xe0, 0x12);
    equal(in8(0xe0), 0x12, "latch: byte");
    out16(0xe0, 0x3456);
    equal(in16(0xe0), 0x3456, "latch: word");
    out32(0xe0, 0x789abcde);
    equal(in32(0xe0), 0x789abcde, "latch: dword");
    equal(in8(0xe0), 0xde, "latch: its low byte");
    out32(0xe4, 0x1000);
    check(1, "page flush accepted");
    equal(in32(0x1234) & 0xffffffff, 0xffffffff, "a port that nobody has reads all ones");
    out8(0x80, 0x5a);
    equal(in8(0x4d0) & 0xf8, in8(0x4d0), "ELCR: lines 0-2 are edge");
}

static void memory(void)
{
    section("testdev I/O memory");
#ifdef __x86_64__
    volatile u8 *io = (volatile u8 *)0xff000000ul;
    for (int n = 0; n < 16; n++)
        io[n] = 0x10 + n;
    equal(*(volatile u16 *)(io + 2), 0x1312, "word");
    equal(*(volatile u32 *)(io + 4), 0x17161514, "dword");
    equal(*(volatile u64 *)(io + 8), 0x1f1e1d1c1b1a1918, "qword");
    equal(*(volatile u32 *)(io + 3), 0x16151413, "unaligned dword");
    *(volatile u64 *)(io + 5) = 0x8877665544332211;
    equal(*(volatile u64 *)(io + 5), 0x8877665544332211, "unaligned qword written");
    equal(io[4], 0x14, "its neighbour below");
    equal(io[13], 0x1d, "its neighbour above");
#else
    volatile u8 *io = (volatile u8 *)0xff000000ul;
    for (int n = 0; n < 16; n++)
        io[n] = 0x10 + n;
    equal(*(volatile u16 *)(io + 2), 0x1312, "word");
    equal(*(volatile u32 *)(io + 4), 0x17161514, "dword");
    equal(*(volatile u32 *)(io + 3), 0x16151413, "unaligned dword");
#endif
}

static void identity(void)
{
    section("CPUID");
    struct cpuid r = cpuid(0, 0);
    check(r.b == 0x756e6547 || r.b == 0x68747541, "GenuineIntel or AuthenticAMD");
    check(r.a >= 0xd, "basic leaves reach XSAVE");
    r = cpuid(1, 0);
    check(r.c >> 31, "hypervisor bit");
    equal(r.b >> 24, 0, "initial APIC id of the first processor");
    check(!(r.c & 1 << 5) && !(r.c & 1 << 3), "no VMX, no MONITOR");
    check(!(r.c & 1 << 15), "no PDCM");
    check(!(r.c & 1 << 28), "no AVX");
    check(r.d & 1, "x87");
    check((r.d & 0x0f808b79 & ~(1 << 18)) , "some features");
    r = cpuid(0x40000000, 0);
    check(r.b != 0x4b4d564b, "the hypervisor does not say KVMKVMKVM");
    check(r.b != 0x7263694d, "nor Microsoft Hv");
    equal(r.a, 0x40000000, "and has no further leaves");
    u32 max = cpuid(0, 0).a;
    if (max >= 0xa)
        equal(cpuid(0xa, 0).a & 0xff, 0, "no architectural PMU");
    r = cpuid(7, 0);
    check(!(r.c & 1 << 16), "no LA57");
    check(!(r.c & 1 << 7) && !(r.d & 1 << 20), "no CET");
    check(!(r.b & 1 << 11) && !(r.b & 1 << 4), "no TSX");
    check(!(r.c & 1u << 31), "no PKS");
    check(!(r.b & 1 << 5) && !(r.b & 1 << 16), "no AVX2, no AVX-512");
    r = cpuid(7, 1);
    check(!(r.a & 1 << 26), "no LAM");
    r = cpuid(0x80000001, 0);
    check(!(r.c & 1 << 2), "no SVM");
    check(r.d >> 29 & 1, "long mode");
    check(r.d >> 20 & 1, "NX");
    r = cpuid(0x80000008, 0);
    check((r.a & 0xff) >= 36 && (r.a & 0xff) <= 52, "physical address bits");
    equal(r.a >> 8 & 0xff, 48, "linear address bits");
    check(!(cpuid(0x80000007, 0).c), "no further advanced features");
    r = cpuid(0xd, 0);
    check((r.a & 3) == 3, "XCR0: x87 and SSE");
    check(!(r.a & 4), "XCR0: no AVX");
}

static void odd_instructions(void)
{
    section("odd instructions");
    check(ATTEMPT("ud2; .ascii \"kvm\"", NONE, NONE) == UD, "ud2 \"kvm\" is #UD");
    check(ATTEMPT(".byte 0x0f, 0x0b", NONE, NONE) == UD, "ud2");
    check(ATTEMPT(".byte 0x0f, 0xb9, 0xc0", NONE, NONE) == UD, "ud1");
    check(ATTEMPT(".byte 0x0f, 0xff, 0xc0", NONE, NONE) == UD, "ud0");
    /* vmcall and vmmcall leave to the VMM: an unknown number must come back */
    word a = (word)-1;
    u32 vector = ATTEMPT("vmcall", OUTS("+a"(a)), NONE);
    check(vector == NOTHING || vector == UD, "vmcall comes back or is #UD");
    a = (word)-1;
    vector = ATTEMPT("vmmcall", OUTS("+a"(a)), NONE);
    check(vector == NOTHING || vector == UD, "vmmcall comes back or is #UD");
    check(ATTEMPT("vmxoff", NONE, NONE) == UD, "vmxoff without VMX");
    check(ATTEMPT("vmrun", NONE, INS("a"(0))) == UD, "vmrun without SVM");
    check(ATTEMPT("stgi", NONE, NONE) == UD, "stgi without SVM");
    check(ATTEMPT("clgi", NONE, NONE) == UD, "clgi without SVM");
    check(ATTEMPT("monitor", NONE, INS("a"(&caught), "c"(0), "d"(0))) == UD, "monitor without it");
    check(ATTEMPT("mwait", NONE, INS("a"(0), "c"(0))) == UD, "mwait without it");
    check(ATTEMPT(".byte 0xc5, 0xf8, 0x77", NONE, NONE) == UD, "vzeroupper without AVX");
    check(ATTEMPT(".byte 0x0f, 0x01, 0xd5", NONE, NONE) == UD, "xend without TSX");
    check(ATTEMPT(".byte 0x0f, 0xc7, 0xf0", NONE, NONE) == UD || cpuid(1, 0).c >> 30 & 1, "rdrand is claimed or #UD");
    check(ATTEMPT(".byte 0x0f, 0xc7, 0xf8", NONE, NONE) == UD || cpuid(7, 0).b >> 18 & 1, "rdseed is claimed or #UD");
    check(ATTEMPT(".byte 0x0f, 0xaa", NONE, NONE) == UD, "rsm outside SMM");
    check(ATTEMPT(".byte 0x0f, 0x01, 0xfd", NONE, INS("c"(0))) == UD, "rdpru without it");
    check(ATTEMPT(".byte 0x0f, 0x37", NONE, INS("a"(0))) == UD, "getsec without it");
    check(ATTEMPT(".byte 0x0f, 0x04", NONE, NONE) == UD, "0f 04");
}

void test(void)
{
    multiboot();
    firmware_configuration();
    ports();
    memory();
    identity();
    odd_instructions();
}
