/* sensitive: executes the instructions that Robin and Irvine found sensitive but not privileged, in ring 0
 * and in ring 3, and prints what each saw.
 *
 * Look at: each line: instruction, ring, vector of the exception ("-": it did not trap), value. An instruction
 * that gives ring 3 another answer than ring 0 without a trap is one that trap-and-emulate cannot catch.
 * `minihv sensitive` runs the same bytes in a process of the host, too.
 */
#include "guest.h"

#define PTE_TABLE_USER 0x07
#define PTE_KERNEL_2M 0x83
#define PTE_USER_CODE 0x85
#define PTE_USER_DATA 0x87
#define TSS_BYTES 104
#define TSS_AVAILABLE 0x89
#define FLAGS_FIXED 2
#define RFLAGS_IF 0x200
#define UD2 0x0b0f

/* What `attempt` leaves behind, and room for operands in memory. */
#define SEEN_VALUE 0
#define SEEN_VECTOR 8
#define OPERAND 16
#define NO_TRAP -1

/* ucontext_t of Linux on x86-64 (asm/sigcontext.h, glibc sys/ucontext.h: gregs at 40). */
#define UC_R12 72
#define UC_RDX 136
#define UC_RSP 160
#define UC_RIP 168
#define UC_TRAPNO 200

.macro GATE vector, handler, ring=0
    mov edi, \vector
    lea rsi, [rip + \handler]
    mov edx, \ring
    call idt_gate
.endm

    .globl _start
_start:
    lea rsp, [rip + stack_top]
    call kernel_init
    call load_page_tables
    call load_task
    GATE 6, undefined_opcode
    GATE 11, segment_not_present
    GATE 12, stack_fault
    GATE 13, general_protection
    GATE 14, page_fault
    GATE SYSTEM_CALL, system_call, 3
    lea rbx, [rip + instructions]
1:  call in_kernel
    xor r14d, r14d
    call report
    call in_user_mode
    mov r14d, 3
    call report
    add rbx, 16
    lea rax, [rip + instructions_end]
    cmp rbx, rax
    jb 1b
    EXIT 0

/* Both: run the instruction of the row RBX, which leaves what it saw in `seen`. */
in_kernel:
    lea rdi, [rip + seen]
    mov esi, KERNEL_CODE
    mov edx, KERNEL_DATA
    mov rcx, [rbx + 8]
    jmp attempt
in_user_mode:
    mov [rip + caller], rsp
    mov [rip + caller_row], rbx
    lea rdi, [rip + seen]
    mov esi, KERNEL_CODE
    mov edx, KERNEL_DATA
    mov rcx, [rbx + 8]
    lea rax, [rip + user_stack_top]
    push USER_DATA
    push rax
    push FLAGS_FIXED
    lea rax, [rip + user_start]
    push USER_CODE
    push rax
    iretq

/* report(RBX = row, R14D = ring) */
report:
    mov rdi, [rbx]
    call puts
    PUTC ' '
    mov edi, r14d
    call putdec
    PUTC ' '
    mov rdi, [rip + seen + SEEN_VECTOR]
    cmp rdi, NO_TRAP
    jne 1f
    PUTC '-'
    jmp 2f
1:  call putdec
2:  PUTC ' '
    mov rdi, [rip + seen + SEEN_VALUE]
    mov esi, 16
    call puthex
    PUTC '\n'
    ret

/* Exceptions: go on behind the attempt, in the ring that it was made in, with the vector in RDX. R12 holds
   the attempt's stack. */
.macro EXCEPTION name, vector, error_code
\name:
    .if \error_code
    add rsp, 8
    .endif
    mov edx, \vector
    jmp caught
.endm
EXCEPTION segment_not_present, 11, 1
EXCEPTION stack_fault, 12, 1
EXCEPTION general_protection, 13, 1
EXCEPTION page_fault, 14, 1
undefined_opcode:
    lea rax, [rip + user_done]
    cmp rax, [rsp]              /* the UD2 behind a ring-3 attempt: it is over */
    je back_from_user
    mov edx, 6
caught:
    lea rax, [rip + recover]
    mov [rsp], rax
    and qword ptr [rsp + 16], ~RFLAGS_IF
    mov [rsp + 24], r12
    iretq
back_from_user:
    mov rsp, [rip + caller]
    mov rbx, [rip + caller_row]
    ret

/* INT 0x80 answers with the CS that the processor saved. */
system_call:
    mov rax, [rsp + 8]
    iretq

load_page_tables:
    lea rax, [rip + pdpt + PTE_TABLE_USER]
    mov [rip + pml4], rax
    lea rax, [rip + pd + PTE_TABLE_USER]
    mov [rip + pdpt], rax
    lea rdi, [rip + pd]
    mov qword ptr [rdi], PTE_KERNEL_2M
    mov qword ptr [rdi + 2 * 8], 0x400000 + PTE_USER_CODE
    mov qword ptr [rdi + 3 * 8], 0x600000 + PTE_USER_DATA
    lea rax, [rip + pml4]
    mov cr3, rax
    ret

load_task:
    lea rax, [rip + exception_stack_top]
    mov [rip + tss + 4], rax
    lea rax, [rip + tss]
    lea rdi, [rip + gdt_tss]
    mov word ptr [rdi], TSS_BYTES - 1
    mov [rdi + 2], ax
    shr rax, 16
    mov [rdi + 4], al
    mov byte ptr [rdi + 5], TSS_AVAILABLE
    mov [rdi + 7], ah
    mov ax, TSS_SELECTOR
    ltr ax
    ret

/* From here on: position-independent code that also runs in a process of the host, which takes it out of
   this image from `attempt` to `shared_end`. Below 4 GiB, because far pointers have 32-bit offsets
   (AMD's processors know no others, APM Vol. 3, CALL far). */
    .section .user.text, "ax"
    .globl attempt, on_signal, shared_end
    .globl user_start
user_start:
    call attempt
user_done:
    ud2

    .balign 16
/* attempt(RDI = where to leave what was seen, RSI = selector of the kernel's code, RDX = of its data, RCX =
   instruction): executes it once. System V ABI. */
attempt:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov r12, rsp
    cld
    call rcx
    mov rdx, NO_TRAP
recovered:
    pop rdi
    mov [rdi + SEEN_VALUE], rax
    mov [rdi + SEEN_VECTOR], rdx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
recover:
    xor eax, eax
    jmp recovered

/* A handler of Linux for SIGSEGV and the like (SA_SIGINFO): as `caught` does it. */
on_signal:
    mov rax, [rdx + UC_TRAPNO]
    mov [rdx + UC_RDX], rax
    mov rax, [rdx + UC_R12]
    mov [rdx + UC_RSP], rax
    lea rax, [rip + recover]
    mov [rdx + UC_RIP], rax
    ret

/* The instructions, one function each, with the arguments of `attempt`; RAX = what they saw. */
try_sgdt:
    sgdt [rdi + OPERAND]
    mov rax, [rdi + OPERAND + 2]
    ret
try_sidt:
    sidt [rdi + OPERAND]
    mov rax, [rdi + OPERAND + 2]
    ret
try_sldt:
    xor eax, eax
    sldt ax
    ret
try_smsw:
    smsw rax
    ret
try_str:
    xor eax, eax
    str ax
    ret
try_pushf:
    pushfq
    pop rax
    ret
/* Flip IF, and look whether it did. */
try_popf:
    pushfq
    pop rax
    mov rcx, rax
    xor rcx, RFLAGS_IF
    push rcx
    popfq
    jmp what_became_of_if
try_iret:
    mov r8, rsp
    pushfq
    pop rax
    mov r9, rax
    xor r9, RFLAGS_IF
    mov ecx, ss
    push rcx
    push r8
    push r9
    mov ecx, cs
    push rcx
    lea rcx, [rip + what_became_of_if]
    push rcx
    iretq
/* RAX = the flags before: 0x200 where IF has changed; afterwards it is as it was. */
what_became_of_if:
    pushfq
    pop rcx
    push rax
    popfq
    xor rax, rcx
    and eax, RFLAGS_IF
    ret
/* -1: refused by a cleared ZF, which is no trap. */
try_lar:
    lar eax, esi
    jz 1f
    mov rax, -1
1:  ret
try_lsl:
    lsl eax, esi
    jz 1f
    mov rax, -1
1:  ret
try_verr:
    xor eax, eax
    verr si
    setz al
    ret
try_verw:
    xor eax, eax
    verw dx
    setz al
    ret
/* GS is the only segment register that 64-bit code may push and that nobody here needs. */
try_push:
    mov ecx, ss
    mov gs, ecx
    push gs
    pop rax
    ret
try_pop:
    push rdx
    pop gs
    mov eax, gs
    ret
try_mov:
    mov eax, cs
    ret
/* The far ones ask for the code segment that they are in, at the privilege of a kernel: RPL 0. */
try_call:
    mov eax, cs
    and eax, ~3
    mov [rdi + OPERAND + 4], ax
    lea rax, [rip + called]
    mov [rdi + OPERAND], eax
    call fword ptr [rdi + OPERAND]
    ret
called:
    mov eax, cs
    retfd
try_jmp:
    mov eax, cs
    and eax, ~3
    mov [rdi + OPERAND + 4], ax
    lea rax, [rip + try_mov]
    mov [rdi + OPERAND], eax
    jmp fword ptr [rdi + OPERAND]
try_ret:
    mov eax, cs
    and eax, ~3
    push rax
    lea rax, [rip + try_mov]
    push rax
    retfq
/* getpid for 32-bit programs on Linux; the gate above in the guest. */
try_int:
    mov eax, 20
    int SYSTEM_CALL
    ret
shared_end:

.macro INSTRUCTION name
    .pushsection .rodata
8888:
    .asciz "\name"
    .popsection
    .globl try_\name
    .quad 8888b, try_\name
.endm
    .data
    .balign 8
instructions:
    .irp name, sgdt, sidt, sldt, smsw, pushf, popf, lar, lsl, verr, verw, pop, push, call, jmp, int, ret, str, mov, iret
    INSTRUCTION \name
    .endr
instructions_end:

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd:
    .skip 4096
    .skip 4096
stack_top:
    .skip 4096
exception_stack_top:
tss:
    .skip TSS_BYTES
    .balign 8
caller:
    .skip 8
caller_row:
    .skip 8

    .section .user.bss, "aw", @nobits
    .balign 16
seen:
    .skip 64
    .skip 4096
user_stack_top:
