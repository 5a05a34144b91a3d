/* SYSCALL, SYSRET, SYSENTER, SYSEXIT in 64-bit and compatibility mode, TF included. APM Vol. 3, SDM Vol. 2B. */
#include "kernel.h"

#define STAR 0xc0000081
#define LSTAR 0xc0000082
#define CSTAR 0xc0000083
#define SFMASK 0xc0000084

volatile word sc_rcx, sc_r11, sc_flags, sc_cs, sc_ss, sc_sp, sc_back;
static volatile u32 steps;
static volatile word step_cs, step_ip;

static void on_debug(struct frame *f)
{
    steps++;
    step_cs = f->cs;
    step_ip = f->ip;
    f->flags &= ~F_TF;
}

extern char sc_entry[], sc_entry32[], sc_return[], sc_user[], sc_user32[], se_user[], se_entry[];
asm("sc_entry:\n"
    "    mov %rsp, sc_sp\n"
    "    mov %rcx, sc_rcx; mov %r11, sc_r11\n"
    "    mov sc_back, %rsp\n"
    "    pushf; popq sc_flags\n"
    "    mov %cs, %eax; mov %rax, sc_cs; mov %ss, %eax; mov %rax, sc_ss\n"
    "    ret\n" /* to the caller of go */
    "sc_entry32 = sc_entry\n"
    "sc_user: syscall; ud2\n"
    ".code32\n"
    "sc_user32: mov %ds, %edx; syscall; ud2\n"
    ".code64\n");

/* Go to ring 3 by SYSRET; comes back when the entry point returns. */
extern void go64(void *ip, word flags), go32(void *ip, word flags);
asm("go64: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "    push $1f\n"
    "    mov %rsp, sc_back\n"
    "    mov %rdi, %rcx; mov %rsi, %r11\n"
    "    sysretq\n"
    "go32: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "    push $1f\n"
    "    mov %rsp, sc_back\n"
    "    mov %rdi, %rcx; mov %rsi, %r11\n"
    "    sysretl\n"
    "1:  mov $0x10, %eax; mov %eax, %ss\n"
    "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "    ret\n");

static void fast_calls(void)
{
    section("SYSCALL, SYSRET");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SCE);
    equal(ATTEMPT("syscall", NONE, NONE, "rcx", "r11"), UD, "SYSCALL without EFER.SCE");
    equal(ATTEMPT("sysretq", NONE, INS("c"(0))), UD, "SYSRET without EFER.SCE");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(STAR, (u64)0x33 << 48 | (u64)CODE0 << 32);
    wrmsr(LSTAR, (word)sc_entry);
    wrmsr(CSTAR, (word)sc_entry32);
    wrmsr(SFMASK, F_TF | F_IF | F_DF | F_NT);
    go64(sc_user, F_IF | F_DF | 2 | F_CF);
    equal(sc_rcx, (word)sc_user + 2, "RCX is the next instruction");
    equal(sc_r11, F_IF | F_DF | 2 | F_CF, "R11 is RFLAGS");
    equal(sc_flags & ~0x8d4ul, 2 | F_CF, "RFLAGS are masked");
    equal(sc_cs, CODE0, "CS");
    equal(sc_ss, CODE0 + 8, "SS");
    /* from ring 0, too */
    extern char sc_here[];
    word flags_before;
    wrmsr(LSTAR, (word)sc_here);
    asm volatile("pushf; pop %0; push %0; syscall; sc_here: popf" : "=&r"(flags_before) : : "rcx", "r11", "memory", "cc");
    check(1, "SYSCALL in ring 0");
    asm volatile("mov %0, %%ss" : : "r"(DATA0));
    wrmsr(LSTAR, (word)sc_entry);

    section("with TF");
    handlers[DB] = on_debug;
    steps = 0;
    go64(sc_user, F_TF | 2);
    equal(steps, 1, "SYSRET sets TF: one step, before SYSCALL");
    equal(step_cs, CODE3, "in ring 3");
    equal(step_ip, (word)sc_user, "at the first instruction");

    section("compatibility mode");
    if (is_amd()) {
        go32(sc_user32, 2);
        equal(sc_rcx, (word)sc_user32 + 4, "SYSCALL goes to CSTAR");
        equal(sc_cs, CODE0, "CS");
        steps = 0;
        go32(sc_user32, F_TF | 2);
        equal(steps, 1, "TF by SYSRET: one step");
        equal(step_cs, CODE3_32, "in 32-bit ring 3");
    } else
        skip("SYSCALL in compatibility mode is AMD's");

    section("SYSRET to a non-canonical address");
    gate(GP, stubs + STUB_SIZE * GP, 0, INTERRUPT_GATE, 1);
    gate(PF, stubs + STUB_SIZE * PF, 0, INTERRUPT_GATE, 1);
    word old_sp;
    caught.vector = NOTHING;
    asm volatile("mov %%rsp, %0; mov %0, %%rbx; movq $9f, caught; mov %1, %%rcx; mov $2, %%r11d; sysretq\n"
                 "9: movq $0, caught\n"
                 "mov %%rbx, %%rsp; mov %%cs, %%ecx; test $3, %%cl; jz 1f; int $0x83; 1:" : "=&r"(old_sp) : "r"(0x800000000000ul) : "rax", "rcx", "rdx", "r11", "rbx", "memory", "cc");
    equal(caught.vector, GP, "is #GP");
    check((caught.cs & 3) == (is_amd() ? 3 : 0), "in ring %u", is_amd() ? 3 : 0);
    restore_gate(GP);
    restore_gate(PF);
}

extern void back_to_ring0(void);
asm("back_to_ring0:\n"
    "    mov (%rsp), %rax\n" /* ring-3 RIP */
    "    mov 24(%rsp), %rcx\n" /* ring-3 RSP: the kernel's own */
    "    mov %rcx, %rsp\n"
    "    mov $0x10, %edx; mov %edx, %ss\n"
    "    jmp *%rax\n");

/* To ring 3 by SYSEXIT and back by SYSENTER. */
volatile word se_back, se_cs, se_ss, se_flags, se_user_cs, se_user_ss;
extern void by_sysexit(void);
extern char se_entry[];
asm("by_sysexit: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "    mov %rsp, se_back\n"
    "    mov $se_user, %rdx; mov $0x12345678, %ecx\n"
    "    sti\n"
    "    sysexitq\n"
    "se_user: mov %cs, %eax; mov %rax, se_user_cs; mov %ss, %eax; mov %rax, se_user_ss\n"
    "    cmp $0x12345678, %rsp; jne 1f\n"
    "    sysenter\n"
    "1:  ud2\n"
    "se_entry: pushf; popq se_flags\n"
    "    cmp $se_stack, %rsp; jne 1b\n"
    "    mov se_back, %rsp\n"
    "    mov %cs, %eax; mov %rax, se_cs; mov %ss, %eax; mov %rax, se_ss\n"
    "    mov $0x10, %eax; mov %eax, %ss\n"
    "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "    ret\n"
    ".bss; .skip 256; se_stack: .skip 8; .text\n");
extern char se_stack[];

static void sysenter(void)
{
    section("SYSENTER, SYSEXIT");
    wrmsr(0x174, 0);
    equal(ATTEMPT("sysenter", NONE, NONE), is_amd() ? UD : GP, "SYSENTER with SYSENTER_CS 0");
    equal(ATTEMPT("sysexitl", NONE, INS("d"(0ul), "c"(0ul))), is_amd() ? UD : GP, "SYSEXIT with SYSENTER_CS 0");
    if (is_amd()) {
        skip("the rest: in long mode they are Intel's");
        return;
    }
    /* Ring 3 gets selectors +32 and +40: SPARE and two more */
    u16 base = SPARE;
    gdt[base / 8] = 0x00af9b000000ffff;
    gdt[base / 8 + 1] = 0x00cf93000000ffff;
    gdt[base / 8 + 4] = 0x00affb000000ffff;
    gdt[base / 8 + 5] = 0x00cff3000000ffff;
    wrmsr(0x174, base);
    wrmsr(0x175, (word)se_stack);
    wrmsr(0x176, (word)se_entry);
    equal(ATTEMPT("sysexitq", NONE, INS("d"(0x800000000000ul), "c"(0ul))), GP, "SYSEXIT to a non-canonical address");
    by_sysexit();
    equal(se_user_cs, base + 32 + 3, "SYSEXIT: CS");
    equal(se_user_ss, base + 40 + 3, "SYSEXIT: SS");
    equal(se_cs, base, "SYSENTER: CS");
    equal(se_ss, base + 8, "SYSENTER: SS");
    check(!(se_flags & F_IF), "SYSENTER clears IF");
    off();
}

void test(void)
{
    gate(0x83, back_to_ring0, 3, INTERRUPT_GATE, 0);
    fast_calls();
    sysenter();
}
