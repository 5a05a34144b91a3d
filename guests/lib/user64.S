/* A kernel just large enough to run one program in ring 3: page tables, a task, two system calls.
 *
 * The program's own sections (.user.*) live in two 2 MiB pages of their own, at 4 MiB (code, read-only)
 * and 6 MiB (data, not executable); see elf.ld. The kernel's page, the first 2 MiB, is closed to it.
 */
#include "guest.h"

#define MSR_EFER 0xc0000080
#define EFER_NXE 0x800

#define PTE_USER 0x07      /* present, writable, user */
#define PTE_KERNEL_2M 0x83 /* present, writable, 2 MiB page */
#define PTE_USER_CODE 0x85 /* present, user, 2 MiB page */
#define PTE_USER_DATA 0x87 /* present, writable, user, 2 MiB page */
#define TSS_BYTES 104
#define TSS_AVAILABLE 0x89 /* present, 64-bit TSS, not busy */
#define VECTOR_UD 6
#define INT_80 0x80cd      /* the two bytes of INT 0x80, as a word */
#define FLAGS_FIXED 2      /* bit 1 of RFLAGS is always 1; interrupts stay off */

    .text
    .globl enter_user

/* enter_user(RDI = where): builds everything, then drops to ring 3 at RDI with an empty stack. */
enter_user:
    lea rsp, [rip + kernel_stack_top] /* the loader's stack may lie outside the pages mapped below */
    push rdi
    call kernel_init
    call load_page_tables
    call load_task
    mov edi, SYSTEM_CALL
    lea rsi, [rip + system_call]
    mov edx, 3          /* ring 3 may use this gate */
    call idt_gate
    mov edi, VECTOR_UD
    lea rsi, [rip + undefined_opcode]
    xor edx, edx
    call idt_gate
    pop rdi
    lea rax, [rip + user_stack_top]
    push USER_DATA
    push rax
    push FLAGS_FIXED
    push USER_CODE
    push rdi
    iretq

load_page_tables:
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_NXE
    wrmsr
    lea rax, [rip + pdpt + PTE_USER]
    mov [rip + pml4], rax
    lea rax, [rip + pd + PTE_USER]
    mov [rip + pdpt], rax
    lea rdi, [rip + pd]
    mov qword ptr [rdi], PTE_KERNEL_2M
    mov qword ptr [rdi + 2 * 8], 0x400000 + PTE_USER_CODE
    mov rax, 0x8000000000600000 + PTE_USER_DATA /* bit 63: no execution */
    mov [rdi + 3 * 8], rax
    lea rax, [rip + pml4]
    mov cr3, rax
    ret

/* The TSS tells the processor which stack to take when an interrupt leaves ring 3. */
load_task:
    lea rax, [rip + kernel_stack_top]
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

/* KVM on PVM lets INT n in ring 3 end in #UD instead of the gate. Take that for the call it was. */
undefined_opcode:
    push rax
    mov rax, [rsp + 8]
    cmp word ptr [rax], INT_80
    pop rax
    jne 1f
    add qword ptr [rsp], 2 /* a fault's RIP is that of the instruction, a call's that of the next */
    jmp system_call
1:  EXIT 1

system_call:
    cmp eax, SYS_WRITE
    je write
    mov eax, edi
    EXIT al

/* write(RDI = bytes, RSI = how many) */
write:
    mov edx, COM1
    jmp 2f
1:  mov al, [rdi]
    inc rdi
    out dx, al
2:  dec rsi
    jns 1b
    iretq

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd:
    .skip 4096
    .skip 1024
kernel_stack_top:
tss:
    .skip TSS_BYTES

    .section .user.bss, "aw", @nobits
    .balign 16
    .skip 16384
user_stack_top:
