/* bios_calls: a boot sector that asks minihv's real-mode BIOS for everything and prints the answers.
 *
 * gcc -m32 -c -o /tmp/b.o bios_calls.S && ld -m elf_i386 -Ttext=0x7c00 --oformat binary -o bios_calls.img /tmp/b.o
 *
 * The test appends three sectors of text. Ends with a division by zero, which the BIOS reports.
 */
    .intel_syntax noprefix
    .code16
    .globl _start
_start:
    mov [drive], dl
    mov al, dl
    call hex8
    int 0x11
    call hex16
    int 0x12
    call hex16
    mov ah, 0x88
    int 0x15
    call hex16
    mov ax, 0xe801
    int 0x15
    call hex16
    mov ax, bx
    call hex16

    xor ebx, ebx                /* E820: start, size, type in the words that are not zero */
1:  mov eax, 0xe820
    mov edx, 0x534d4150
    mov ecx, 20
    mov di, 0x600
    int 0x15
    mov si, offset broken
    jc fail
    mov ax, [0x602]
    call hex16
    mov ax, [0x60a]
    call hex16
    mov ax, [0x610]
    call hex16
    test ebx, ebx
    jnz 1b

    mov ah, 8                   /* geometry */
    mov dl, [drive]
    int 0x13
    mov ax, cx
    call hex16
    mov ax, dx
    call hex16

    mov ax, 0x0201              /* the second sector by cylinder, head, sector */
    mov cx, 2
    mov dh, 0
    mov dl, [drive]
    mov bx, 0x8000
    int 0x13
    jc fail
    mov si, bx
    call puts

    mov ah, 0x41                /* two more by logical block, into a segment that is not 0 */
    mov bx, 0x55aa
    mov dl, [drive]
    int 0x13
    mov ax, bx
    call hex16
    call read_packet
    jc fail
    mov si, 0x9000
    call puts
    mov si, 0x9200
    call puts

    mov dword ptr [packet + 8], 100000  /* past the end: carry, AH = 4 */
    call read_packet
    jnc fail
    call hex16

    xor ah, ah                  /* three ticks */
    int 0x1a
    mov bp, dx
2:  sti
    hlt
    xor ah, ah
    int 0x1a
    sub dx, bp
    cmp dx, 3
    jb 2b

    mov ah, 1                   /* a key waits, stays, and is taken */
    int 0x16
    jz fail
    call hex16
    mov ah, 0
    int 0x16
    call hex16
    mov ah, 1
    int 0x16
    jnz fail
    mov dx, 0x0102              /* cursor back as it was put */
    mov bh, 0
    mov ah, 2
    int 0x10
    xor dx, dx
    mov ah, 3
    int 0x10
    mov ax, dx
    call hex16
    xor dx, dx
    div dl
fail:
    mov si, offset broken
    call puts
    cli
    hlt

read_packet:
    mov si, offset packet
    mov ah, 0x42
    mov dl, [drive]
    int 0x13
    ret
puts:
    lodsb
    test al, al
    jz 1f
    mov ah, 0xe
    int 0x10
    jmp puts
1:  ret
hex16:
    push ax
    mov al, ah
    call hex4x2
    pop ax
hex8:
    call hex4x2
    mov ax, 0x0e20
    int 0x10
    ret
hex4x2:
    push ax
    shr al, 4
    call hex4
    pop ax
hex4:
    and al, 15
    cmp al, 10
    sbb al, 0x69
    das
    mov ah, 0xe
    int 0x10
    ret

drive:
    .byte 0
broken:
    .asciz "broken"
    .balign 4
packet:
    .byte 16, 0
    .word 2, 0x200, 0x8e0
    .long 2, 0
    .org 510
    .word 0xaa55
