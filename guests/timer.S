/* timer: counts ten ticks of the 100 Hz timer chip (PIT), delivered by the interrupt controller (PIC).
 *
 * Look at: where the controllers live. In the kernel (irqchip) neither ticks nor HLT reach minihv; in
 * minihv itself every tick, EOI and HLT is counted.
 */
#include "guest.h"

#define PIC1_COMMAND 0x20
#define PIC1_DATA 0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA 0xa1
#define PIC_EOI 0x20
#define PIT_CHANNEL0 0x40
#define PIT_COMMAND 0x43
#define PIT_DIVISOR 11932       /* 1193182 Hz / 100 Hz */
#define VECTOR 0x20
#define TICKS 10

.macro OUT8 port, value
    mov al, \value
    out \port, al
.endm

    .globl _start
_start:
    call kernel_init
    mov edi, VECTOR
    lea rsi, [rip + tick]
    xor edx, edx
    call idt_gate

    /* 8259A data sheet: ICW1 edge, cascade, ICW4 follows; ICW2 vector base; ICW3 wiring; ICW4 8086 mode */
    OUT8 PIC1_COMMAND, 0x11
    OUT8 PIC2_COMMAND, 0x11
    OUT8 PIC1_DATA, VECTOR
    OUT8 PIC2_DATA, VECTOR + 8
    OUT8 PIC1_DATA, 4
    OUT8 PIC2_DATA, 2
    OUT8 PIC1_DATA, 1
    OUT8 PIC2_DATA, 1
    OUT8 PIC2_DATA, 0xff
    OUT8 PIC1_DATA, 0xfe        /* only IRQ 0 may pass */

    OUT8 PIT_COMMAND, 0x34      /* 8254 data sheet: channel 0, low then high byte, mode 2, binary */
    OUT8 PIT_CHANNEL0, PIT_DIVISOR & 255
    OUT8 PIT_CHANNEL0, PIT_DIVISOR >> 8

    xor ebx, ebx                /* EBX: ticks already reported */
next:
    cli
    cmp ebx, [rip + ticks]
    jb report
    sti                         /* takes effect after HLT has begun: no tick is lost in between */
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
    OUT8 PIC1_COMMAND, PIC_EOI
    pop rax
    iretq

    .bss
    .balign 4
ticks:
    .skip 4
