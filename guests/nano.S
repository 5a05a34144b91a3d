/* nano: runs single operations many times and prints what they take: the guest behind `minihv nano`.
 *
 * Look at: each line: operation, how often, time-stamp ticks of the loop with it, ticks of the same loop
 * without it, and the counter when it asked what to do. Run alone it does everything four times, with -c 2 the rows
 * that need two CPUs, too; `minihv nano` chooses rows and counts through a port and makes a table of it.
 */
#include "guest.h"

/* Where the host says what to run: number of a row (0: end), then how often. Nobody there: all ones. */
#define COMMAND_PORT 0x6f0
#define NOBODY 0xffffffff
#define ALONE_COUNT 4

#define LAPIC_EOI 0x0b0
#define LAPIC_SVR 0x0f0
#define LAPIC_ICR_LOW 0x300
#define LAPIC_ICR_HIGH 0x310
#define SVR_ENABLE 0x100
#define IPI_VECTOR 0x40
#define SPURIOUS 0x4f
#define DELAY 64                /* PAUSEs that give the other CPU time to fall asleep again */


#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_SYSCALL_MASK 0xc0000084
#define EFER_SCE 1
#define RFLAGS_CLEARED 0x47700  /* TF, IF, DF, IOPL, NT and AC */
#define FLAGS_FIXED 2

#define PTE_TABLE_USER 0x07
#define PTE_RW 0x03
#define PTE_KERNEL_2M 0x83
#define PTE_USER_CODE 0x85
#define PTE_USER_DATA 0x87
#define PTE_UNCACHED_2M 0x93
#define TSS_BYTES 104
#define TSS_AVAILABLE 0x89
#define STACK_SIZE 4096

#define SLEEPS 1                /* what the second CPU does between two IPIs */
#define SPINS 0

/* What operations name stands here and not above, because the preprocessor does not look into strings. */
POST_PORT = 0x80
PIC1_DATA = 0x21        /* interrupt mask: a register of the interrupt controller, in the kernel where KVM has it */
PCI_ADDRESS = 0xcf8     /* a dword register that only the VMM knows */
VGA = 0xb8000
SCRATCH = 0x800000      /* 2 MiB mapped by one table of 4 KiB pages: page 0 is there, page 1 is not */

/* Loops whose time is taken: enter with R15 = count (1 or more); they leave with RAX = ticks. The counter
   is R15 and the start is in R13; all other registers belong to the row. RDTSC is not fenced: the loops are
   long, and KVM on PVM cannot emulate LFENCE. */
.macro START_CLOCK
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r13, rax
.endm
.macro STOP_CLOCK
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r13
.endm

/* The same loop with and without the operation; `filler` is what only serves it and is in both. */
.macro LOOPS name, leave, setup, filler, operation
\name\()_loop:
    START_CLOCK
    \setup
    .balign 16
1:  \filler
    \operation
    dec r15
    jnz 1b
    STOP_CLOCK
    \leave
\name\()_empty:
    START_CLOCK
    \setup
    .balign 16
1:  \filler
    dec r15
    jnz 1b
    STOP_CLOCK
    \leave
.endm

.macro KERNEL_ROW name, setup, filler, operation
    LOOPS \name, ret, "\setup", "\filler", "\operation"
.endm

/* In ring 3; the way back to the kernel is an undefined instruction, because INT and SYSCALL do not lead
   there under KVM on PVM. */
.macro USER_ROW name, setup, filler, operation
    .pushsection .user.text, "ax"
    LOOPS \name, ud2, "\setup", "\filler", "\operation"
    .popsection
.endm

/* Fields of a row; its name comes first. */
row_prepare = 8
row_loop = 16
row_empty = 24
row_ring = 32
row_size = 40

.macro GATE vector, handler
    mov edi, \vector
    lea rsi, [rip + \handler]
    xor edx, edx
    call idt_gate
.endm

.macro PUT byte
    mov al, \byte
    out DEBUG_CONSOLE, al
.endm

.macro WRMSR_LOW msr, low, high=0
    mov ecx, \msr
    mov eax, \low
    mov edx, \high
    wrmsr
.endm

.macro IPI_ROUND_TRIP
    mov dword ptr [rbx + LAPIC_ICR_LOW], IPI_VECTOR
2:  pause
    cmp r14d, [rip + acknowledged]
    je 2b
    inc r14d
.endm
.macro IPI_SETUP
    mov ebx, LAPIC
    mov r14d, [rip + acknowledged]
.endm
.macro IPI_DELAY
    mov ecx, DELAY
3:  pause
    dec ecx
    jnz 3b
.endm

    .globl _start, secondary, putc
_start:
    lea rsp, [rip + stack_top]
    call kernel_init
    call load_page_tables
    call load_task
    GATE 0, divide_error
    GATE 6, undefined_opcode
    GATE 13, general_protection
    GATE 14, page_fault
    GATE IPI_VECTOR, ipi
    GATE SPURIOUS, spurious
    mov ebx, LAPIC
    mov dword ptr [rbx + LAPIC_SVR], SVR_ENABLE | SPURIOUS
    call command
    cmp eax, NOBODY
    je alone
obey:
    test eax, eax
    jz end
    dec eax
    imul eax, eax, row_size
    lea rbx, [rip + rows]
    add rbx, rax
    call command
    mov ecx, eax
    call run_row
    call command
    jmp obey
alone:
    lea rbx, [rip + rows]
1:  mov ecx, ALONE_COUNT
    push rbx
    call run_row
    pop rbx
    add rbx, row_size
    lea rax, [rip + rows_end]
    cmp rbx, rax
    jb 1b
end:
    EXIT 0

/* command() -> EAX: what the host says next. Both sides look at their clocks then. */
command:
    rdtsc
    mov [rip + asked], eax
    mov [rip + asked + 4], edx
    mov dx, COMMAND_PORT
    in eax, dx
    ret

/* run_row(RBX = row, ECX = count): one line, "name count ticks ticks asked", or "name ! why not". */
run_row:
    mov [rip + row_stack], rsp
    mov [rip + row], rbx
    mov [rip + count], ecx
    mov rdi, [rbx]
    call puts
    PUT ' '
    mov rbx, [rip + row]
    call [rbx + row_prepare]
    test rax, rax
    jnz refuse
    mov rbx, [rip + row]
    mov rax, [rbx + row_loop]
    call timed
    push rax
    mov rbx, [rip + row]
    call [rbx + row_prepare]
    mov rbx, [rip + row]
    mov rax, [rbx + row_empty]
    call timed
    push rax
    mov edi, [rip + count]
    call putdec
    PUT ' '
    mov rdi, [rsp + 8]
    call putdec
    PUT ' '
    mov rdi, [rsp]
    call putdec
    PUT ' '
    mov rdi, [rip + asked]
    call putdec
    PUT '\n'
    add rsp, 16
    ret

/* refuse(RAX = text) ends the row that is running, from however deep. */
refuse:
    mov rsp, [rip + row_stack]
    push rax
    PRINT "! "
    pop rdi
    call puts
    PUT '\n'
    ret

/* timed(RAX = loop, RBX = row): run it in the row's ring. */
timed:
    mov r15d, [rip + count]
    cmp dword ptr [rbx + row_ring], 3
    je in_user_mode
    call rax
    ret
in_user_mode:
    mov [rip + user_caller], rsp
    lea rcx, [rip + user_stack_top]
    push USER_DATA
    push rcx
    push FLAGS_FIXED
    push USER_CODE
    push rax
    iretq

/* The console: the debug port, so that a line costs as little as can be. */
putc:
    mov eax, edi
    out DEBUG_CONSOLE, al
    ret

/* Exceptions. Those that a row wants have handlers of their own; any other ends its row. */
undefined_opcode:
    test byte ptr [rsp + 8], 3
    jz 1f
    mov r12, [rsp]
    cmp word ptr [r12], 0x0b0f  /* UD2: a loop in ring 3 is over, RAX holds its time */
    jne 1f
    mov rsp, [rip + user_caller]
    ret
1:  lea rax, [rip + said_ud]
    jmp refuse
divide_error:
    lea rax, [rip + said_de]
    jmp refuse
general_protection:
    lea rax, [rip + said_gp]
    jmp refuse
page_fault:
    lea rax, [rip + said_pf]
    jmp refuse

/* The wanted ones step over the instruction, two bytes both times. */
skip_divide:
    add qword ptr [rsp], 2
    iretq
skip_access:
    add rsp, 8                  /* the error code */
    add qword ptr [rsp], 2
    iretq

ipi:
    push rax
    lock inc dword ptr [rip + acknowledged]
    mov eax, LAPIC
    mov dword ptr [rax + LAPIC_EOI], 0
    pop rax
spurious:
    iretq

/* Preparations: RAX = 0, or the text that says why the row cannot be. */
prepare_nothing:
    xor eax, eax
    ret

prepare_divide:
    GATE 0, skip_divide
    xor eax, eax
    ret

prepare_access:
    GATE 14, skip_access
    xor eax, eax
    ret

/* The page table that `ptemod` writes is in use: its page has just been read. */
prepare_pte:
    lea rax, [rip + scratch_page + PTE_RW]
    mov [rip + scratch_table], rax
    mov rax, cr3
    mov cr3, rax
    mov eax, [SCRATCH]
    xor eax, eax
    ret

/* Ask with an entry that only looks where SYSCALL arrives. */
prepare_syscall:
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_SCE
    wrmsr
    WRMSR_LOW MSR_STAR, 0, (USER_DATA - 8) << 16 | KERNEL_CODE
    WRMSR_LOW MSR_LSTAR, "offset syscall_asks"
    WRMSR_LOW MSR_SYSCALL_MASK, RFLAGS_CLEARED
    lea rax, [rip + ask_syscall]
    call in_user_mode
    test eax, eax
    lea rax, [rip + said_ring3]
    jnz 1f
    WRMSR_LOW MSR_LSTAR, "offset syscall_returns"
    xor eax, eax
1:  ret

/* AMD's processors have another opcode for it (APM Vol. 3, VMMCALL). */
prepare_vmcall:
    xor eax, eax
    cpuid
    cmp ebx, 0x68747541         /* "Auth" */
    jne 1f
    lea rax, [rip + vmmcall_loop]
    mov rbx, [rip + row]
    mov [rbx + row_loop], rax
1:  xor eax, eax
    ret

prepare_spinning_cpu:
    mov dword ptr [rip + other_does], SPINS
    jmp prepare_cpu
prepare_sleeping_cpu:
    mov dword ptr [rip + other_does], SLEEPS
prepare_cpu:
    xor eax, eax
    mov cr8, rax                /* a row before may have shut IPIs out */
    call smp_cpus
    cmp eax, 2
    lea rax, [rip + said_alone]
    jb 2f
    cmp dword ptr [rip + other_is_up], 0
    jne 1f
    call smp_init
    mov edi, 1
    call smp_start
3:  pause
    cmp dword ptr [rip + other_is_up], 0
    je 3b
1:  mov rbx, LAPIC
    mov dword ptr [rbx + LAPIC_ICR_HIGH], 1 << 24
    mov r14d, [rip + acknowledged]
    mov dword ptr [rbx + LAPIC_ICR_LOW], IPI_VECTOR /* so that it looks what it shall do */
4:  pause
    cmp r14d, [rip + acknowledged]
    je 4b
    xor eax, eax
2:  ret

secondary:
    lea rsp, [rip + other_stack_top]
    call kernel_init
    mov eax, LAPIC
    mov dword ptr [rax + LAPIC_SVR], SVR_ENABLE | SPURIOUS
    mov dword ptr [rip + other_is_up], 1
1:  sti
    cmp dword ptr [rip + other_does], SLEEPS
    jne 2f
    hlt
    jmp 1b
2:  pause
    jmp 1b

/* The rows. */
KERNEL_ROW in, "", "", "in al, POST_PORT"
KERNEL_ROW inl_from_kernel, "", "", "in al, PIC1_DATA"
KERNEL_ROW inl_from_user, "mov edx, PCI_ADDRESS", "", "in eax, dx"
KERNEL_ROW mmio_read, "mov ebx, VGA", "", "mov eax, [rbx]"
KERNEL_ROW cr8wr, "xor eax, eax", "xor eax, 8", "mov cr8, rax"
KERNEL_ROW mov_to_cr8, "xor eax, eax", "", "mov cr8, rax"
KERNEL_ROW mov_from_cr8, "", "", "mov rax, cr8"
KERNEL_ROW call_ret, "", "", "call nothing"
KERNEL_ROW ptemod, "lea rbx, [rip + scratch_table]; mov rax, [rbx]", "xor rax, 0x1000", "mov [rbx], rax"
KERNEL_ROW cpuid, "", "xor eax, eax", "cpuid"
KERNEL_ROW vmcall, "mov eax, 0x7fff", "", "vmcall"
KERNEL_ROW vmmcall, "mov eax, 0x7fff", "", "vmmcall"
nothing:
    ret
KERNEL_ROW ipi, "IPI_SETUP", "", "IPI_ROUND_TRIP"
KERNEL_ROW hlt, "IPI_SETUP", "IPI_DELAY", "IPI_ROUND_TRIP"

USER_ROW syscall, "", "", "syscall"
USER_ROW call_ret_user, "", "", "call nothing_user"
USER_ROW divzero, "xor eax, eax; xor edx, edx; xor ecx, ecx", "", "div ecx"
USER_ROW pgfault, "mov ebx, SCRATCH + 0x1000", "", "mov al, [rbx]"

    .section .user.text, "ax"
nothing_user:
    ret
ask_syscall:
    syscall
    and eax, 3
    ud2
/* SYSCALL put RIP into RCX and RFLAGS into R11. Both entries are open to ring 3, because they must be able
   to run where SYSCALL leaves them. */
syscall_asks:
    mov eax, cs
    test al, 3
    jnz 1f
    sysretq
1:  jmp rcx
syscall_returns:
    sysretq

    .text
load_page_tables:
    lea rax, [rip + pdpt + PTE_TABLE_USER]
    mov [rip + pml4], rax
    lea rax, [rip + pd + PTE_TABLE_USER]
    mov [rip + pdpt], rax
    lea rax, [rip + pd_lapic + PTE_RW]
    mov [rip + pdpt + (LAPIC >> 30) * 8], rax
    lea rdi, [rip + pd]
    mov qword ptr [rdi], PTE_KERNEL_2M
    mov qword ptr [rdi + 2 * 8], 0x400000 + PTE_USER_CODE
    mov qword ptr [rdi + 3 * 8], 0x600000 + PTE_USER_DATA
    lea rax, [rip + scratch_table + PTE_TABLE_USER]
    mov [rdi + 4 * 8], rax
    mov eax, (LAPIC & ~0x1fffff) | PTE_UNCACHED_2M
    mov [rip + pd_lapic + (LAPIC >> 21 & 511) * 8], rax
    lea rax, [rip + pml4]
    mov cr3, rax
    ret

/* The TSS tells the processor which stack to take when an exception leaves ring 3. */
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

    .section .rodata
said_ring3:
    .asciz "SYSCALL stays in ring 3 here"
said_alone:
    .asciz "needs a second CPU"
said_de:
    .asciz "ended in #DE"
said_ud:
    .asciz "ended in #UD"
said_gp:
    .asciz "ended in #GP"
said_pf:
    .asciz "ended in #PF"

/* One row: name, preparation, loop with and without the operation, ring. minihv/nano/rows.py has the same
   names in the same order. */
.macro ROW name, text, ring, prepare=prepare_nothing
    .pushsection .rodata
8888:
    .asciz "\text"
    .popsection
    .quad 8888b, \prepare, \name\()_loop, \name\()_empty, \ring
.endm
    .data
    .balign 8
rows:
    ROW syscall, "syscall", 3, prepare_syscall
    ROW in, "in", 0
    ROW cr8wr, "cr8wr", 0
    ROW call_ret, "call/ret", 0
    ROW pgfault, "pgfault", 3, prepare_access
    ROW divzero, "divzero", 3, prepare_divide
    ROW ptemod, "ptemod", 0, prepare_pte
    ROW call_ret_user, "call/ret_user", 3
    ROW cpuid, "cpuid", 0
    ROW vmcall, "vmcall", 0, prepare_vmcall
    ROW mov_from_cr8, "mov_from_cr8", 0
    ROW mov_to_cr8, "mov_to_cr8", 0
    ROW inl_from_kernel, "inl_from_kernel", 0
    ROW inl_from_user, "inl_from_user", 0
    ROW mmio_read, "mmio_read", 0
    ROW ipi, "ipi", 0, prepare_spinning_cpu
    ROW hlt, "hlt", 0, prepare_sleeping_cpu
rows_end:

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd:
    .skip 4096
pd_lapic:
    .skip 4096
scratch_table:
    .skip 4096
    .balign 8192                /* the row toggles bit 12 of its address */
scratch_page:
    .skip 8192
    .skip STACK_SIZE
stack_top:
    .skip STACK_SIZE
exception_stack_top:
    .skip STACK_SIZE
other_stack_top:
tss:
    .skip TSS_BYTES
    .balign 8
row:
    .skip 8
row_stack:
    .skip 8
user_caller:
    .skip 8
asked:
    .skip 8
count:
    .skip 4
acknowledged:
    .skip 4
other_is_up:
    .skip 4
other_does:
    .skip 4

    .section .user.bss, "aw", @nobits
    .balign 16
    .skip 4096
user_stack_top:
