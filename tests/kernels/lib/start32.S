/* Multiboot header, flat 32-bit protected mode, gates. */

.set CPUS, 8
.set STACK, 16384

.section .header, "a"
.align 4
    .long 0x1BADB002, 0, -0x1BADB002

.section .bss
.align 4096
stacks:  .skip STACK * CPUS
stack0s: .skip STACK * CPUS

.section .data
.align 16
.globl gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff       /* 08 code */
    .quad 0x00cf93000000ffff       /* 10 data */
    .quad 0x00cf9b000000ffff       /* 18 code, 32-bit */
    .quad 0x000f9b000000ffff       /* 20 code, 16-bit */
    .quad 0x000f93000000ffff       /* 28 data, 16-bit */
    .quad 0x00cffb000000ffff       /* 30 ring 3 code */
    .quad 0x00cff3000000ffff       /* 38 ring 3 data */
    .quad 0x00cffb000000ffff       /* 40 ring 3 code */
    .quad 0x00cf1b000000ffff       /* 48 code, absent */
    .skip 64                       /* 50 spare */
.globl tss_descriptors
tss_descriptors:
    .skip 16 * CPUS
gdt_end:
.globl gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
.globl tss
.align 16
tss: .skip 104 * CPUS
.globl idt_pointer
idt_pointer:
    .word 8 * 256 - 1
    .long idt
.section .bss
.align 4096
.globl idt
idt: .skip 4096

.section .data
.align 4
.globl boot_info, boot_magic
boot_info:  .long 0
boot_magic: .long 0
next_cpu:   .long 0

.section .text
.code32
.globl _start
_start:
    mov %eax, boot_magic
    mov %ebx, boot_info
    cld
here:
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov %cr4, %eax
    or $0x600, %eax
    mov %eax, %cr4
    mov %cr0, %eax
    and $~0xe, %eax
    or $0x22, %eax
    mov %eax, %cr0
    mov $1, %ebx
    lock xadd %ebx, next_cpu
    lea 1(%ebx), %ecx
    imul $STACK, %ecx, %ecx
    lea stacks(%ecx), %esp
    imul $104, %ebx, %edi
    add $tss, %edi
    lea stack0s(%ecx), %eax
    mov %eax, 4(%edi)              /* ESP0, SS0 */
    movl $0x10, 8(%edi)
    movw $104, 0x66(%edi)
    mov %ebx, %esi
    shl $4, %esi
    add $tss_descriptors, %esi
    mov %edi, %eax
    shl $16, %eax
    or $0x67, %eax
    mov %eax, (%esi)
    mov %edi, %eax
    shr $16, %eax
    mov %al, 4(%esi)
    movb $0x89, 5(%esi)
    movb $0, 6(%esi)
    mov %ah, 7(%esi)
    sub $gdt, %esi
    ltr %si
    lidt idt_pointer
    xor %ebp, %ebp
    test %ebx, %ebx
    jnz 1f
    call main
1:  push %ebx
    call processor
    ud2

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
    push %eax; push %ecx; push %edx; push %ebx; push %ebp; push %esi; push %edi
    mov %esp, %eax
    push %ds
    push %es
    mov $0x10, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    cld
    push %eax
    call on_vector
    add $4, %esp
    pop %es
    pop %ds
    pop %edi; pop %esi; pop %ebp; pop %ebx; pop %edx; pop %ecx; pop %eax
    add $8, %esp
    iret

/* word enter_ring3(word (*code)(word), word argument, word sp, word flags) */
.globl enter_ring3
enter_ring3:
    push %ebx; push %ebp; push %esi; push %edi
    mov %esp, kernel_sp
    mov 20(%esp), %eax
    mov 24(%esp), %edx
    mov 28(%esp), %ecx
    mov 32(%esp), %ebx
    mov $0x3b, %esi
    mov %esi, %ds
    mov %esi, %es
    push $0x3b
    push %ecx
    push %ebx
    push $0x43
    push $1f
    iret
1:  push %edx
    call *%eax
    int $0x81
.globl leave_ring3
leave_ring3:
    mov $0x10, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov kernel_sp, %esp
    pop %edi; pop %esi; pop %ebp; pop %ebx
    ret

.section .bss
kernel_sp: .long 0

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
    mov %eax, %ss
    jmp here
.section .note.GNU-stack, "", @progbits
