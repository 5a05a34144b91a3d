/* ring3: goes to user mode and comes back: by INT 0x80, by SYSCALL, and by a forbidden instruction.
 *
 * Look at: what stays inside the guest: ring changes, system calls, the #GP of CLI; only the output leaves
 * it. And at the ring in which SYSCALL arrives: it must be 0, but under KVM on PVM it is 3.
 */
#include "guest.h"

#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_SYSCALL_MASK 0xc0000084
#define EFER_SCE 1
#define RFLAGS_CLEARED 0x47700  /* TF, IF, DF, IOPL, NT and AC */

    .globl _start
_start:
    mov edi, 13
    lea rsi, [rip + general_protection]
    xor edx, edx
    call idt_gate
    call enable_syscall
    lea rdi, [rip + user]
    jmp enter_user

enable_syscall:
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SCE
    wrmsr
    mov ecx, MSR_STAR
    xor eax, eax
    mov edx, (USER_DATA - 8) << 16 | KERNEL_CODE
    wrmsr
    mov ecx, MSR_LSTAR
    lea rax, [rip + syscall_entry]
    xor edx, edx
    wrmsr
    mov ecx, MSR_SYSCALL_MASK
    mov eax, RFLAGS_CLEARED
    wrmsr
    ret

/* From ring 3, with its RIP, CS, RFLAGS, RSP and SS on the TSS's stack, below an error code. */
general_protection:
    pop rax
    PRINT "kernel: #GP in ring "
    mov rdi, [rsp + 8]
    and edi, 3
    call putdec
    PRINT ", instruction skipped\n"
    inc qword ptr [rsp]         /* CLI is one byte long */
    iretq

/* The rest is open to ring 3: the program, and also the entry of SYSCALL, because it must be able to run
   where SYSCALL left it. It only looks at the ring. */
    .section .user.text, "ax"
.macro SAY first, after
    mov eax, SYS_WRITE
    lea rdi, [rip + \first]
    mov esi, offset \after - \first
    int SYSTEM_CALL
.endm

user:
    mov eax, cs
    call ring_digit
    mov [rip + ring], al
    SAY hello, hello_end
    syscall
    mov [rip + syscall_ring], al
    SAY arrived, arrived_end
    cli
    SAY back, back_end
    mov eax, SYS_EXIT
    xor edi, edi
    int SYSTEM_CALL

/* SYSCALL put the program's RIP into RCX and its RFLAGS into R11; the stack is still the program's. */
syscall_entry:
    mov eax, cs
    test al, 3
    call ring_digit
    jnz 1f
    sysretq
1:  jmp rcx

/* ring_digit(AL = selector): the digit of its ring, in AL. Keeps the flags. */
ring_digit:
    pushfq
    and al, 3
    add al, '0'
    popfq
    ret

    .section .user.data, "aw"
hello:
    .ascii "user: hello by INT 0x80, from ring "
ring:
    .ascii "?\n"
hello_end:
arrived:
    .ascii "user: SYSCALL arrived in ring "
syscall_ring:
    .ascii "? and came back\n"
arrived_end:
back:
    .ascii "user: going on after CLI\n"
back_end:
