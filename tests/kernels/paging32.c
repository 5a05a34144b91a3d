/* 2-level and PAE paging: large pages, PSE-36, PDPTE registers, reserved bits, WP. 32-bit kernel.
 * SDM Vol. 3A, 4.3 and 4.4. */
#include "kernel.h"

#define AT 0x80005000u

static u32 *directory, *table, *frame;

static u32 reads(u32 at, u32 *value)
{
    u32 v = 0;
    u32 vector = ATTEMPT("mov (%1), %0", OUTS("=r"(v)), INS("r"(at)));
    *value = v;
    return vector;
}
static u32 writes(u32 at, u32 value)
{
    return ATTEMPT("mov %0, (%1)", NONE, INS("r"(value), "r"(at)));
}

static void faults_with(u32 vector, u32 error, const char *name)
{
    equal((u64)vector << 32 | caught.error, (u64)PF << 32 | error, "%s", name);
}

static void two_levels(void)
{
    u32 v;
    section("2-level paging");
    directory = page();
    table = page();
    frame = page();
    for (u32 n = 0; n < 1024; n++)
        directory[n] = n << 22 | 0x87;
    directory[512] = (u32)table | 7;
    table[5] = (u32)frame | 7;
    set_cr4(get_cr4() | CR4_PSE);
    set_cr3((u32)directory);
    set_cr0(get_cr0() | CR0_PG | CR0_WP);
    frame[0] = 0x1234;
    equal(reads(AT, &v), NOTHING, "4 KiB page");
    equal(v, 0x1234, "its value");
    check((table[5] & 0x60) == 0x20 && directory[512] & 0x20, "accessed, not dirty");
    writes(AT, 5);
    check((table[5] & 0x60) == 0x60, "dirty");
    faults_with(reads(AT + 0x1000, &v), 0, "absent PTE");
    equal(caught.address, AT + 0x1000, "CR2");
    faults_with(writes(AT + 0x1000, 0), 2, "absent PTE, write");
    table[5] &= ~2u;
    flush(AT);
    faults_with(writes(AT, 0), 3, "read-only PTE");
    set_cr0(get_cr0() & ~CR0_WP);
    equal(writes(AT, 7), NOTHING, "without WP ring 0 writes it");
    set_cr0(get_cr0() | CR0_WP);
    table[5] |= 2;
    directory[512] &= ~2u;
    flush(AT);
    faults_with(writes(AT, 0), 3, "read-only PDE");
    directory[512] |= 2;
    directory[514] = (u32)frame & 0xffc00000;
    directory[514] |= 0x87;
    flush(AT);
    u32 big = 514u << 22;
    equal(reads(big + ((u32)frame & 0x3fffff), &v), NOTHING, "4 MiB page");
    check(v == frame[0] && directory[514] & 0x20, "its value");
    directory[514] |= 1 << 21;
    flush(big);
    faults_with(reads(big, &v), 9, "bit 21 of a large PDE is reserved");
    directory[514] = ((u32)frame & 0xffc00000) | 0x87 | 1 << 12;
    flush(big);
    equal(reads(big, &v), NOTHING, "bit 12 is PAT");
    directory[514] = 0x87 | 1 << 13; /* PSE-36: 4 GiB up, where nothing is */
    flush(big);
    equal(reads(big, &v), NOTHING, "PSE-36");
    equal(v, 0xffffffff, "beyond RAM");
    directory[514] = 0;
    flush(big);
    faults_with(reads(big, &v), 0, "absent PDE");
    equal(reads(0xfee00030, &v), NOTHING, "the local APIC through a large page");
    check((v & 0xff) == 0x14, "its version");
    set_cr0(get_cr0() & ~CR0_PG);
}

static void pae(void)
{
    u32 v;
    section("PAE");
    u64 *pointers = page(), *directories = page(), *last = page(), *ptes = page();
    for (u32 n = 0; n < 512; n++)
        directories[n] = n << 21 | 0x87;
    for (u32 n = 0; n < 512; n++)
        last[n] = (0xc0000000u + (n << 21)) | 0x87;
    pointers[0] = (u32)directories | 1;
    pointers[3] = (u32)last | 1;
    u64 *third = page();
    pointers[2] = (u32)third | 1;
    third[0] = (u32)ptes | 7;
    ptes[5] = (u32)frame | 7;
    set_cr4((get_cr4() | CR4_PAE) & ~CR4_PSE);
    set_cr3((u32)pointers);
    set_cr0(get_cr0() | CR0_PG);
    frame[0] = 0x4321;
    equal(reads(AT, &v), NOTHING, "4 KiB page");
    equal(v, 0x4321, "its value");
    faults_with(reads(0x40000000, &v), 0, "absent PDPTE");
    pointers[1] = (u32)directories | 1;
    faults_with(reads(0x40000000, &v), 0, "PDPTEs are read with CR3");
    set_cr3((u32)pointers);
    equal(reads(0x40000000, &v), NOTHING, "after that it is there");
    pointers[1] |= 2;
    equal(try_cr3((u32)pointers), GP, "a reserved bit in a PDPTE is #GP of MOV CR3");
    pointers[1] = (u32)directories | 1 | 1ull << 63;
    equal(try_cr3((u32)pointers), GP, "so is bit 63");
    pointers[1] = 0;
    equal(try_cr3((u32)pointers), NOTHING, "absent is none");
    ptes[5] |= P_NX;
    flush(AT);
    faults_with(reads(AT, &v), 9, "NX is reserved without EFER.NXE");
    wrmsr(MSR_EFER, EFER_NXE);
    flush(AT);
    equal(reads(AT, &v), NOTHING, "and not with it");
    u8 *code = (u8 *)frame;
    code[0] = 0xc3;
    u32 vector = ATTEMPT("mov $8f, %%edx; jmp *%0; 8:", NONE, INS("c"(AT)), "edx");
    faults_with(vector, 0x11, "fetch from an NX page");
    ptes[5] = (u32)frame | 7 | 1ull << 55;
    flush(AT);
    faults_with(reads(AT, &v), 9, "bit 55 is reserved");
    ptes[5] = (u32)frame | 7 | 1ull << 51;
    flush(AT);
    faults_with(reads(AT, &v), 9, "bit 51, above MAXPHYADDR, too");
    ptes[5] = (u32)frame | 7;
    third[1] = ((u32)frame & 0xffe00000) | 0x87;
    flush(0x80200000);
    equal(reads(0x80200000 + ((u32)frame & 0x1fffff), &v), NOTHING, "2 MiB page");
    third[1] |= 1 << 13;
    flush(0x80200000);
    faults_with(reads(0x80200000, &v), 9, "bit 13 of a large PDE is reserved");
    third[1] = 0;
}

static word user_touch(word at)
{
    u32 v;
    return reads(at, &v);
}

static void users(void)
{
    section("ring 3");
    for (u32 n = 0; n < 1024; n++)
        directory[n] = n << 22 | 0x87;
    directory[512] = (u32)table | 7;
    table[5] = (u32)frame | 3;
    set_cr4(get_cr4() | CR4_PSE);
    set_cr3((u32)directory);
    set_cr0(get_cr0() | CR0_PG);
    equal(in_ring3(user_touch, AT), PF, "supervisor page");
    equal(caught.error, 5, "error code");
    table[5] |= 4;
    flush(AT);
    equal(in_ring3(user_touch, AT), NOTHING, "user page");
    directory[512] &= ~4u;
    flush(AT);
    equal(in_ring3(user_touch, AT), PF, "user PTE in a supervisor PDE");
    directory[512] |= 4;
    set_cr0(get_cr0() & ~CR0_PG);
}

static void memory_sweep(void)
{
    /* many mappings of one page, as a shadow pager would have to track them */
    section("many mappings of one page");
    u32 *tables[8];
    for (u32 n = 0; n < 8; n++) {
        tables[n] = page();
        directory[600 + n] = (u32)tables[n] | 7;
        for (u32 k = 0; k < 1024; k++)
            tables[n][k] = (u32)frame | 7;
    }
    set_cr4((get_cr4() | CR4_PSE) & ~CR4_PAE);
    set_cr3((u32)directory);
    set_cr0(get_cr0() | CR0_PG);
    frame[7] = 0;
    for (u32 at = 600u << 22; at < 608u << 22; at += 4096)
        ++*(volatile u32 *)(at + 28);
    equal(frame[7], 8192, "written through each of 8192 pages");
    set_cr0(get_cr0() & ~CR0_PG);
}

void test(void)
{
    two_levels();
    /* CR4.PAE can only be left with valid 2-level tables in CR3: done with paging off */
    pae();
    set_cr0(get_cr0() & ~CR0_PG);
    set_cr4(get_cr4() & ~CR4_PAE);
    wrmsr(MSR_EFER, 0);
    users();
    memory_sweep();
}
