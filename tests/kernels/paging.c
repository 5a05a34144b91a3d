/* Permissions of 4-level paging: every combination against a model written from SDM Vol. 3A, 4.6 and 4.7.
 *
 * The kernel's own image lies below 8 MiB and is made supervisor-only for this test, so that SMEP and SMAP
 * can be on; ring 3 runs in a page at 16 MiB. The page under test is physical 32 MiB, seen at TARGET.
 * The command line word "quick" leaves most settings of the control registers out, "long" multiplies the cases.
 */
#include "kernel.h"

#define TARGET 0xffff923400000000ul
#define FRAME 0x2000000ul
#define RING3 0x1000000ul

enum { READ, WRITE, FETCH };
extern u32 access(word at, int kind, int user);
extern char ring3_code[], ring3_code_end[], on_page_fault[], on_done[];
volatile word access_sp, access_error, access_at;

asm(".text\n"
    ".globl access\n"
    "access: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "    mov %rsp, access_sp\n"
    "    movq $-1, access_error\n"
    "    movabs $0xc3c3c3c3c3c3c3c3, %rax\n"
    "    test %edx, %edx\n"
    "    jnz 3f\n"
    "    cmp $1, %esi\n"
    "    je 1f\n"
    "    ja 2f\n"
    "    mov (%rdi), %rax\n"
    "    jmp access_end\n"
    "1:  mov %rax, (%rdi)\n"
    "    jmp access_end\n"
    "2:  call *%rdi\n"
    "access_end:\n"
    "    mov access_sp, %rsp\n"
    "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "    mov access_error, %rax\n"
    "    ret\n"
    "3:  push $0x3b\n"
    "    push $0x1002000\n"
    "    push $2\n"
    "    push $0x43\n"
    "    push $0x1000000\n"
    "    iretq\n"
    "ring3_code:\n"
    "    cmp $1, %esi\n"
    "    je 1f\n"
    "    ja 2f\n"
    "    mov (%rdi), %rax\n"
    "    int $0x82\n"
    "1:  mov %rax, (%rdi)\n"
    "    int $0x82\n"
    "2:  call *%rdi\n"
    "    int $0x82\n"
    "ring3_code_end:\n"
    "on_page_fault:\n"
    "    pop access_error\n"
    "    mov %cr2, %rax\n"
    "    mov %rax, access_at\n"
    "on_done:\n"
    "    jmp access_end\n");

static u64 *pte, *pde, *pdpte, *pml4e;

struct config {
    const char *name;
    int wp, nxe, smep, smap, ac, pke;
    u32 pkru;
};

struct outcome { u32 error; u64 pte, pde; }; /* error ~0: none */

#define E_P 1
#define E_W 2
#define E_U 4
#define E_R 8
#define E_I 16
#define E_K 32

static u64 reserved;

/* What an access must do. `large`: the PDE maps a page of 2 MiB. */
static struct outcome model(const struct config *c, u64 pdpt, u64 pd, u64 pt, int kind, int user)
{
    struct outcome o = {0, pt, pd};
    u32 base = (kind == WRITE ? E_W : 0) | (user ? E_U : 0) | (kind == FETCH && (c->nxe || c->smep) ? E_I : 0);
    u64 forbidden = reserved | (c->nxe ? 0 : P_NX);
    int large = !!(pd & P_PS);
    if (!(pd & P_P)) {
        o.error = base;
        return o;
    }
    if (pd & (forbidden | (large ? 1ull << 13 : 0))) {
        o.error = base | E_P | E_R;
        return o;
    }
    if (!large) {
        if (!(pt & P_P)) {
            o.error = base;
            return o;
        }
        if (pt & forbidden) {
            o.error = base | E_P | E_R;
            return o;
        }
    }
    u64 leaf = large ? pd : pt, all = large ? pdpt & pd : pdpt & pd & pt;
    u64 any = large ? pd : pd | pt;
    int user_page = !!(all & P_U), writable = !!(all & P_W), key = leaf >> 59 & 15, bad = 0;
    if (user && !user_page)
        bad = 1;
    if (kind == WRITE && !writable && (user || c->wp))
        bad = 1;
    if (kind == FETCH && any & P_NX)
        bad = 1;
    if (kind == FETCH && !user && user_page && c->smep)
        bad = 1;
    if (kind != FETCH && !user && user_page && c->smap && !c->ac)
        bad = 1;
    if (kind != FETCH && user_page && c->pke) {
        u32 rights = c->pkru >> 2 * key;
        if (rights & 1 || (rights & 2 && kind == WRITE && (user || c->wp))) {
            bad = 1;
            base |= E_K;
        }
    }
    if (bad) {
        o.error = base | E_P;
        return o;
    }
    o.error = ~0u;
    u64 marks = P_A | (kind == WRITE ? P_D : 0);
    if (large)
        o.pde |= marks;
    else {
        o.pde |= P_A;
        o.pte |= marks;
    }
    return o;
}

static u32 cases, wrong;

static void one(const struct config *c, u64 pd, u64 pt, int kind, int user)
{
    *pde = pd;
    *pte = pt;
    flush(TARGET);
    struct outcome o = model(c, *pdpte, pd, pt, kind, user);
    if (c->ac) /* the way back from ring 3 cleared it */
        asm volatile("stac");
    u32 error = access(TARGET, kind, user);
    cases++;
    int good = error == o.error && *pte == o.pte && ((*pde ^ o.pde) & ~P_A) == 0;
    if (o.error == ~0u)
        good = good && *pde == o.pde;
    else
        good = good && access_at == TARGET;
    if (!good && wrong++ < 10)
        print("    %s: pde %X pte %X kind %d user %d: error %x, expected %x; pde %X pte %X at %x\n", c->name, pd,
              pt, kind, user, (word)error, (word)o.error, *pde, *pte, access_at);
}

static void configure(const struct config *c)
{
    wrmsr(MSR_EFER, (rdmsr(MSR_EFER) & ~EFER_NXE) | (c->nxe ? EFER_NXE : 0));
    set_cr0((get_cr0() & ~CR0_WP) | (c->wp ? CR0_WP : 0));
    set_cr4((get_cr4() & ~(CR4_SMEP | CR4_SMAP | CR4_PKE)) | (c->smep ? CR4_SMEP : 0) | (c->smap ? CR4_SMAP : 0)
            | (c->pke ? CR4_PKE : 0));
    if (c->pke)
        asm volatile("wrpkru" : : "a"(c->pkru), "c"(0), "d"(0));
    set_flags((get_flags() & ~F_AC) | (c->ac ? F_AC : 0));
}

static void matrix(const struct config *c, int full)
{
    u32 before = wrong;
    u64 table = (u64)pte & ~0xfffull;
    configure(c);
    cases = 0;
    for (u32 e = 0; e < (full ? 256 : 64); e++) {
        u64 pt = FRAME | P_P | (e & 1 ? P_W : 0) | (e & 2 ? P_U : 0) | (e & 4 ? P_NX : 0) | (e & 64 ? P_A : 0)
                 | (e & 128 ? P_D : 0);
        for (u32 d = 0; d < 8; d++) {
            u64 bits = P_P | (d & 1 ? P_W : 0) | (d & 2 ? P_U : 0) | (d & 4 ? P_NX : 0);
            if (e >> 3 & 1 && e & 0x30)
                continue; /* one oddity at a time */
            u64 p = e >> 3 & 1 ? pt & ~P_P : pt;
            if (e >> 4 & 1)
                p |= 1ull << 51;
            if (e >> 5 & 1)
                p |= 1ull << 59;
            for (int kind = READ; kind <= FETCH; kind++)
                for (int user = 0; user < 2; user++)
                    one(c, table | bits, p, kind, user);
        }
    }
    for (u32 d = 0; d < 128; d++) { /* large pages; absent and reserved PDEs */
        u64 pd = FRAME | P_PS | P_P | (d & 1 ? P_W : 0) | (d & 2 ? P_U : 0) | (d & 4 ? P_NX : 0);
        u32 odd = d >> 3 & 7;
        if (odd == 1)
            pd &= ~P_P;
        if (odd == 2)
            pd |= 1ull << 13;
        if (odd == 3)
            pd |= 1ull << 51;
        if (odd == 4)
            pd |= 1ull << 59;
        if (odd == 5)
            pd |= P_A | P_D;
        if (odd == 6)
            pd |= 1 << 12; /* PAT: nothing */
        if (odd == 7)
            pd |= P_G;
        if (d >> 6)
            *pdpte &= ~P_W;
        for (int kind = READ; kind <= FETCH; kind++)
            for (int user = 0; user < 2; user++)
                one(c, pd, FRAME | 7, kind, user);
        *pdpte |= P_W;
    }
    check(wrong == before, "%s: %u cases", c->name, cases);
}

static const struct config plain = {"plain", 1, 1, 0, 0, 0, 0, 0};

static void upper_levels(void)
{
    static const char *names[] = {"PDPTE", "PML4E"};
    u64 *entries[] = {pdpte, pml4e};
    configure(&plain);
    *pde = ((u64)pte & ~0xfffull) | 7;
    *pte = FRAME | 7;
    for (int n = 0; n < 2; n++) {
        u64 usual = *entries[n];
        *entries[n] = usual & ~P_P;
        flush(TARGET);
        equal(access(TARGET, READ, 0), 0, "%s absent", names[n]);
        *entries[n] = usual | 1ull << 51;
        flush(TARGET);
        equal(access(TARGET, READ, 0), E_P | E_R, "%s: reserved address bit", names[n]);
        *entries[n] = usual & ~P_U;
        flush(TARGET);
        equal(access(TARGET, READ, 1), E_P | E_U, "%s: supervisor", names[n]);
        equal(access(TARGET, READ, 0), ~0u, "%s: supervisor may", names[n]);
        *entries[n] = usual & ~P_W;
        flush(TARGET);
        equal(access(TARGET, WRITE, 0), E_P | E_W, "%s: read-only", names[n]);
        *entries[n] = usual | P_NX;
        flush(TARGET);
        equal(access(TARGET, FETCH, 0), E_P | E_I, "%s: NX", names[n]);
        *entries[n] = usual & ~P_A;
        flush(TARGET);
        equal(access(TARGET, READ, 0), ~0u, "%s: read", names[n]);
        check((*entries[n] & P_A) != 0, "%s: accessed", names[n]);
        *entries[n] = usual;
    }
    u64 usual = *pml4e;
    *pml4e = usual | P_PS;
    flush(TARGET);
    equal(access(TARGET, READ, 0), E_P | E_R, "PML4E: bit 7 is reserved");
    *pml4e = usual;
    usual = *pdpte;
    *pdpte = 0x87;
    flush(TARGET);
    equal(access(TARGET + FRAME, READ, 1), ~0u, "a page of 1 GiB");
    check((*pdpte & (P_A | P_D)) == P_A, "accessed, not dirty");
    equal(access(TARGET + FRAME, WRITE, 1), ~0u, "written");
    check((*pdpte & (P_A | P_D)) == (P_A | P_D), "accessed and dirty");
    *pdpte = 0x87 | 1 << 13;
    flush(TARGET + FRAME);
    equal(access(TARGET + FRAME, READ, 0), E_P | E_R, "bit 13 of a 1 GiB PDPTE is reserved");
    *pdpte = 0x87 | 1 << 29;
    flush(TARGET + FRAME);
    equal(access(TARGET + FRAME, READ, 0), E_P | E_R, "so is bit 29");
    *pdpte = usual;
    flush(TARGET);
}

static void crossing(void)
{
    section("accesses across pages");
    u8 *first = page(), *second = page();
    map(0x7000000000, (u64)first | 7);
    map(0x7000001000, (u64)second | 7);
    volatile u64 *at = (volatile u64 *)0x7000000ffcul;
    *at = 0x1122334455667788;
    equal(*at, 0x1122334455667788, "a qword goes over the edge");
    equal(*(u32 *)(first + 0xffc), 0x55667788, "its first half");
    equal(*(u32 *)second, 0x11223344, "its second half");
    *entry_of(0x7000001000, 1) = 0;
    flush(0x7000001000);
    equal(access((word)at, WRITE, 0), E_W, "second page absent: #PF");
    equal(access_at, 0x7000001000, "CR2 is the second page");
    equal(*(u32 *)(first + 0xffc), 0x55667788, "and nothing was written");
    *entry_of(0x7000001000, 1) = (u64)second | 5;
    flush(0x7000001000);
    equal(access((word)at, WRITE, 0), E_W | E_P, "second page read-only: #PF");
    equal(access_at, 0x7000001000, "CR2 is the second page");
    equal(*(u32 *)(first + 0xffc), 0x55667788, "and nothing was written");
    *entry_of(0x7000001000, 1) = (u64)second | 7;
    *entry_of(0x7000000000, 1) = 0;
    flush(0x7000000000);
    flush(0x7000001000);
    equal(access((word)at, READ, 0), 0, "first page absent: #PF");
    equal(access_at, (word)at, "CR2 is the address itself");
    *entry_of(0x7000000000, 1) = (u64)first | 7;
    flush(0x7000000000);
    first[0xfff] = 0x90;
    second[0] = 0xc3;
    equal(access(0x7000000fff, FETCH, 0), ~0u, "instructions go over the edge");
    first[0xffe] = 0xb8; /* mov $imm32, %eax: split */
    first[0xfff] = 1;
    second[0] = second[1] = second[2] = 0;
    second[3] = 0xc3;
    equal(access(0x7000000ffe, FETCH, 0), ~0u, "one instruction over the edge");
    *entry_of(0x7000001000, 1) = (u64)second | 7 | P_NX;
    flush(0x7000001000);
    equal(access(0x7000000ffe, FETCH, 0), E_P | E_I, "its second page is NX");
    equal(access_at, 0x7000001000, "CR2 is the second page");
    *entry_of(0x7000001000, 1) = (u64)second | 7;
    flush(0x7000001000);
    /* read-modify-write, string, push */
    restore_gate(PF);
    *entry_of(0x7000001000, 1) = (u64)second | 5;
    flush(0x7000001000);
    equal(ATTEMPT("lock addl $1, (%0)", NONE, INS("r"(0x7000001000ul))), PF, "read-modify-write of a read-only page");
    equal(caught.error, E_P | E_W, "counts as a write");
    equal(ATTEMPT("cmpxchg %%ecx, (%1)", OUTS("+a"((u32){0x12345})), INS("r"(0x7000001000ul), "c"(1))), PF, "a CMPXCHG that would not store");
    equal(caught.error, E_P | E_W, "counts as a write, too");
    u64 before = *(u64 *)(first + 0xff0);
    word left = 32, to = 0x7000000ff0;
    caught.vector = NOTHING;
    asm volatile("movq $9f, caught; rep stosb; 9: movq $0, caught" : "+c"(left), "+D"(to) : "a"(0x5a) : "memory");
    equal(caught.vector, PF, "REP STOSB into it");
    equal(left, 16, "stops with the rest in RCX");
    equal(to, 0x7000001000, "and RDI at the page");
    check(before != *(u64 *)(first + 0xff0), "the first part is there");
    word from = 0x7000000ff8;
    to = (word)first, left = 4;
    *entry_of(0x7000001000, 1) = 0;
    flush(0x7000001000);
    caught.vector = NOTHING;
    asm volatile("movq $9f, caught; rep movsl; 9: movq $0, caught" : "+c"(left), "+D"(to), "+S"(from) : : "memory");
    equal(caught.vector, PF, "REP MOVSL out of it");
    equal(left << 32 | (from & 0xffff), 2ull << 32 | 0x1000, "stops at the page");
    *entry_of(0x7000001000, 1) = (u64)second | 7;
    flush(0x7000001000);
}

static void translations(void)
{
    section("translations");
    u64 *one_page = page(), *other = page();
    *one_page = 1, *other = 2;
    map(0x7100000000, (u64)one_page | 3);
    volatile u64 *at = (volatile u64 *)0x7100000000ul;
    equal(*at, 1, "mapped");
    *entry_of(0x7100000000, 1) = (u64)other | 3;
    flush(0x7100000000);
    equal(*at, 2, "remapped, INVLPG");
    *entry_of(0x7100000000, 1) = (u64)one_page | 3;
    set_cr3(get_cr3());
    equal(*at, 1, "remapped, CR3 written");
    set_cr4(get_cr4() | CR4_PGE);
    *entry_of(0x7100000000, 1) = (u64)other | 3 | P_G;
    flush(0x7100000000);
    equal(*at, 2, "global");
    *entry_of(0x7100000000, 1) = (u64)one_page | 3 | P_G;
    set_cr4(get_cr4() & ~CR4_PGE);
    equal(*at, 1, "remapped, CR4.PGE changed");
    *entry_of(0x7100000000, 1) = (u64)one_page | 1;
    flush(0x7100000000);
    set_cr0(get_cr0() & ~CR0_WP);
    equal(ATTEMPT("movb $7, (%0)", NONE, INS("r"(at))), NOTHING, "without WP ring 0 writes read-only pages");
    set_cr0(get_cr0() | CR0_WP);
    equal(ATTEMPT("movb $7, (%0)", NONE, INS("r"(at))), PF, "and no longer with WP");
    equal(ATTEMPT("invlpg (%0)", NONE, INS("r"(0x8000000000000000))), NOTHING, "INVLPG of a non-canonical address does nothing");
    equal(ATTEMPT("mov %0, %%cr3", NONE, INS("r"(get_cr3() | 0x18))), NOTHING, "PCD and PWT in CR3");
    set_cr3(get_cr3() & ~0xffful);
    /* two linear addresses of one frame; self-modifying code through the alias */
    u8 *code = page();
    code[0] = 0xb8, code[1] = 1, code[2] = code[3] = code[4] = 0, code[5] = 0xc3;
    map(0x7200000000, (u64)code | 3);
    u32 (*run)(void) = (u32 (*)(void))0x7200000000ul;
    equal(run(), 1, "code at an alias");
    code[1] = 2;
    equal(run(), 2, "changed by the other alias");
    asm volatile("movb $3, (%1); call *%0" : : "r"(run), "r"(code + 1) : "memory", "rax");
    equal(run(), 3, "and again just before it runs");
}

void test(void)
{
    int full = argument("long"), quick = argument("quick");
    u32 bits = cpuid(0x80000008, 0).a & 0xff;
    check(bits < 52, "physical addresses leave bit 51 reserved");
    reserved = ~((1ull << bits) - 1) & 0xfffffffffffffull;
    copy((void *)RING3, ring3_code, ring3_code_end - ring3_code);
    for (word at = 0; at < 0x800000; at += 0x200000) {
        *entry_of(at, 2) &= ~P_U;
        flush(at);
    }
    clear((void *)FRAME, 4096);
    *(u8 *)FRAME = 0xc3;
    map(TARGET, FRAME | 7);
    pte = entry_of(TARGET, 1);
    pde = entry_of(TARGET, 2);
    pdpte = entry_of(TARGET, 3);
    pml4e = entry_of(TARGET, 4);
    gate(PF, on_page_fault, 0, INTERRUPT_GATE, 0);
    gate(0x82, on_done, 3, INTERRUPT_GATE, 0);
    static const struct config configs[] = {
        {"WP NXE", 1, 1, 0, 0, 0, 0, 0},
        {"NXE", 0, 1, 0, 0, 0, 0, 0},
        {"WP", 1, 0, 0, 0, 0, 0, 0},
        {"none", 0, 0, 0, 0, 0, 0, 0},
        {"SMEP WP NXE", 1, 1, 1, 0, 0, 0, 0},
        {"SMEP", 0, 0, 1, 0, 0, 0, 0},
        {"SMAP WP NXE", 1, 1, 0, 1, 0, 0, 0},
        {"SMAP AC NXE", 0, 1, 0, 1, 1, 0, 0},
        {"SMEP SMAP WP NXE", 1, 1, 1, 1, 0, 0, 0},
        {"PKE with AD of key 1", 1, 1, 0, 0, 0, 1, 4},
        {"PKE with WD of key 1", 1, 1, 0, 0, 0, 1, 8},
        {"PKE with WD of key 1 without WP", 0, 1, 0, 0, 0, 1, 8},
        {"PKE with AD of all others", 1, 1, 0, 0, 0, 1, 0x55555550},
    };
    section("permissions");
    u64 start = rdtsc();
    for (u32 n = 0; n < sizeof configs / sizeof *configs; n += quick ? 4 : 1)
        matrix(&configs[n], full);
    print("ticks %X\n", rdtsc() - start);
    section("upper levels");
    upper_levels();
    crossing();
    configure(&plain);
    translations();
}
