/* fault: divides by zero, executes an undefined instruction, breaks rules; catches each and goes on.
 *
 * Look at: how the exceptions go through the guest's own table (IDT); with hardware help none of them
 * leaves the guest.
 */
#include "guest.h"

#define NON_CANONICAL 0x8000000000000000
#define UNMAPPED 0x00007ffffffff000

/* Announce, run the offending instructions, go on at the end whatever the handler saw. */
.macro TRY text, body:vararg
    PRINT "\text: "
    lea r12, [rip + 9997f]      /* R12: where the handler sends us */
    \body
    PRINT "nothing happened\n"
9997:
.endm

.macro HANDLER name, vector, has_error
\name:
    .if \has_error == 0
    push 0
    .endif
    push \vector
    jmp caught
.endm

    .globl _start
_start:
    call kernel_init
    lea rbx, [rip + handlers]
1:  movzx edi, word ptr [rbx]
    mov esi, [rbx + 2]
    xor edx, edx
    call idt_gate
    add rbx, 6
    lea rax, [rip + handlers_end]
    cmp rbx, rax
    jb 1b

    xor r13d, r13d              /* R13: exceptions caught */
    TRY "divide by zero", call divide
    TRY "undefined instruction", ud2
    TRY "non-canonical address", call non_canonical
    TRY "read without a page", call read_unmapped
    TRY "write without a page", call write_unmapped
    mov edi, r13d
    call putdec
    PRINT " exceptions caught\n"
    mov eax, r13d
    sub al, 5
    EXIT al

divide:
    xor ecx, ecx
    xor edx, edx
    mov eax, 1
    div ecx
    ret
non_canonical:
    mov rax, NON_CANONICAL
    mov al, [rax]
    ret
read_unmapped:
    mov rax, UNMAPPED
    mov al, [rax]
    ret
write_unmapped:
    mov rax, UNMAPPED
    mov [rax], al
    ret

HANDLER divide_error, 0, 0
HANDLER undefined_opcode, 6, 0
HANDLER general_protection, 13, 1
HANDLER page_fault, 14, 1

/* On the stack: vector, error code (or our 0), then RIP, CS, RFLAGS, RSP, SS (SDM Vol. 3A, 6.14.2). */
caught:
    inc r13d
    PRINT "vector "
    mov rdi, [rsp]
    call putdec
    PRINT ", error code "
    mov rdi, [rsp + 8]
    mov esi, 1
    call puthex
    cmp dword ptr [rsp], 14
    jne 1f
    PRINT ", address "
    mov rdi, cr2
    mov esi, 12
    call puthex
1:  PUTC '\n'
    add rsp, 16
    mov [rsp], r12
    lea rax, [rip + stack_top]  /* the offender may have been inside a call: drop that too */
    mov [rsp + 24], rax
    iretq

    .section .rodata
handlers:
.macro ENTRY vector, handler
    .word \vector
    .long \handler
.endm
    ENTRY 0, divide_error
    ENTRY 6, undefined_opcode
    ENTRY 13, general_protection
    ENTRY 14, page_fault
handlers_end:

    .bss
    .balign 16
    .skip 1024
stack_top:
