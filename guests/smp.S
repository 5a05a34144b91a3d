/* smp: starts every other processor, one after the other; each prints one line.
 *
 * Look at: INIT and SIPI (start-up IPI), sent through the local APIC, and the exits of each vCPU. Run it
 * with 1 to 16 CPUs.
 */
#include "guest.h"

#define LAPIC_SVR 0x0f0
#define STACK_SIZE 1024
#define MAX_CPUS 16

    .globl _start, secondary
_start:
    lea rsp, [rip + stacks + STACK_SIZE]
    call smp_page_tables
    call kernel_init

    call smp_cpus
    mov [rip + cpus], eax
    call smp_init
    mov ebp, LAPIC
    mov dword ptr [rbp + LAPIC_SVR], 0x1ff
    call report
start_next:
    mov eax, [rip + online]
    cmp eax, [rip + cpus]
    jae all_started
    cmp eax, MAX_CPUS
    jae too_many
    call start_cpu
    jmp start_next
all_started:
    PRINT "CPUs online: "
    mov edi, [rip + online]
    call putdec
    PRINT "\n"
    EXIT 0
too_many:
    PRINT "more CPUs than this guest has stacks for\n"
    EXIT 1

/* start_cpu(EAX = its number, which is its APIC ID too); returns when that CPU has printed its line. */
start_cpu:
    mov r12d, eax
    mov edi, eax
    call smp_start
1:  pause
    cmp [rip + online], r12d
    jbe 1b
    ret

/* Print this CPU's line, then count it. */
report:
    PRINT "cpu "
    mov edi, [rip + online]
    call putdec
    PRINT " of "
    mov edi, [rip + cpus]
    call putdec
    PRINT ", APIC ID "
    mov eax, LAPIC + LAPIC_ID
    mov edi, [rax]
    shr edi, 24
    call putdec
    PRINT "\n"
    lock inc dword ptr [rip + online]
    ret

/* Where the trampoline leads: long mode, a stack chosen by the CPU's number. */
secondary:
    mov eax, [rip + online]
    inc eax
    imul eax, eax, STACK_SIZE
    lea rsp, [rip + stacks]
    add rsp, rax
    call kernel_init
    call report
1:  cli
    hlt
    jmp 1b

    .bss
    .balign 16
stacks:
    .skip MAX_CPUS * STACK_SIZE
cpus:
    .skip 4
online:
    .skip 4
