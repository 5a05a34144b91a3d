/* Multiboot header, way into long mode, gates, and the start of the other processors. */

.set CPUS, 8
.set STACK, 16384

.section .header, "a"
.align 4
    .long 0x1BADB002, 0, -0x1BADB002

.section .bss
.align 4096
tables:    .skip 4096 * 6          /* PML4, PDPT, four page directories */
.globl pml4
.set pml4, tables
stacks:    .skip STACK * CPUS
stack0s:   .skip STACK * CPUS      /* for entries from ring 3 */
ist_stack: .skip STACK

.section .data
.align 16
.globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff       /* 08 code, 64-bit */
    .quad 0x00cf93000000ffff       /* 10 data */
    .quad 0x00cf9b000000ffff       /* 18 code, 32-bit */
    .quad 0x000f9b000000ffff       /* 20 code, 16-bit */
    .quad 0x000f93000000ffff       /* 28 data, 16-bit */
    .quad 0x00cffb000000ffff       /* 30 ring 3 code, 32-bit */
    .quad 0x00cff3000000ffff       /* 38 ring 3 data */
    .quad 0x00affb000000ffff       /* 40 ring 3 code, 64-bit */
    .quad 0x00af1b000000ffff       /* 48 code, absent */
    .skip 64                       /* 50 spare */
.globl tss_descriptors
tss_descriptors:
    .skip 16 * CPUS
gdt_end:
.globl gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
.globl tss
.align 16
tss:
    .skip 104 * CPUS
.globl idt_pointer
idt_pointer:
    .word 16 * 256 - 1
    .quad idt
.section .bss
.align 4096
.globl idt
idt: .skip 4096

.section .data
.align 8
.globl boot_info, boot_magic
boot_info:  .quad 0
boot_magic: .quad 0
next_cpu:   .long 0

.section .text
.code32
.globl _start
_start:
    mov %eax, boot_magic
    mov %ebx, boot_info
    cld
    mov $tables + 4096 + 7, %eax
    mov %eax, tables
    mov $tables + 8192 + 7, %eax
    xor %ecx, %ecx
1:  mov %eax, tables + 4096(, %ecx, 8)
    add $4096, %eax
    inc %ecx
    cmp $4, %ecx
    jne 1b
    mov $0x87, %eax                /* present, writable, user, 2 MiB */
    xor %ecx, %ecx
1:  mov %eax, tables + 8192(, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $2048, %ecx
    jne 1b

enter_long:
    lgdt gdt_pointer
    mov %cr4, %eax
    or $0x620, %eax                /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $tables, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax                /* LME, NXE, SCE */
    wrmsr
    mov %cr0, %eax
    and $~0xe, %eax
    or $0x80010023, %eax           /* PG, WP, NE, MP, PE */
    mov %eax, %cr0
    ljmp $0x08, $long_mode

.code64
long_mode:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $1, %ebx
    lock xadd %ebx, next_cpu
    lea 1(%rbx), %ecx
    imul $STACK, %rcx, %rcx
    lea stacks(%rcx), %rsp
    /* TSS of this processor: RSP0, IST1; its descriptor */
    imul $104, %rbx, %rdi
    add $tss, %rdi
    lea stack0s(%rcx), %rax
    mov %rax, 4(%rdi)
    lea ist_stack + STACK, %rax
    mov %rax, 0x24(%rdi)
    movw $104, 0x66(%rdi)
    mov %rbx, %rsi
    shl $4, %rsi
    add $tss_descriptors, %rsi
    mov %rdi, %rax
    shl $16, %rax
    mov $0xffffff0000, %rdx
    and %rdx, %rax
    mov $0x890000000067, %rdx
    or %rdx, %rax
    mov %rdi, %rdx
    shr $24, %rdx
    shl $56, %rdx
    or %rdx, %rax
    mov %rax, (%rsi)
    movq $0, 8(%rsi)
    sub $gdt, %rsi
    ltr %si
    lidt idt_pointer
    xor %ebp, %ebp
    mov %ebx, %edi
    test %ebx, %ebx
    jnz 1f
    call main
1:  call processor
    ud2

/* --- gates: 256 stubs of 16 bytes */
.globl stubs
.align 16
stubs:
vector = 0
.rept 256
    .align 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    push $0
    .endif
    push $vector
    jmp common
    vector = vector + 1
.endr

common:
    push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
    mov %rsp, %rdi
    cld
    call on_vector
    pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
    pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax
    add $16, %rsp
    iretq

/* word enter_ring3(word (*code)(word), word argument, word sp, word flags): back by INT 0x81 */
.globl enter_ring3
enter_ring3:
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    mov %rsp, kernel_sp
    push $0x3b
    push %rdx
    push %rcx
    push $0x43
    push $1f
    mov %rdi, %rax
    mov %rsi, %rdi
    iretq
1:  call *%rax
    int $0x81

/* INT 0x81 of ring 3 lands here, RAX the result; also used to abandon ring 3 */
.globl leave_ring3
leave_ring3:
    mov kernel_sp, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    push $0x10
    popq %rcx
    mov %ecx, %ss
    ret

.section .bss
kernel_sp: .quad 0

/* --- start-up of the others: copied to 0x8000 */
.section .text
.code16
.globl trampoline, trampoline_end
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 0x8000 + trampoline_gdt - trampoline
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x18, $ap32
trampoline_gdt:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:
.code32
ap32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    jmp enter_long
.section .note.GNU-stack, "", @progbits
