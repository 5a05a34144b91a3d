/* mmio: reads and writes device windows 1, 2, 4 and 8 bytes wide, also one that nobody owns.
 *
 * Look at: `mmio` exits by address and width. VGA text memory gives back what was written (--display text
 * shows it); the unclaimed window swallows writes, reads as all ones, and is counted as unclaimed.
 */
#include "guest.h"

#define VGA 0xb8000
#define UNCLAIMED 0xd0000000

    .globl _start
_start:
    lea rbx, [rip + windows]
1:  mov ebp, [rbx]
    call visit
    add rbx, 4
    lea rax, [rip + windows_end]
    cmp rbx, rax
    jb 1b
    EXIT 0

/* visit(EBP = window): write a pattern in four widths, read it back in four widths. On a text screen the
   pattern is "minihv  " in grey. */
visit:
    mov rdi, rbp
    mov esi, 8
    call puthex
    PRINT ":"
    mov byte ptr [rbp], 'm'
    mov byte ptr [rbp + 1], 7
    mov word ptr [rbp + 2], 0x0700 + 'i'
    mov dword ptr [rbp + 4], 0x07690700 + 'n'
    mov rax, 0x0720072007760700 + 'h'
    mov [rbp + 8], rax

    movzx edi, byte ptr [rbp]
    mov esi, 2
    call put_value
    movzx edi, word ptr [rbp]
    mov esi, 4
    call put_value
    mov edi, [rbp]
    mov esi, 8
    call put_value
    mov rdi, [rbp + 8]
    mov esi, 16
    call put_value
    PUTC '\n'
    ret

/* put_value(RDI = value, ESI = digits) */
put_value:
    mov r12, rdi
    mov r13d, esi
    PUTC ' '
    mov rdi, r12
    mov esi, r13d
    jmp puthex

    .section .rodata
    .balign 4
windows:
    .long VGA, UNCLAIMED
windows_end:
