/* Real mode, with one segment left big: instructions, interrupts, limits, segment arithmetic. 32-bit kernel.
 * SDM Vol. 3A, chapter 20. */
#include "kernel.h"

struct regs { u32 ax, bx, cx, dx, si, di, bp, sp, flags, ds, es; };
struct event { u16 vector, ip, cs, flags; };
#define IN ((volatile struct regs *)0x5000)
#define OUT ((volatile struct regs *)0x5040)
#define EVENT ((volatile struct event *)0x5080)
#define CODE ((u8 *)0x6800)
#define STUBS 0x7000
#define STACK 0x5ff0

extern void real(void);
extern char real_code[], real_end[];
asm(".code32\n"
    "real: push %ebx; push %ebp; push %esi; push %edi\n"
    "    mov %esp, real_sp\n"
    "    sidt real_idt\n"
    "    lidt real_ivt\n"
    "    ljmp $0x20, $0x6000\n"
    "real_again:\n"
    "    mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
    "    xor %eax, %eax; mov %eax, %fs; mov %eax, %gs\n"
    "    mov real_sp, %esp\n"
    "    lidt real_idt\n"
    "    pop %edi; pop %esi; pop %ebp; pop %ebx\n"
    "    ret\n"
    ".code16\n"
    "real_code:\n"
    "    mov $0x50, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs\n" /* limit FFFF */
    "    mov $0x10, %ax; mov %ax, %gs\n"                                          /* limit 4 GiB */
    "    mov %cr0, %eax; and $~1, %al; mov %eax, %cr0\n"
    "    ljmp $0, $0x6000 + 1f - real_code\n"
    "1:  xor %ax, %ax; mov %ax, %ss; mov %ax, %fs\n"
    "    mov %ax, %ds\n"
    "    mov 0x5028, %es\n"
    "    mov 0x5004, %ebx; mov 0x5008, %ecx; mov 0x500c, %edx; mov 0x5010, %esi; mov 0x5014, %edi; mov 0x5018, %ebp\n"
    "    mov 0x501c, %esp\n"
    "    pushl 0x5020; popfl\n"
    "    mov 0x5000, %eax\n"
    "    mov 0x5024, %ds\n"
    "    ljmp $0, $0x6800\n"
    "real_back:\n" /* at 0x6000 + real_back - real_code */
    "    cli\n"
    "    pushfl; popl %cs:0x5060\n"
    "    mov %ds, %cs:0x5064; mov %es, %cs:0x5068\n"
    "    mov %eax, %cs:0x5040; mov %ebx, %cs:0x5044; mov %ecx, %cs:0x5048; mov %edx, %cs:0x504c; mov %esi, %cs:0x5050\n"
    "    mov %edi, %cs:0x5054; mov %ebp, %cs:0x5058; mov %esp, %cs:0x505c\n"
    "    mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
    "    ljmpl $0x08, $real_again\n"
    "real_event:\n" /* from a stub: the vector, then IP, CS, FLAGS on the stack */
    "    popw %cs:0x5080; popw %cs:0x5082; popw %cs:0x5084; popw %cs:0x5086\n"
    "    xorw %sp, %sp; mov %sp, %ss; mov $0x5ff0, %sp\n"
    "    ljmp $0, $0x6000 + real_back - real_code\n"
    "real_end:\n"
    ".code32\n");
extern char real_back[], real_event[];
u32 real_sp;
struct table real_idt, real_ivt = {0x3ff, 0};

static void install(void)
{
    gdt[SPARE / 8] = descriptor(0, 0xffff, 0x93, 0);
    copy((void *)0x6000, real_code, real_end - real_code);
    u16 event = 0x6000 + (real_event - real_code);
    for (u32 n = 0; n < 256; n++) {
        u8 *stub = (u8 *)STUBS + 8 * n;
        stub[0] = 0x68; /* push imm16 */
        *(u16 *)(stub + 1) = n;
        stub[3] = 0xe9; /* jmp rel16 */
        *(u16 *)(stub + 4) = event - (STUBS + 8 * n + 6);
        ((volatile u32 *)0)[n] = STUBS + 8 * n;
    }
}

static void fresh(void)
{
    clear((void *)IN, sizeof *IN);
    IN->sp = STACK;
    IN->flags = 2;
}

static void run(const char *code, u32 bytes)
{
    for (u32 n = 0; n < 128; n++)
        CODE[n] = 0x90;
    copy(CODE, code, bytes);
    CODE[128] = 0xea; /* ljmp 0:real_back */
    *(u16 *)(CODE + 129) = 0x6000 + (real_back - real_code);
    *(u16 *)(CODE + 131) = 0;
    EVENT->vector = 0xffff;
    real();
}

/* Assembles `text` as 16-bit code and runs it. */
const char *volatile snippet_from, *volatile snippet_to;
#define RUN(text)                                                                                        \
    ({                                                                                                   \
        asm(".pushsection .rodata; 771: .code16; " text "; 772: .code32; .popsection\n"                  \
            "movl $771b, snippet_from; movl $772b, snippet_to");                                         \
        run((const char *)snippet_from, snippet_to - snippet_from);                                      \
    })
#define AX (OUT->ax)
#define EXPECT(what, ...) check((what) && EVENT->vector == 0xffff, __VA_ARGS__)
#define EVENT_IS(v, at, ...)                                                                             \
    equal((u32)EVENT->vector << 16 | EVENT->ip, (u32)(v) << 16 | (0x6800 + (at)), __VA_ARGS__)

static void moves(void)
{
    section("moves and arithmetic");
    fresh();
    RUN("mov $1234, %ax");
    EXPECT(AX == 1234, "MOV of 16 bits");
    RUN("mov $1234567890, %eax");
    EXPECT(AX == 1234567890, "MOV of 32 bits");
    RUN("mov $0x12, %ah; mov $0x34, %al");
    EXPECT(AX == 0x1234, "MOV of bytes");
    IN->ax = 0xffff0000, IN->bx = 5;
    RUN("xchg %eax, %ebx");
    EXPECT(AX == 5 && OUT->bx == 0xffff0000, "XCHG");
    IN->ax = 0xffff1234;
    RUN("xchg %ax, %bx");
    EXPECT(AX == 0xffff0005 && OUT->bx == 0x1234, "XCHG of 16 bits keeps the upper halves");
    fresh();
    IN->ax = 0xbe, IN->dx = 0xef000000;
    RUN("shld $8, %edx, %eax");
    EXPECT(AX == 0xbeef, "SHLD");
    RUN("mov $0x43211234, %eax; add $0x12344321, %eax");
    EXPECT(AX == 0x55555555, "ADD");
    RUN("mov $0x34, %al; cmp $0x39, %al");
    EXPECT(!(OUT->flags & 0x40) && OUT->flags & F_CF, "CMP");
    fresh();
    IN->ax = 0x12345678;
    RUN("cbw; cwd");
    EXPECT(AX == 0x12340078 && (u16)OUT->dx == 0, "CBW, CWD");
    IN->ax = 0xfffffff0;
    RUN("cwde; cdq");
    EXPECT(AX == 0xfffffff0 && OUT->dx == 0xffffffff, "CWDE, CDQ");
    IN->ax = 0x1000, IN->cx = 0x10;
    RUN("mul %cx");
    EXPECT((u16)AX == 0 && (u16)OUT->dx == 1, "MUL");
    IN->ax = 1234, IN->dx = 0;
    IN->cx = 50;
    RUN("div %cx");
    EXPECT((u16)AX == 24 && (u16)OUT->dx == 34, "DIV");
    IN->ax = 0xaabbccdd;
    RUN("bswap %eax");
    EXPECT(AX == 0xddccbbaa, "BSWAP");
    IN->ax = 0x0203;
    RUN("aad");
    EXPECT((u16)AX == 23, "AAD");
    RUN("mov $23, %ax; aam");
    EXPECT((u16)AX == 0x0203, "AAM");
    IN->ax = 0x1234;
    RUN("mov $0x8888, %cx; imul $3, %ax, %bx; neg %ax; not %cx");
    EXPECT((u16)OUT->bx == 0x369c && (u16)AX == 0xedcc && (u16)OUT->cx == 0x7777, "IMUL, NEG, NOT");
    RUN("xor %eax, %eax; sets %al; cpuid");
    EXPECT(AX >= 1, "CPUID");
}

static void stack(void)
{
    section("stack and calls");
    fresh();
    RUN("mov $0x12345678, %eax; push %eax; pop %ebx");
    EXPECT(OUT->bx == 0x12345678 && OUT->sp == STACK, "PUSH, POP of 32 bits");
    RUN("mov $0x4321, %ax; push %ax; pop %bx");
    EXPECT((u16)OUT->bx == 0x4321, "of 16 bits");
    RUN("mov $0x123, %ax; mov %ax, %es; push %es; pop %bx");
    EXPECT((u16)OUT->bx == 0x123 && OUT->es == 0x123, "PUSH ES");
    RUN("mov $0x777, %ax; push %ax; pop %es; mov %es, %bx");
    EXPECT((u16)OUT->bx == 0x777, "POP ES");
    RUN("mov $0x555, %ax; push %ss; push %ax; pop %ss; mov %ss, %bx; mov $0, %cx; mov %cx, %ss");
    EXPECT((u16)OUT->bx == 0x555, "POP SS");
    IN->sp = 0x12340000 + STACK;
    RUN("push %ax; push %ebx; pop %ebx; pop %ax");
    EXPECT(OUT->sp == 0x12340000 + STACK, "the upper half of ESP does not count and stays");
    fresh();
    RUN("pusha; xor %eax, %eax; mov %eax, %ebx; popa; pushal; popal");
    EXPECT(OUT->sp == STACK, "PUSHA, POPA");
    RUN("call 1f; jmp 2f; 1: mov $0x1234, %eax; ret; 2:");
    EXPECT(AX == 0x1234, "CALL near");
    RUN("lcall $0, $0x6800 + 1f - 771b; jmp 2f; 1: mov %cs, %bx; mov $0x4242, %eax; lret; 2:");
    EXPECT(AX == 0x4242 && (u16)OUT->bx == 0, "CALL far");
    RUN("sub $10, %sp; push $0x6800 + 1f - 771b; ret $10; ud2; 1:");
    EXPECT(OUT->sp == STACK, "RET n");
    RUN("push %cs; push $0x6800 + 1f - 771b; lret; ud2; 1:");
    EXPECT(1, "RET far");
    RUN("ljmp $0x680, $1f - 771b; ud2; 1: mov %cs, %ax; ljmp $0, $0x6800 + 2f - 771b; 2:");
    EXPECT((u16)AX == 0x680, "JMP far to another CS");
    RUN("mov $0x6800 + 1f - 771b, %eax; jmp *%ax; ud2; 1:");
    EXPECT(1, "JMP by register");
    RUN("enter $0x20, $0; mov %sp, %ax; leave");
    EXPECT((u16)AX == STACK - 2 - 0x20 && OUT->sp == STACK, "ENTER, LEAVE");
    RUN("enter $4, $2; leave");
    EXPECT(OUT->sp == STACK, "ENTER with levels");
    RUN("pushf; pop %ax; pushfl; pop %ebx");
    EXPECT((u16)AX == 2 && OUT->bx == 2, "PUSHF");
}

static void control(void)
{
    section("control");
    fresh();
    IN->cx = 5;
    RUN("1: inc %ax; loop 1b");
    EXPECT((u16)AX == 5 && (u16)OUT->cx == 0, "LOOP");
    IN->cx = 0x10003;
    RUN("xor %ax, %ax; 1: inc %ax; loop 1b");
    EXPECT((u16)AX == 3 && OUT->cx == 0x10000, "LOOP counts with CX");
    IN->cx = 3;
    RUN("xor %ax, %ax; 1: inc %ax; cmp $2, %ax; loopne 1b");
    EXPECT((u16)AX == 2, "LOOPNE");
    IN->cx = 0x10000;
    RUN("xor %ax, %ax; jcxz 1f; inc %ax; 1:");
    EXPECT((u16)AX == 0, "JCXZ");
    RUN("xor %ax, %ax; jecxz 1f; inc %ax; 1:");
    EXPECT((u16)AX == 1, "JECXZ");
    RUN("stc; jnc 1f; mov $7, %ax; 1: .byte 0x0f, 0x82, 3, 0; mov $8, %ax");
    EXPECT((u16)AX == 7, "Jcc short and near");
    RUN("std; pushf; pop %ax; cld; sti; pushf; pop %bx; cli");
    EXPECT((u16)AX & F_DF && (u16)OUT->bx & F_IF, "STD, STI");
    RUN("mov $0x0246, %ax; push %ax; popf; lahf");
    EXPECT((AX >> 8 & 0xff) == 0x46, "POPF, LAHF");
    RUN("mov $0xfffffcff, %eax; push %eax; popfl; pushfl; pop %eax; mov $2, %ebx; push %ebx; popfl");
    EXPECT(!(AX & F_VM), "POPFL leaves VM alone");
}

static void memory(void)
{
    section("memory and segments");
    fresh();
    *(volatile u32 *)0x12340 = 0xcafebabe;
    IN->ds = 0x1234;
    RUN("mov 0, %eax");
    EXPECT(AX == 0xcafebabe, "DS * 16");
    IN->ds = 0;
    IN->si = 0x2340;
    RUN("mov $0x1000, %ax; mov %ax, %es; mov %es:(%si), %eax");
    EXPECT(AX == 0xcafebabe, "ES override");
    IN->ds = 0xffff;
    *(volatile u32 *)0x100000 = 0x5a5a1234;
    RUN("mov 0x10, %eax");
    EXPECT(AX == 0x5a5a1234, "FFFF:0010 is 1 MiB");
    fresh();
    *(volatile u32 *)0x600000 = 0x11223344;
    IN->bx = 0x600000;
    RUN("mov %gs:(%ebx), %eax");
    EXPECT(AX == 0x11223344, "a big segment reaches everything");
    RUN("mov (%ebx), %eax");
    EVENT_IS(GP, 0, "one of 64 KiB does not: #GP");
    IN->bx = 0xffff;
    RUN("mov (%bx), %al");
    EXPECT(1, "a byte at FFFF");
    RUN("mov (%bx), %ax");
    EVENT_IS(GP, 0, "a word at FFFF is #GP");
    RUN("mov %ax, (%bx)");
    EVENT_IS(GP, 0, "written, too");
    IN->bp = 0xffff;
    RUN("mov (%bp), %ax");
    EVENT_IS(SS, 0, "by BP it is #SS");
    fresh();
    IN->si = 0x9000, IN->di = 0x9100, IN->cx = 16;
    for (int n = 0; n < 16; n++)
        ((volatile u8 *)0x9000)[n] = n;
    RUN("rep movsb");
    EXPECT(((volatile u8 *)0x9100)[15] == 15 && (u16)OUT->si == 0x9010 && (u16)OUT->di == 0x9110 && (u16)OUT->cx == 0, "REP MOVSB");
    IN->di = 0x9100, IN->ax = 7, IN->cx = 16;
    RUN("repne scasb");
    EXPECT((u16)OUT->di == 0x9108 && (u16)OUT->cx == 8, "REPNE SCASB");
    IN->si = 0x9000, IN->di = 0x9100, IN->cx = 16;
    RUN("repe cmpsb");
    EXPECT((u16)OUT->cx == 0 && OUT->flags & 0x40, "REPE CMPSB");
    IN->di = 0xfffe, IN->cx = 4, IN->ax = 0;
    *(volatile u32 *)0xfffe = 0;
    RUN("mov $0x2000, %ax; mov %ax, %es; mov $0x77, %al; rep stosb");
    EXPECT(*(volatile u8 *)0x2ffff == 0x77 && *(volatile u8 *)0x20001 == 0x77 && (u16)OUT->di == 2, "string instructions wrap at 64 KiB");
    fresh();
    *(volatile u32 *)0x9200 = 0x12345678;
    IN->bx = 0x9200;
    RUN("les (%bx), %ax");
    EXPECT(OUT->es == 0x1234 && (u16)AX == 0x5678, "LES");
    RUN("lds (%bx), %ax; mov %ds, %bx; xor %cx, %cx; mov %cx, %ds");
    EXPECT((u16)OUT->bx == 0x1234, "LDS");
    RUN("mov $3, %ax; lea 2(%bx), %ax");
    EXPECT((u16)AX == 0x9202, "LEA");
    IN->ax = 5;
    RUN("xlat");
    EXPECT(1, "XLAT");
    RUN("mov $0xe0, %dx; mov $0xff, %al; out %al, %dx; xor %ax, %ax; in %dx, %al");
    EXPECT((u16)AX == 0xff, "IN, OUT");
    RUN("mov $0x12345678, %eax; out %eax, $0xe0; xor %eax, %eax; in $0xe0, %eax");
    EXPECT(AX == 0x12345678, "IN, OUT of 32 bits");
    RUN("smsw %ax");
    EXPECT(!(AX & 1), "SMSW: PE is clear");
    RUN("sgdt 0x9300; sidt 0x9310");
    EXPECT(*(volatile u16 *)0x9310 == 0x3ff, "SIDT");
}

static void events(void)
{
    section("interrupts and exceptions");
    fresh();
    RUN("int $0x21");
    EVENT_IS(0x21, 2, "INT n");
    RUN("int3");
    EVENT_IS(BP, 1, "INT3");
    IN->ax = 127;
    RUN("add $1, %al; into");
    EVENT_IS(OF, 3, "INTO");
    IN->flags = F_CF | 2;
    RUN("int $0x22");
    equal(EVENT->flags, F_CF | 2, "the flags on the stack");
    equal(EVENT->cs, 0, "CS on the stack");
    check(!(OUT->flags & F_IF), "IF is clear in the handler");
    fresh();
    RUN("xor %cx, %cx; div %cx");
    EVENT_IS(DE, 2, "#DE points at the instruction");
    RUN("ud2");
    EVENT_IS(UD, 0, "#UD");
    RUN("lldt %ax");
    EVENT_IS(UD, 0, "LLDT is #UD");
    RUN("arpl %ax, %bx");
    EVENT_IS(UD, 0, "ARPL is #UD");
    RUN("lar %ax, %bx");
    EVENT_IS(UD, 0, "LAR is #UD");
    RUN("mov %cr1, %eax");
    EVENT_IS(UD, 0, "CR1 is #UD");
    RUN(".byte 0xf0, 0x90");
    EVENT_IS(UD, 0, "LOCK NOP is #UD");
    RUN("push $0x9999; push $0x9999; int $0x23; nop");
    EVENT_IS(0x23, 8, "INT after pushes");
    RUN("mov $0xdead, %ecx; rdmsr");
    EVENT_IS(GP, 6, "RDMSR of an unknown register");
    RUN("mov $0x1b, %ecx; rdmsr");
    EXPECT(AX & 0x800, "RDMSR");
    IN->flags = F_TF | 2;
    RUN("nop; nop");
    check(EVENT->vector == DB, "single-step");
    fresh();
    /* a handler that returns */
    ((volatile u32 *)0)[0x40] = 0x6a00;
    static const u8 handler_code[] = {0x66, 0x05, 0x11, 0, 0, 0, 0xcf}; /* add $0x11, %eax; iret */
    copy((void *)0x6a00, handler_code, sizeof handler_code);
    RUN("mov $1, %eax; int $0x40; add $1, %eax; int $0x40");
    EXPECT(AX == 0x24, "IRET");
    RUN("pushfl; pushl %eax; push %cs; push $0x6800 + 1f - 771b; pushf; addr32 nop; pop %cx; pop %dx; pop %bx; pop %eax; popfl; 1:");
    EXPECT(1, "frames on the stack");
    RUN("pushfl; pushl $0; pushl $0x6800 + 1f - 771b; iretl; ud2; 1:");
    EXPECT(OUT->sp == STACK, "IRETD");
    RUN("pushf; push %cs; push $0x6800 + 1f - 771b; iretw; ud2; 1: mov $0x66, %ax");
    EXPECT((u16)AX == 0x66, "IRET of a frame made by hand");
    /* the table elsewhere, and a limit */
    fresh();
    real_ivt.limit = 0x1ff;
    RUN("int $0x7f");
    EVENT_IS(0x7f, 2, "the last vector within the limit");
    RUN("int $0x80");
    EVENT_IS(GP, 0, "a vector beyond the limit is #GP");
    real_ivt.limit = 0x3ff;
}

static void modes(void)
{
    section("PE on and off");
    fresh();
    RUN("mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $7, %bx; and $~1, %al; mov %eax, %cr0");
    EXPECT((u16)OUT->bx == 7, "without a far jump, 16-bit code runs on");
    RUN("smsw %ax; or $1, %al; lmsw %ax; smsw %bx; mov %cr0, %eax; and $~1, %al; mov %eax, %cr0");
    EXPECT(OUT->bx & 1, "LMSW sets PE");
    RUN("mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x10, %bx; mov %bx, %es; and $~1, %al; mov %eax, %cr0; mov $0x600000, %ebx; mov %es:(%ebx), %eax");
    EXPECT(AX == 0x11223344, "ES made big");
    RUN("mov $0, %bx; mov %bx, %es; mov $0x600000, %ebx; mov %gs:(%ebx), %eax");
    EXPECT(AX == 0x11223344, "loading ES in real mode does not change GS");
}

void test(void)
{
    install();
    moves();
    stack();
    control();
    memory();
    events();
    modes();
}
