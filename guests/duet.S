/* duet: two CPUs take turns at printing, each in time with a timer of its own, while the PIT ticks along.
 *
 * Look at: what keeps a machine with several CPUs together: memory that they share, and three timers.
 * Everything is fixed but the time it takes, so it must print the same with 1 to 4 CPUs, on every engine,
 * and while the machine is moved from one engine to another.
 */
#include "guest.h"

#define LAPIC_EOI 0x0b0
#define LAPIC_SVR 0x0f0
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_INITIAL_COUNT 0x380
#define LAPIC_DIVIDE 0x3e0
#define SVR_ENABLE 0x100
#define LINT0_EXTINT 0x700      /* the 8259 speaks through LINT0 of the first CPU (SDM Vol. 3A, 10.5.1) */
#define LVT_MASKED 0x10000
#define TIMER_PERIODIC 0x20000
#define DIVIDE_BY_16 3
#define PERIOD 250000           /* 4 ms at a 1 GHz bus clock, divided by 16 */

#define PIC1_COMMAND 0x20
#define PIC1_DATA 0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA 0xa1
#define PIC_EOI 0x20
#define PIT_CHANNEL0 0x40
#define PIT_COMMAND 0x43
#define PIT_DIVISOR 11932       /* 1193182 Hz / 100 Hz */

#define PIT_VECTOR 0x20
#define TIMER_VECTOR 0x40
#define SPURIOUS 0x4f
#define STACK_SIZE 1024
#define MAX_CPUS 4
#define BEATS 15

.macro OUT8 port, value
    mov al, \value
    out \port, al
.endm

.macro GATE vector, handler
    mov edi, \vector
    lea rsi, [rip + \handler]
    xor edx, edx
    call idt_gate
.endm

    .globl _start, secondary
_start:
    lea rsp, [rip + stacks + STACK_SIZE]
    call smp_page_tables
    call kernel_init
    GATE PIT_VECTOR, pit_tick
    GATE TIMER_VECTOR, own_tick
    GATE SPURIOUS, spurious
    call start_pit
    call smp_cpus
    mov [rip + cpus], eax
    cmp eax, MAX_CPUS
    ja too_many
    call smp_init
    mov eax, LAPIC              /* KVM drops INIT and SIPI of a local APIC that is still software-disabled */
    mov dword ptr [rax + LAPIC_SVR], SVR_ENABLE | SPURIOUS
    mov r12d, 1
1:  cmp r12d, [rip + cpus]
    jae 2f
    mov edi, r12d
    call smp_start
    inc r12d
    jmp 1b
2:  xor r12d, r12d
    mov r13d, LINT0_EXTINT
    jmp play
too_many:
    PRINT "more CPUs than this guest has stacks for\n"
    EXIT 1

/* Where all other CPUs arrive, perhaps at the same time. */
secondary:
    mov eax, LAPIC + LAPIC_ID   /* which decides on the stack, so nothing can be called yet */
    mov r12d, [rax]
    shr r12d, 24
    lea eax, [r12 + 1]
    imul eax, eax, STACK_SIZE
    lea rsp, [rip + stacks]
    add rsp, rax
    call kernel_init
    mov r13d, LVT_MASKED

/* Every CPU, with its number in R12 and its LINT0 entry in R13: start the timer, play all beats, stop. */
play:
    mov ebp, LAPIC
    mov dword ptr [rbp + LAPIC_SVR], SVR_ENABLE | SPURIOUS
    mov [rbp + LAPIC_LVT_LINT0], r13d
    mov dword ptr [rbp + LAPIC_DIVIDE], DIVIDE_BY_16
    mov dword ptr [rbp + LAPIC_LVT_TIMER], TIMER_PERIODIC | TIMER_VECTOR
    mov dword ptr [rbp + LAPIC_INITIAL_COUNT], PERIOD
    lea rbp, [rip + ticks]
    lea rbp, [rbp + r12 * 4]    /* RBP: this CPU's tick counter */
    mov r14d, 1                 /* R14: beat */
beat:
    call wait_for_turn
    cmp r14d, BEATS
    ja finish
    call wait_for_tick
    PRINT "cpu "
    mov edi, r12d
    call putdec
    PRINT " beat "
    mov edi, r14d
    call putdec
    PUTC '\n'
    inc r14d
    call pass_turn
    jmp beat

/* The last beat is played. The turn is the first CPU's, and it never passes it on, so nobody else comes here:
   it looks whether the PIT is still alive, and ends the machine. */
finish:
    mov eax, [rip + pit_ticks]
1:  cli
    cmp eax, [rip + pit_ticks]
    jne 2f
    sti
    hlt
    jmp 1b
2:  PRINT "the PIT ticks on\n"
    EXIT 0

/* Sleep until the turn is this CPU's. Its own ticks wake it to look. */
wait_for_turn:
    cli
    cmp r12d, [rip + turn]
    je 1f
    sti                         /* takes effect after HLT has begun: no tick is lost in between */
    hlt
    jmp wait_for_turn
1:  sti
    ret

/* Sleep until this CPU's timer has ticked once more. */
wait_for_tick:
    mov r15d, [rbp]
1:  cli
    cmp r15d, [rbp]
    jne 2f
    sti
    hlt
    jmp 1b
2:  sti
    ret

pass_turn:
    lea eax, [r12 + 1]
    cmp eax, [rip + cpus]
    jb 1f
    xor eax, eax
1:  mov [rip + turn], eax
    ret

/* 8259A data sheet: ICW1 edge, cascade, ICW4 follows; ICW2 vector base; ICW3 wiring; ICW4 8086 mode */
start_pit:
    OUT8 PIC1_COMMAND, 0x11
    OUT8 PIC2_COMMAND, 0x11
    OUT8 PIC1_DATA, PIT_VECTOR
    OUT8 PIC2_DATA, PIT_VECTOR + 8
    OUT8 PIC1_DATA, 4
    OUT8 PIC2_DATA, 2
    OUT8 PIC1_DATA, 1
    OUT8 PIC2_DATA, 1
    OUT8 PIC2_DATA, 0xff
    OUT8 PIC1_DATA, 0xfe        /* only IRQ 0 may pass */
    OUT8 PIT_COMMAND, 0x34      /* 8254 data sheet: channel 0, low then high byte, mode 2, binary */
    OUT8 PIT_CHANNEL0, PIT_DIVISOR & 255
    OUT8 PIT_CHANNEL0, PIT_DIVISOR >> 8
    ret

pit_tick:
    push rax
    inc dword ptr [rip + pit_ticks]
    OUT8 PIC1_COMMAND, PIC_EOI
    pop rax
    iretq

own_tick:
    push rax
    push rcx
    mov ecx, LAPIC              /* whom it interrupts may have anything in its registers */
    mov eax, [rcx + LAPIC_ID]
    shr eax, 24
    inc dword ptr [ticks + rax * 4]
    mov dword ptr [rcx + LAPIC_EOI], 0
    pop rcx
    pop rax
    iretq

spurious:
    iretq

    .bss
    .balign 16
stacks:
    .skip MAX_CPUS * STACK_SIZE
ticks:
    .skip MAX_CPUS * 4
cpus:
    .skip 4
turn:
    .skip 4
pit_ticks:
    .skip 4
