/* Hardware task switches, virtual-8086 mode, and segmentation of 32-bit protected mode.
 * SDM Vol. 3A, chapters 5, 7 and 20. 32-bit kernel. */
#include "kernel.h"

struct tss {
    u32 back, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, iomap;
};

#define TASK SPARE
#define GATE (SPARE + 8)
#define OTHER (SPARE + 16)
#define THIRD (SPARE + 24)

extern u64 idt[];
extern struct tss tss;
static struct tss second, third;
static u8 task_stack[4096] __attribute__((aligned(16))), inner_stack[4096], other_stack[4096];
volatile u32 ran, error_seen, flags_seen, tr_seen, back_seen, cr0_seen;
static volatile u32 divisor;

static u16 task_register(void)
{
    u16 v;
    asm volatile("str %0" : "=r"(v));
    return v;
}

static void prepare(void *code)
{
    clear(&second, sizeof second);
    second.esp0 = (u32)inner_stack + 4096;
    second.ss0 = DATA0;
    second.cr3 = get_cr3();
    second.eip = (u32)code;
    second.eflags = 2;
    second.esp = (u32)task_stack + 4096;
    second.cs = CODE0;
    second.ss = second.ds = second.es = second.fs = second.gs = DATA0;
    second.iomap = 104;
    gdt[TASK / 8] = descriptor((u32)&second, 103, 0x89, 0);
    gdt[GATE / 8] = (u64)TASK << 16 | 0x850000000000;
}

static void task_gate(int vector, int dpl)
{
    idt[vector] = (u64)TASK << 16 | (u64)(0x85 | dpl << 5) << 40;
}

static int busy(u16 selector)
{
    return gdt[selector / 8] >> 41 & 1;
}

#define TASK_CODE(name, body)                                                                            \
    static void name(void)                                                                               \
    {                                                                                                    \
        for (;;) {                                                                                       \
            ran++;                                                                                       \
            tr_seen = task_register();                                                                   \
            back_seen = second.back;                                                                     \
            flags_seen = get_flags();                                                                    \
            cr0_seen = get_cr0();                                                                        \
            body                                                                                         \
        }                                                                                                \
    }

TASK_CODE(returning, asm volatile("iret" : : : "memory");)
TASK_CODE(jumping, asm volatile("ljmp %0, $0" : : "i"(TSS0) : "memory");)
TASK_CODE(mending, divisor = 10; asm volatile("iret" : : : "memory");)

extern void with_error(void);
asm("with_error:\n"
    "1:  incl ran\n"
    "    popl error_seen\n"
    "    mov 2f, %eax\n"
    "    call mend_page\n"
    "    iret\n"
    "    jmp 1b\n"
    "2: .long 0\n");

static u32 *page_entry, page_value;
void mend_page(void)
{
    if (page_entry)
        *page_entry = page_value;
}

static void calls(void)
{
    section("task switches by CALL, JMP, IRET");
    prepare(returning);
    ran = 0;
    asm volatile("lcall %0, $0xf4f4f4f4" : : "i"(TASK) : "memory");
    equal(ran, 1, "CALL");
    equal(tr_seen, TASK, "TR in the task");
    equal(back_seen, TSS0, "back link");
    check(flags_seen & F_NT, "NT is set in the task");
    check(cr0_seen & CR0_TS, "CR0.TS is set");
    asm volatile("clts");
    check(!(get_flags() & F_NT), "NT is clear again here");
    equal(task_register(), TSS0, "TR is back");
    check(!busy(TASK) && busy(TSS0), "busy bits");
    asm volatile("lcall %0, $0xf4f4f4f4" : : "i"(TASK) : "memory");
    equal(ran, 2, "CALL again goes on behind its IRET");
    asm volatile("lcall %0, $0xf4f4f4f4" : : "i"(GATE) : "memory");
    equal(ran, 3, "CALL through a task gate");
    prepare(jumping);
    ran = 0;
    asm volatile("ljmp %0, $0xf4f4f4f4" : : "i"(TASK) : "memory");
    equal(ran, 1, "JMP and back");
    check(!(flags_seen & F_NT), "JMP does not set NT");
    equal(back_seen, 0, "nor the back link");
    check(!busy(TASK) && busy(TSS0), "busy bits");
    asm volatile("ljmp %0, $0xf4f4f4f4" : : "i"(GATE) : "memory");
    equal(ran, 2, "JMP through a task gate");
    /* registers are kept */
    prepare(returning);
    u32 a = 0x11111111, b = 0x22222222, c = 0x33333333, d = 0x44444444;
    asm volatile("lcall %4, $0" : "+a"(a), "+b"(b), "+c"(c), "+d"(d) : "i"(TASK) : "memory");
    check(a == 0x11111111 && b == 0x22222222 && c == 0x33333333 && d == 0x44444444, "registers are saved and restored");
    asm volatile("clts");
}

#define REFUSED(v, e, ...)                                                                               \
    ({                                                                                                   \
        u32 vector_ = ATTEMPT("lcall %0, $0", NONE, INS("i"(TASK)));                                     \
        equal((u64)vector_ << 32 | caught.error, (u64)(v) << 32 | (e), __VA_ARGS__);                     \
    })

static void refused(void)
{
    section("refused task switches");
    prepare(returning);
    gdt[TASK / 8] = descriptor((u32)&second, 103, 0x09, 0);
    REFUSED(NP, TASK, "TSS absent");
    gdt[TASK / 8] = descriptor((u32)&second, 102, 0x89, 0);
    REFUSED(TS, TASK, "TSS too small");
    gdt[TASK / 8] = descriptor((u32)&second, 103, 0x8b, 0);
    REFUSED(GP, TASK, "TSS busy");
    prepare(returning);
    u16 at = OTHER;
    (void)at;
    gdt[GATE / 8] = (u64)TASK << 16 | 0x050000000000;
    u32 v = ATTEMPT("lcall %0, $0", NONE, INS("i"(GATE)));
    check(v == NP && caught.error == GATE, "task gate absent");
    gdt[GATE / 8] = (u64)DATA0 << 16 | 0x850000000000;
    v = ATTEMPT("lcall %0, $0", NONE, INS("i"(GATE)));
    check(v == GP && caught.error == DATA0, "task gate to data");
    /* IRET with NT through a back link that is not a busy TSS */
    tss.back = TASK;
    prepare(returning);
    set_flags(get_flags() | F_NT);
    v = ATTEMPT("iret", NONE, NONE);
    set_flags(get_flags() & ~F_NT);
    check(v == TS && caught.error == TASK, "IRET with NT to a TSS that is not busy: #TS");
    tss.back = 0;
}

/* Faults found in the new task are taken there: its own handlers have the same IDT. */
static void in_new_task(void)
{
    section("faults of the new task's segments");
    handlers[TS] = handlers[NP] = handlers[SS] = handlers[GP] = 0;
    static const struct { u32 *where; u32 value; u32 vector, error; const char *name; } cases[] = {
        {&second.cs, DATA0, TS, DATA0, "CS is data"},
        {&second.cs, ABSENT, NP, ABSENT, "CS absent"},
        {&second.ss, CODE0, TS, CODE0, "SS is code"},
        {&second.ds, 0xfff8, TS, 0xfff8, "DS beyond the GDT"},
        {&second.ldt, DATA0, TS, DATA0, "LDT is data"},
        {&second.cs, 0, TS, 0, "CS null"},
    };
    extern void new_task_fault(struct frame *);
    for (u32 n = 0; n < sizeof cases / sizeof *cases; n++) {
        prepare(returning);
        *cases[n].where = cases[n].value;
        caught.vector = NOTHING;
        handlers[TS] = handlers[NP] = new_task_fault;
        /* A bad CS or SS leaves no usable stack in every case: only that we come back is checked, by a task gate */
        error_seen = ~0u;
        ran = 0;
        clear(&third, sizeof third);
        third = second;
        extern void rescue(void);
        third.eip = (u32)rescue;
        third.esp = (u32)other_stack + 4096;
        third.cs = CODE0;
        third.ss = third.ds = third.es = DATA0;
        third.fs = third.gs = third.ldt = 0;
        third.eflags = 2;
        gdt[THIRD / 8] = descriptor((u32)&third, 103, 0x89, 0);
        idt[cases[n].vector] = (u64)THIRD << 16 | 0x850000000000;
        asm volatile("movl $7f, %0; lcall %1, $0; 7:" : "=m"(caught.resume) : "i"(TASK) : "memory", "eax", "ecx", "edx", "ebx", "esi", "edi");
        caught.resume = 0;
        restore_gate(cases[n].vector);
        equal(error_seen, cases[n].error, "%s", cases[n].name);
        asm volatile("clts");
    }
    handlers[TS] = handlers[NP] = 0;
}

void new_task_fault(struct frame *f)
{
    print("unexpected\n");
    leave(61);
}

/* Task `third`: pops the error code and jumps back to the main task, whose CALL went to the broken task. */
asm("rescue: popl error_seen\n"
    "    andl $~0x200, gdt + 0x90 + 4\n" /* the main task waits, busy, for an IRET that never comes */
    "    ljmp $0x90, $0\n");

static void by_interrupt(void)
{
    section("task gates of the IDT");
    prepare(returning);
    ran = 0;
    task_gate(0x60, 0);
    asm volatile("int $0x60" : : : "memory");
    equal(ran, 1, "INT n");
    task_gate(NMI, 0);
    asm volatile("int $2" : : : "memory");
    equal(ran, 2, "INT 2");
    apic_ipi(0x4400, 0);
    asm volatile("nop");
    equal(ran, 3, "NMI");
    apic_ipi(0x4400, 0);
    asm volatile("nop");
    equal(ran, 4, "NMI again: the task's IRET ended the masking");
    task_gate(0x61, 0);
    on();
    apic_ipi(0x44000 | 0x61, 0);
    off();
    equal(ran, 5, "interrupt");
    eoi();
    task_gate(OF, 0);
    u8 sum = 127;
    asm volatile("addb $127, %0; into" : "+q"(sum) : : "cc", "memory");
    equal(ran, 6, "INTO");
    task_gate(BP, 0);
    asm volatile("int3" : : : "memory");
    equal(ran, 7, "INT3");
    prepare(mending);
    task_gate(DE, 0);
    u32 a = 1500, d = 0;
    divisor = 0;
    asm volatile("divl %2" : "+a"(a), "+d"(d) : "m"(divisor) : "cc", "memory");
    check(ran == 8 && a == 150, "#DE: the task mends, the instruction runs again");
    asm volatile("int $0" : : : "memory");
    equal(ran, 9, "INT 0");
    for (int n = 0; n < 8; n++)
        restore_gate(n);
    restore_gate(0x60);
    restore_gate(0x61);
    asm volatile("clts");
}

/* --- paging in tasks */

static u32 *directory;
static void page_fault_task(void)
{
    section("page fault by a task");
    u32 *table = page();
    directory = page();
    for (u32 n = 0; n < 1024; n++)
        directory[n] = n << 22 | 0x83;
    directory[512] = (u32)table | 3;
    u32 *frame = page();
    set_cr4(get_cr4() | CR4_PSE);
    set_cr3((u32)directory);
    set_cr0(get_cr0() | CR0_PG | CR0_WP);
    tss.cr3 = (u32)directory;
    prepare(with_error);
    ran = 0;
    error_seen = ~0u;
    page_entry = &table[5];
    page_value = (u32)frame | 3;
    task_gate(PF, 0);
    *(volatile u32 *)0x80005000 = 0x1234;
    equal(ran, 1, "#PF runs the task");
    equal(error_seen, 2, "with the error code on its stack");
    equal(get_cr2(), 0x80005000, "CR2");
    equal(*frame, 0x1234, "the access is done afterwards");
    restore_gate(PF);
    /* another CR3 in the task */
    u32 *mine = page();
    copy(mine, directory, 4096);
    mine[513] = (u32)table | 3;
    prepare(returning);
    second.cr3 = (u32)mine;
    extern void reading(void);
    second.eip = (u32)reading;
    ran = 0;
    asm volatile("lcall %0, $0" : : "i"(TASK) : "memory");
    equal(ran, 0x1234, "the task has its own address space");
    equal(get_cr3(), (u32)directory, "and CR3 comes back");
    asm volatile("clts");
    set_cr0(get_cr0() & ~CR0_PG);
}
asm("reading: mov 0x80405000, %eax; mov %eax, ran; iret; jmp reading\n");

/* --- virtual-8086 mode */

static volatile u32 vm_exit_ip, vm_exit_vector, vm_exit_error, vm_exit_flags, vm_exit_cs, vm_ax, vm_segments;
volatile u32 vm_back_esp;
extern void vm86_enter(u32 cs, u32 ip, u32 flags);
asm("vm86_enter:\n"
    "    push %ebx; push %ebp; push %esi; push %edi\n"
    "    mov %esp, vm_back_esp\n"
    "    mov 20(%esp), %eax; mov 24(%esp), %ecx; mov 28(%esp), %edx\n"
    "    push $0x4444; push $0x3333; push $0x2222; push $0x1111\n" /* GS, FS, DS, ES */
    "    push $0x3000; push $0xffe\n"  /* SS, SP */
    "    push %edx; push %eax; push %ecx\n"
    "    iret\n"
    "vm86_leave:\n"
    "    mov $0x10, %eax; mov %eax, %ds; mov %eax, %es\n"
    "    mov vm_back_esp, %esp\n"
    "    pop %edi; pop %esi; pop %ebp; pop %ebx\n"
    "    ret\n");
extern void vm86_leave(void);

static void vm86_stop(struct frame *f)
{
    vm_exit_ip = f->ip;
    vm_exit_vector = f->vector;
    vm_exit_error = f->error;
    vm_exit_flags = f->flags;
    vm_exit_cs = f->cs;
    vm_ax = f->ax;
    u32 *saved = (u32 *)(f + 1); /* ES, DS, FS, GS behind SS */
    vm_segments = saved[0] << 16 | saved[1];
    if (f->flags & F_VM) {
        f->flags &= ~F_VM;
        f->flags = 2;
        f->cs = CODE0;
        f->ip = (u32)vm86_leave;
    }
}

static void vm86_run(const u8 *code, u32 bytes, u32 flags)
{
    copy((void *)0x42000, code, bytes);
    vm_exit_vector = ~0u;
    vm86_enter(0x4200, 0, flags | F_VM | 2);
}

#define VM86(flags, ...)                                                                                 \
    ({                                                                                                   \
        static const u8 code_[] = {__VA_ARGS__};                                                         \
        vm86_run(code_, sizeof code_, flags);                                                            \
    })

extern void leave_to_ring0(void);
asm("leave_to_ring0:\n"
    "    jmp vm86_leave\n");

static void vm86(void)
{
    section("virtual-8086 mode");
    handlers[UD] = handlers[GP] = handlers[BP] = handlers[0x70] = handlers[DB] = handlers[SS] = vm86_stop;
    VM86(0, 0x0f, 0x0b);
    check(vm_exit_vector == UD && vm_exit_ip == 0 && vm_exit_cs == 0x4200 && vm_exit_flags & F_VM, "#UD leaves it");
    equal(vm_segments, 0x11112222, "ES and DS are on the stack");
    VM86(0, 0xb8, 0x34, 0x12, 0x05, 0x11, 0x11, 0x0f, 0x0b); /* mov $0x1234, ax; add $0x1111, ax */
    equal(vm_ax & 0xffff, 0x2345, "16-bit code");
    VM86(0, 0x8c, 0xd8, 0x0f, 0x0b); /* mov ds, ax */
    equal(vm_ax & 0xffff, 0x2222, "DS is what IRET gave");
    VM86(0, 0xfa);
    check(vm_exit_vector == GP && vm_exit_error == 0, "CLI with IOPL 0 is #GP");
    VM86(0, 0x9c);
    equal(vm_exit_vector, GP, "PUSHF with IOPL 0 is #GP");
    VM86(0, 0xcd, 0x70);
    equal(vm_exit_vector, GP, "INT n with IOPL 0 is #GP");
    VM86(0, 0xcf);
    equal(vm_exit_vector, GP, "IRET with IOPL 0 is #GP");
    VM86(F_IOPL, 0xfa, 0xfb, 0x9c, 0x9d, 0x0f, 0x0b);
    equal(vm_exit_vector, UD, "with IOPL 3 they run");
    VM86(0, 0xcc);
    equal(vm_exit_vector, GP, "INT3 through a gate of DPL 0");
    gate(BP, stubs + STUB_SIZE * BP, 3, INTERRUPT_GATE, 0);
    VM86(0, 0xcc);
    check(vm_exit_vector == BP && vm_exit_ip == 1, "INT3 through a gate of DPL 3, whatever IOPL");
    restore_gate(BP);
    gate(0x70, stubs + STUB_SIZE * 0x70, 3, INTERRUPT_GATE, 0);
    VM86(F_IOPL, 0xcd, 0x70);
    check(vm_exit_vector == 0x70 && vm_exit_ip == 2, "INT n with IOPL 3 through a gate of DPL 3");
    restore_gate(0x70);
    VM86(0, 0xf4);
    equal(vm_exit_vector, GP, "HLT is #GP");
    VM86(0, 0x0f, 0x20, 0xc0);
    equal(vm_exit_vector, GP, "MOV from CR0 is #GP");
    VM86(0, 0x0f, 0x00, 0xd8);
    equal(vm_exit_vector, UD, "LTR is #UD");
    VM86(0, 0xe4, 0x80);
    equal(vm_exit_vector, GP, "IN of a port that the TSS does not allow");
    VM86(0, 0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa1, 0xff, 0xff);
    equal(vm_exit_vector, GP, "a word at offset FFFF");
    VM86(F_TF, 0x90, 0x0f, 0x0b);
    check(vm_exit_vector == DB && vm_exit_ip == 1, "single-step");
    /* by a task: IRET with NT to a TSS with VM set */
    section("virtual-8086 task");
    static u8 ud[] = {0x0f, 0x0b};
    copy((void *)0x42000, ud, 2);
    handlers[UD] = 0;
    prepare(0);
    second.eip = 0;
    second.cs = 0x4200;
    second.ds = 0x1234;
    second.es = 0x2345;
    second.ss = 0x3000;
    second.esp = 0xffe;
    second.eflags = F_VM | 2;
    gdt[TASK / 8] = descriptor((u32)&second, 103, 0x8b, 0);
    tss.back = TASK;
    idt[UD] = (u64)TSS0 << 16 | 0x850000000000; /* #UD leads back to the main task */
    asm volatile("pushf; orl $0x4000, (%%esp); popf; iret" : : : "memory");
    check(1, "there and back");
    equal(second.eflags & F_VM, F_VM, "its state says VM");
    equal(second.eip, 0, "its EIP is the #UD");
    restore_gate(UD);
    tss.back = 0;
    asm volatile("clts");
    set_flags(2);
    handlers[GP] = handlers[DB] = handlers[SS] = handlers[0x70] = handlers[BP] = 0;
}

/* --- segmentation */

#define EXPECT_CODE(v, e, code, outs, ins, ...)                                                          \
    ({                                                                                                   \
        u32 got = ATTEMPT(code, outs, ins);                                                              \
        equal((u64)got << 32 | caught.error, (u64)(v) << 32 | (got == NOTHING ? caught.error : (e)), __VA_ARGS__); \
    })

static u8 data[64];
static void segments(void)
{
    section("segments");
    gdt[OTHER / 8] = descriptor((u32)data, 15, 0x93, 0x40);
    asm volatile("mov %0, %%es" : : "r"(OTHER));
    EXPECT_CODE(NOTHING, 0, "movb $1, %%es:15", NONE, NONE, "byte at the limit");
    EXPECT_CODE(GP, 0, "movb $1, %%es:16", NONE, NONE, "byte behind the limit");
    EXPECT_CODE(GP, 0, "movl $1, %%es:13", NONE, NONE, "dword over the limit");
    EXPECT_CODE(NOTHING, 0, "movl $1, %%es:12", NONE, NONE, "dword at the limit");
    gdt[OTHER / 8] = descriptor((u32)data, 15, 0x97, 0x40); /* expand down */
    asm volatile("mov %0, %%es" : : "r"(OTHER));
    EXPECT_CODE(GP, 0, "movb $1, %%es:15", NONE, NONE, "expand-down: at the limit");
    EXPECT_CODE(NOTHING, 0, "movb $1, %%es:16", NONE, NONE, "expand-down: above it");
    gdt[OTHER / 8] = descriptor((u32)data, 15, 0x91, 0x40);
    asm volatile("mov %0, %%es" : : "r"(OTHER));
    EXPECT_CODE(GP, 0, "movb $1, %%es:0", NONE, NONE, "write to a read-only segment");
    EXPECT_CODE(NOTHING, 0, "movb %%es:0, %%al", NONE, NONE, "read of it");
    asm volatile("mov %0, %%es" : : "r"(0));
    EXPECT_CODE(GP, 0, "movb %%es:0, %%al", NONE, NONE, "null segment");
    asm volatile("mov %0, %%es" : : "r"(DATA0));
    EXPECT_CODE(GP, 0, "movb $1, %%cs:0x500000", NONE, NONE, "write through CS");
    gdt[OTHER / 8] = descriptor(0, 0xfffff, 0x99, 0xc0); /* execute-only */
    caught.vector = NOTHING;
    asm volatile("movl $9f, caught; ljmp %0, $xo; xo: movb %%cs:xo, %%al; 9: movl $0, caught; ljmp $8, $1f; 1:" : : "i"(OTHER) : "memory", "eax");
    equal(caught.vector, GP, "read through an execute-only CS");
    /* call gates */
    section("call gates");
    extern char cg_target[];
    gdt[GATE / 8] = ((u32)cg_target & 0xffff) | (u64)CODE0 << 16 | (u64)0xec << 40 | (u64)((u32)cg_target >> 16) << 48;
    u32 seen = 0;
    asm volatile("lcall %1, $0xf4f4f4f4; jmp 2f; cg_target: mov %%cs, %%eax; lret; 2:" : "=a"(seen) : "i"(GATE) : "memory");
    equal(seen & 0xffff, CODE0, "same ring");
    gdt[GATE / 8] &= ~(1ull << 47);
    EXPECT_CODE(NP, GATE, "lcall %0, $0", NONE, INS("i"(GATE)), "absent");
    /* 16-bit code and stack */
    section("16-bit segments");
    gdt[OTHER / 8] = descriptor(0, 0xfffff, 0x9b, 0x80); /* 16-bit code, 4 GiB */
    u32 v = 0;
    asm volatile("ljmp %1, $3f; .code16; 3: mov $0xffff, %%ax; add $1, %%ax; pushf; popw %%dx; movzwl %%dx, %0; ljmpl $8, $4f; .code32; 4:" : "=r"(v) : "i"(OTHER) : "eax", "edx", "memory");
    check(v & F_CF, "16-bit code");
    gdt[OTHER / 8] = descriptor((u32)task_stack, 0xffff, 0x93, 0x00);
    u32 sp = 0;
    asm volatile("mov %%esp, %%ebx; mov %1, %%ss; mov $0x12340800, %%esp; push %%eax; mov %%esp, %0; mov $0x10, %%ecx; mov %%ecx, %%ss; mov %%ebx, %%esp" : "=&d"(sp) : "r"(OTHER) : "ebx", "ecx", "memory");
    equal(sp, 0x123407fc, "a 16-bit stack leaves the upper half of ESP");
    /* LAR, LSL, VERR, VERW */
    section("LAR, LSL, VERR, VERW");
    u32 r = 0;
    u8 z;
    asm volatile("lar %2, %0; setz %1" : "=r"(r), "=q"(z) : "r"(CODE0));
    check(z && r == 0x00cf9b00, "LAR of code");
    asm volatile("lsl %2, %0; setz %1" : "=r"(r), "=q"(z) : "r"(DATA0));
    check(z && r == 0xffffffff, "LSL of data");
    asm volatile("lsl %2, %0; setz %1" : "=r"(r), "=q"(z) : "r"(TSS0));
    check(z && r == 0x67, "LSL of a TSS");
    asm volatile("lar %2, %0; setz %1" : "=r"(r), "=q"(z) : "r"(0));
    check(!z, "LAR of null");
    asm volatile("verr %w1; setz %0" : "=q"(z) : "r"(CODE0));
    check(z, "VERR of readable code");
    asm volatile("verw %w1; setz %0" : "=q"(z) : "r"(CODE0));
    check(!z, "VERW of code");
    asm volatile("verw %w1; setz %0" : "=q"(z) : "r"(0xfff8));
    check(!z, "VERW beyond the GDT");
    u16 rpl = DATA0;
    asm volatile("arpl %2, %0; setz %1" : "+r"(rpl), "=q"(z) : "r"((u16)3));
    check(z && rpl == (DATA0 | 3), "ARPL");
}

static void old_instructions(void)
{
    section("32-bit only");
    u32 a = 0, v;
    asm volatile("mov $0x39, %%eax; add $0x27, %%al; daa" : "=a"(a));
    equal(a & 0xff, 0x66, "DAA");
    asm volatile("mov $0x0035, %%eax; sub $0x08, %%al; aas" : "=a"(a));
    asm volatile("mov $0x0205, %%eax; aad" : "=a"(a));
    equal(a & 0xffff, 25, "AAD");
    asm volatile("mov $25, %%eax; aam" : "=a"(a));
    equal(a & 0xffff, 0x0205, "AAM");
    equal(ATTEMPT(".byte 0xd4, 0", NONE, INS("a"(1))), DE, "AAM 0 is #DE");
    static int bounds[2] = {-5, 5};
    equal(ATTEMPT("bound %0, %1", NONE, INS("r"(3), "m"(*(u64 *)bounds))), NOTHING, "BOUND inside");
    equal(ATTEMPT("bound %0, %1", NONE, INS("r"(6), "m"(*(u64 *)bounds))), BR, "BOUND above");
    equal(ATTEMPT("bound %0, %1", NONE, INS("r"(-6), "m"(*(u64 *)bounds))), BR, "BOUND below");
    asm volatile("pusha; mov $0, %%eax; mov $0, %%ebx; popa" : : : "memory");
    asm volatile("push %%es; pop %%es; push %%ds; pop %%ds; push %%ss; pop %%ss" : : : "memory");
    asm volatile("xor %%eax, %%eax; .byte 0xd6; mov %%eax, %0" : "=r"(v) : : "eax"); /* SALC */
    check((v & 0xff) == 0, "SALC");
    u64 memory = 0x1111111122222222;
    u32 lo = 0x22222222, hi = 0x11111111;
    u8 z;
    asm volatile("lock; cmpxchg8b %0; setz %3" : "+m"(memory), "+a"(lo), "+d"(hi), "=q"(z) : "b"(3), "c"(4));
    check(z && memory == 0x400000003, "CMPXCHG8B equal");
    asm volatile("cmpxchg8b %0; setz %3" : "+m"(memory), "+a"(lo), "+d"(hi), "=q"(z) : "b"(3), "c"(4));
    check(!z && lo == 3 && hi == 4, "CMPXCHG8B different");
    equal(ATTEMPT(".byte 0xf0, 0x0f, 0xc7, 0xc8", NONE, NONE), UD, "LOCK CMPXCHG8B of a register");
    equal(ATTEMPT("sysenter", NONE, NONE), GP, "SYSENTER with CS 0");
    equal(ATTEMPT("syscall", NONE, NONE, "ecx"), UD, "SYSCALL without SCE");
    equal(try_cr4(get_cr4() | CR4_PCIDE), GP, "PCIDE outside long mode");
    equal(try_cr0((get_cr0() | CR0_PG) & ~CR0_PE), GP, "PG without PE");
    wrmsr(MSR_EFER, EFER_LME);
    set_cr4(get_cr4() & ~CR4_PAE);
    equal(try_cr0(get_cr0() | CR0_PG), GP, "long mode without PAE");
    wrmsr(MSR_EFER, 0);
}

volatile u32 se_back, se_cs, se_user_cs, se_user_ss, se_flags;
extern void by_sysexit(void);
extern char se_entry[], se_stack[];
asm("by_sysexit: push %ebx; push %ebp; push %esi; push %edi\n"
    "    mov %esp, se_back\n"
    "    mov $0x3b, %eax; mov %eax, %ds; mov %eax, %es\n"
    "    mov $se_user, %edx; mov $0x12345678, %ecx\n"
    "    sti\n"
    "    sysexit\n"
    "se_user: mov %cs, %eax; mov %eax, se_user_cs; mov %ss, %eax; mov %eax, se_user_ss\n"
    "    cmp $0x12345678, %esp; jne 1f\n"
    "    sysenter\n"
    "1:  ud2\n"
    "se_entry: cmp $se_stack, %esp; jne 1b\n"
    "    mov se_back, %esp\n"
    "    pushf; popl se_flags\n"
    "    mov %cs, %eax; mov %eax, se_cs\n"
    "    mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
    "    pop %edi; pop %esi; pop %ebp; pop %ebx\n"
    "    ret\n"
    ".bss; .skip 256; se_stack: .skip 4; .text\n");

static void sysenter(void)
{
    section("SYSENTER, SYSEXIT");
    u64 usual = gdt[SPARE / 8];
    for (u32 n = 0; n < 4; n++) {
        static const u64 flat[] = {0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff};
        gdt[SPARE / 8 + n] = flat[n];
    }
    wrmsr(0x174, SPARE);
    wrmsr(0x175, (u32)se_stack);
    wrmsr(0x176, (u32)se_entry);
    by_sysexit();
    equal(se_user_cs, SPARE + 16 + 3, "SYSEXIT: CS");
    equal(se_user_ss, SPARE + 24 + 3, "SYSEXIT: SS");
    equal(se_cs, SPARE, "SYSENTER: CS");
    check(!(se_flags & F_IF), "SYSENTER clears IF");
    wrmsr(0x174, 0);
    gdt[SPARE / 8] = usual;
    /* CS is SPARE now: back to the usual one */
    asm volatile("ljmp %0, $1f; 1:" : : "i"(CODE0));
}

static word cross_ring(word v)
{
    u32 r = 0;
    asm volatile("lcall %1, $0" : "=a"(r) : "i"(GATE) : "memory", "ecx", "edx");
    return r;
}

static void inner_call(void)
{
    section("call gate to ring 0");
    extern char inner_target[];
    gdt[GATE / 8] = ((u32)inner_target & 0xffff) | (u64)CODE0 << 16 | (u64)0xec << 40 | (u64)((u32)inner_target >> 16) << 48;
    equal(in_ring3(cross_ring, 0), (u32)CODE0 << 16 | (CODE3 | 0), "CS in the gate's code and the caller's CS");
}
asm("inner_target: mov %cs, %eax; shl $16, %eax; mov 4(%esp), %ax; lret\n");

void test(void)
{
    calls();
    refused();
    by_interrupt();
    page_fault_task();
    in_new_task();
    segments();
    old_instructions();
    sysenter();
    inner_call();
    vm86();
}
