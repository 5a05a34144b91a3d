/* apic: counts ten ticks of the processor's own timer, in the local APIC.
 *
 * Look at: the APIC's registers at 0xfee00000: no exits where the kernel or the processor keeps them,
 * one `mmio` exit for each access (also each EOI) where minihv does.
 */
#include "guest.h"

#define LAPIC 0xfee00000
#define LAPIC_EOI 0x0b0
#define LAPIC_SVR 0x0f0
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_INITIAL_COUNT 0x380
#define LAPIC_DIVIDE 0x3e0
#define SVR_ENABLE 0x100
#define TIMER_PERIODIC 0x20000
#define DIVIDE_BY_16 3
#define VECTOR 0x40
#define SPURIOUS 0x4f
#define PERIOD 625000           /* 10 ms at a 1 GHz bus clock, divided by 16 */
#define TICKS 10

    .globl _start
_start:
    call kernel_init
    mov edi, VECTOR
    lea rsi, [rip + tick]
    xor edx, edx
    call idt_gate
    mov edi, SPURIOUS
    lea rsi, [rip + spurious]
    xor edx, edx
    call idt_gate

    mov al, 0xff                /* the old interrupt controllers stay silent */
    out 0x21, al
    out 0xa1, al

    mov ebp, LAPIC              /* SDM Vol. 3A, 10.5.4: divide and vector first, the count starts it */
    mov dword ptr [rbp + LAPIC_SVR], SVR_ENABLE | SPURIOUS
    mov dword ptr [rbp + LAPIC_DIVIDE], DIVIDE_BY_16
    mov dword ptr [rbp + LAPIC_LVT_TIMER], TIMER_PERIODIC | VECTOR
    mov dword ptr [rbp + LAPIC_INITIAL_COUNT], PERIOD

    xor ebx, ebx                /* EBX: ticks already reported */
next:
    cli
    cmp ebx, [rip + ticks]
    jb report
    sti
    hlt
    jmp next
report:
    sti
    inc ebx
    PRINT "tick "
    mov edi, ebx
    call putdec
    PUTC '\n'
    cmp ebx, TICKS
    jb next
    EXIT 0

tick:
    push rax
    inc dword ptr [rip + ticks]
    mov eax, LAPIC              /* it may interrupt a C function, which has other things in RBP */
    mov dword ptr [rax + LAPIC_EOI], 0
    pop rax
    iretq

spurious:
    iretq

    .bss
    .balign 4
ticks:
    .skip 4
