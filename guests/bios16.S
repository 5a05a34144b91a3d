/* bios16: what a boot sector finds when minihv starts it without firmware.
 *
 * 4 KiB at F000:F000. minihv/boot/bios16.py places it, writes the parameter block below, and starts the
 * processor at `init`, which sets up what software of the PC expects (IVT, BIOS data area, PIC, PIT at
 * 18.2 Hz) and jumps to the guest with DL = drive and interrupts on. After that it only serves
 * interrupts. Sources: IBM PC/AT Technical Reference (INT 08h-1Ah), Phoenix EDD 1.1 (INT 13h AH=41h,
 * 42h), ACPI 6.5 15 (INT 15h E820h, E801h), 8259A and 8254 data sheets.
 */
    .intel_syntax noprefix
    .code16
    .text

    .set DEBUG_CONSOLE, 0xe9
    .set DEBUG_EXIT, 0xf4
    .set POST, 0x80
    .set PIC1, 0x20
    .set PIC2, 0xa0
    .set PIT, 0x40
    .set KBD_DATA, 0x60
    .set KBD_STATUS, 0x64
    .set COM1, 0x3f8
    .set DISK_SECTOR, 0xb00     /* dword out: select a sector; the data port streams it from its start */
    .set DISK_DATA, 0xb04
    .set SMAP, 0x534d4150

    /* Offsets in the BIOS data area, segment 0x40. */
    .set BDA, 0x40
    .set BDA_COM1, 0x00
    .set BDA_EBDA, 0x0e
    .set BDA_EQUIPMENT, 0x10
    .set BDA_MEMORY, 0x13
    .set BDA_SHIFT, 0x17
    .set BDA_KEY, 0x1e          /* one key read ahead: ASCII, scan code; 0: none */
    .set BDA_VIDEO_MODE, 0x49
    .set BDA_COLUMNS, 0x4a
    .set BDA_CURSOR, 0x50
    .set BDA_CRTC, 0x63
    .set BDA_TICKS, 0x6c
    .set BDA_MIDNIGHT, 0x70
    .set BDA_DISKS, 0x75
    .set BDA_ROWS, 0x84
    .set TICKS_PER_DAY, 0x1800b0

/* --- Parameter block: minihv/boot/bios16.py, PARAMETERS ------------------------------------------ */
    .ascii "MHV16BIO"
    .word init
target:
    .word 0x7c00, 0             /* IP, CS */
stack:
    .word 0x7c00, 0             /* SP, SS */
drive:
    .byte 0x80, 0
heads:
    .word 16
track_sectors:
    .word 63
disk_sectors:
    .long 0
base_kib:
    .word 639
above_kib:
    .word 0
e801_low:
    .word 0
e801_high:
    .word 0
e820_count:
    .word 0, 0
e820:
    .fill 8 * 20, 1, 0

/* --- Start ---------------------------------------------------------------------------------------- */

/* A guest that jumps to the reset vector, or calls INT 19h, boots again from its disk. */
reboot:
    mov ebp, cs:[disk_sectors]
    jmp start
    .globl init
init:
    xor ebp, ebp                /* the loader has put the guest where it belongs */
start:
    cli
    cld
    lss sp, cs:[stack]
    mov ax, cs
    mov ds, ax
    call fill_ivt
    call fill_bda
    call start_pic_and_pit
    test ebp, ebp
    jz 1f
    xor eax, eax
    xor bx, bx
    mov es, bx
    mov bx, 0x7c00
    mov cx, 1
    call read_sectors
1:  xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    movzx edx, byte ptr cs:[drive]
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    mov ds, ax
    mov es, ax
    sti
    jmp dword ptr cs:[target]

fill_ivt:
    xor di, di
    mov es, di
    mov eax, offset ignore + 0xf0000000
    mov cx, 256
    rep stosd
    mov si, offset vectors
1:  lodsw
    mov di, ax
    lodsw
    stosw
    cmp si, offset vectors_end
    jb 1b
    ret

fill_bda:
    mov ax, BDA
    mov es, ax
    xor di, di
    xor ax, ax
    mov cx, 128
    rep stosw
    mov word ptr es:[BDA_COM1], COM1
    mov word ptr es:[BDA_EBDA], 0x9fc0
    /* One serial port, 80x25 colour, FPU; bit 0 says that drive 0 is there. */
    mov ax, 0x222
    cmp byte ptr [drive], 0
    jne 1f
    inc ax
1:  mov es:[BDA_EQUIPMENT], ax
    mov ax, [base_kib]
    mov es:[BDA_MEMORY], ax
    mov byte ptr es:[BDA_VIDEO_MODE], 3
    mov byte ptr es:[BDA_COLUMNS], 80
    mov word ptr es:[BDA_CRTC], 0x3d4
    mov byte ptr es:[BDA_ROWS], 24
    mov al, [drive]
    shr al, 7
    mov es:[BDA_DISKS], al
    ret

/* IRQ 0-7 at vectors 08h-0fh, IRQ 8-15 at 70h-77h, only timer, keyboard and cascade open. */
start_pic_and_pit:
    mov al, 0x11                /* ICW1: edge, cascade, ICW4 follows */
    out PIC1, al
    out PIC2, al
    mov al, 0x08
    out PIC1 + 1, al
    mov al, 0x70
    out PIC2 + 1, al
    mov al, 4                   /* ICW3: slave at IR2 */
    out PIC1 + 1, al
    mov al, 2
    out PIC2 + 1, al
    mov al, 1                   /* ICW4: 8086 mode */
    out PIC1 + 1, al
    out PIC2 + 1, al
    mov al, 0xf8
    out PIC1 + 1, al
    mov al, 0xff
    out PIC2 + 1, al
    mov al, 0x36                /* counter 0, low then high byte, mode 3; count 65536 */
    out PIT + 3, al
    xor al, al
    out PIT, al
    out PIT, al
    ret

    .macro VECTOR number, handler
    .word \number * 4, \handler
    .endm
vectors:
    VECTOR 0x00, fault_00
    VECTOR 0x06, fault_06
    VECTOR 0x08, int_08
    VECTOR 0x09, irq_master
    VECTOR 0x0a, irq_master
    VECTOR 0x0b, irq_3
    VECTOR 0x0c, irq_4
    VECTOR 0x0d, irq_5
    VECTOR 0x0e, irq_master
    VECTOR 0x0f, irq_master
    VECTOR 0x10, int_10
    VECTOR 0x11, int_11
    VECTOR 0x12, int_12
    VECTOR 0x13, int_13
    VECTOR 0x15, int_15
    VECTOR 0x16, int_16
    VECTOR 0x18, stop
    VECTOR 0x19, reboot
    VECTOR 0x1a, int_1a
    VECTOR 0x70, irq_slave
    VECTOR 0x71, irq_slave
    VECTOR 0x72, irq_slave
    VECTOR 0x73, irq_slave
    VECTOR 0x74, irq_slave
    VECTOR 0x75, irq_slave
    VECTOR 0x76, irq_slave
    VECTOR 0x77, irq_slave
vectors_end:

/* --- Ways back to the caller: services answer in the carry and zero flags of the caller's FLAGS --- */
return_carry:
    push bp
    mov bp, sp
    or byte ptr [bp + 6], 0x01
    pop bp
    iret
return_ok:
    push bp
    mov bp, sp
    and byte ptr [bp + 6], 0xfe
    pop bp
ignore:
    iret

/* --- Hardware interrupts -------------------------------------------------------------------------- */
int_08:
    push ds
    push eax
    mov ax, BDA
    mov ds, ax
    mov eax, [BDA_TICKS]
    inc eax
    cmp eax, TICKS_PER_DAY
    jb 1f
    xor eax, eax
    inc byte ptr [BDA_MIDNIGHT]
1:  mov [BDA_TICKS], eax
    /* INT 1Ch, the user's tick, as a far call: the same frame, and no `int` inside the handler. */
    xor ax, ax
    mov ds, ax
    pushf
    call dword ptr [0x1c * 4]
    mov al, 0x20
    out PIC1, al
    pop eax
    pop ds
    iret

irq_slave:
    push ax
    mov al, 0x20
    out PIC2, al
    jmp 1f
irq_master:
    push ax
    mov al, 0x20
1:  out PIC1, al
    pop ax
    iret

/* Vectors 0bh-0dh are exceptions, too: no interrupt in service for the line (OCW3: read ISR) means that
   the processor itself raised it. Returning to the faulting instruction would loop for ever. */
    .macro IRQ_OR_FAULT line
irq_\line:
    push ax
    mov al, 0x0b
    out PIC1, al
    in al, PIC1
    test al, 1 << \line
    pop ax
    jnz irq_master
    push 8 + \line
    jmp fault
    .endm
    IRQ_OR_FAULT 3
    IRQ_OR_FAULT 4
    IRQ_OR_FAULT 5
fault_00:
    push 0
    jmp fault
fault_06:
    push 6

/* Stack: vector, IP, CS, FLAGS. Say so and end the machine with status (vector << 1) | 1. */
fault:
    cld
    mov bp, sp
    mov al, [bp]
    out POST, al
    mov si, offset fault_text
    call print
    mov al, [bp]
    call print_hex8
    mov al, ' '
    out DEBUG_CONSOLE, al
    mov ax, [bp + 4]
    call print_hex16
    mov al, ':'
    out DEBUG_CONSOLE, al
    mov ax, [bp + 2]
    call print_hex16
    mov al, '\n'
    out DEBUG_CONSOLE, al
    mov al, [bp]
    out DEBUG_EXIT, al
stop:
    cli
    hlt
    jmp stop

fault_text:
    .asciz "bios16: the guest raised exception "

print:
    lods al, byte ptr cs:[si]
    test al, al
    jz 1f
    out DEBUG_CONSOLE, al
    jmp print
1:  ret
print_hex16:
    push ax
    mov al, ah
    call print_hex8
    pop ax
print_hex8:
    push ax
    shr al, 4
    call print_digit
    pop ax
print_digit:
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 1f
    add al, 'a' - '9' - 1
1:  out DEBUG_CONSOLE, al
    ret

/* --- INT 10h: video ------------------------------------------------------------------------------- */
int_10:
    push ds
    push ax
    mov ax, BDA
    mov ds, ax
    pop ax
    cmp ah, 0x0e
    je teletype
    cmp ah, 0x13
    je write_string
    cmp ah, 0x00
    je set_mode
    cmp ah, 0x02
    je set_cursor
    cmp ah, 0x03
    je get_cursor
    cmp ah, 0x0f
    je get_mode
video_done:
    pop ds
    iret
teletype:
    out DEBUG_CONSOLE, al
    jmp video_done
set_mode:
    mov [BDA_VIDEO_MODE], al
    mov word ptr [BDA_CURSOR], 0
    jmp video_done
set_cursor:
    mov [BDA_CURSOR], dx
    jmp video_done
get_cursor:
    mov dx, [BDA_CURSOR]
    mov cx, 0x0607              /* a cursor of the lines 6 and 7 */
    jmp video_done
get_mode:
    mov al, [BDA_VIDEO_MODE]
    mov ah, [BDA_COLUMNS]
    mov bh, 0
    jmp video_done
write_string:                   /* CX characters at ES:BP; AL bit 1: each with an attribute byte */
    pusha
    jcxz 2f
    mov ah, al
1:  mov al, es:[bp]
    out DEBUG_CONSOLE, al
    inc bp
    test ah, 2
    jz 3f
    inc bp
3:  loop 1b
2:  popa
    jmp video_done

/* --- INT 11h, 12h: equipment, KiB of base memory -------------------------------------------------- */
int_11:
    push ds
    mov ax, BDA
    mov ds, ax
    mov ax, [BDA_EQUIPMENT]
    pop ds
    iret
int_12:
    mov ax, cs:[base_kib]
    iret

/* --- INT 13h: disk -------------------------------------------------------------------------------- */
int_13:
    cld
    test dl, 0x7f               /* drive 00h and drive 80h are the boot disk, whichever the guest means */
    jnz disk_bad
    cmp ah, 0x00
    je disk_ok
    cmp dword ptr cs:[disk_sectors], 0
    je disk_bad
    cmp ah, 0x02
    je disk_read
    cmp ah, 0x08
    je disk_geometry
    cmp ah, 0x41
    je disk_extensions
    cmp ah, 0x42
    je disk_read_lba
disk_bad:
    mov ah, 0x01
    jmp return_carry
disk_missing:
    mov ah, 0x04                /* sector not found */
    jmp return_carry
disk_ok:
    mov ah, 0
    jmp return_ok

disk_read:                      /* AL sectors from cylinder CH + CL[7:6], head DH, sector CL[5:0] to ES:BX */
    pushad
    push es
    movzx esi, al
    movzx eax, ch
    movzx edi, cl
    shl edi, 2
    and edi, 0x300
    or eax, edi                 /* cylinder */
    movzx edi, word ptr cs:[heads]
    imul eax, edi
    movzx edi, dh
    add eax, edi
    movzx edi, word ptr cs:[track_sectors]
    imul eax, edi
    and ecx, 63                 /* sectors count from 1 */
    jz 1f
    lea eax, [eax + ecx - 1]
    mov cx, si
    call read_sectors
    jmp 2f
1:  stc
2:  pop es
    popad
    jc disk_missing
    jmp disk_ok

disk_read_lba:                  /* DS:SI: byte size, byte 0, word count, word offset, word segment, qword LBA */
    pushad
    push es
    cmp dword ptr [si + 12], 0
    jne 1f
    mov eax, [si + 8]
    mov cx, [si + 2]
    les bx, [si + 4]
    call read_sectors
    jmp 2f
1:  stc
2:  pop es
    popad
    jc disk_missing
    jmp disk_ok

disk_geometry:
    push eax
    push ebx
    movzx eax, word ptr cs:[heads]
    movzx ecx, word ptr cs:[track_sectors]
    imul ecx, eax
    xor edx, edx
    mov eax, cs:[disk_sectors]
    div ecx                     /* cylinders; a last, incomplete one does not count */
    test eax, eax
    jz 1f
    dec eax
1:  cmp eax, 1023
    jbe 2f
    mov eax, 1023
2:  mov ch, al                  /* highest cylinder, low byte */
    shl ah, 6
    mov cl, ah
    or cl, byte ptr cs:[track_sectors]
    mov dh, byte ptr cs:[heads]
    dec dh
    mov dl, 1                   /* drives of this kind */
    pop ebx
    pop eax
    xor ax, ax
    mov bl, 4                   /* for a floppy: 1.44 MB */
    jmp return_ok

disk_extensions:
    cmp bx, 0x55aa
    jne disk_bad
    mov bx, 0xaa55
    mov cx, 1                   /* packet access (AH=42h) */
    mov ah, 0x01
    jmp return_ok

/* CX sectors from LBA EAX to ES:BX; carry set where the disk ends before. Changes all but BP. */
read_sectors:
    movzx ecx, cx
    mov edx, cs:[disk_sectors]
    sub edx, eax
    jc 2f
    cmp edx, ecx
    jb 2f
    mov dx, es                  /* the offset below 16, so that a sector never wraps in its segment */
    mov si, bx
    shr si, 4
    add dx, si
    mov es, dx
    and bx, 15
    jcxz 3f
1:  mov dx, DISK_SECTOR
    out dx, eax
    push cx
    mov dx, DISK_DATA
    mov di, bx
    mov cx, 256
    rep insw
    pop cx
    mov dx, es
    add dx, 0x20
    mov es, dx
    inc eax
    loop 1b
3:  clc
    ret
2:  stc
    ret

/* --- INT 15h: memory ------------------------------------------------------------------------------ */
int_15:
    cmp ax, 0xe820
    je memory_map
    cmp ax, 0xe801
    je memory_e801
    cmp ah, 0x88
    je memory_above
    cmp ax, 0x2401
    je a20_on
    cmp ax, 0x2402
    je a20_state
    mov ah, 0x86                /* not supported */
    jmp return_carry
a20_state:
    mov al, 1
a20_on:                         /* A20 is always on here */
    mov ah, 0
    jmp return_ok
memory_above:
    mov ax, cs:[above_kib]
    jmp return_ok
memory_e801:
    mov ax, cs:[e801_low]
    mov bx, cs:[e801_high]
    mov cx, ax
    mov dx, bx
    jmp return_ok
memory_map:                     /* EBX: which entry, 0 first; ES:DI: buffer of ECX bytes */
    cmp edx, SMAP
    jne 1f
    cmp ecx, 20
    jb 1f
    movzx eax, word ptr cs:[e820_count]
    cmp ebx, eax
    jae 1f
    push si
    push di
    push ds
    push cs
    pop ds
    imul si, bx, 20
    add si, offset e820
    mov cx, 10
    cld
    rep movsw
    pop ds
    pop di
    pop si
    inc ebx
    cmp ebx, eax
    jb 2f
    xor ebx, ebx                /* that was the last one */
2:  mov eax, SMAP
    mov ecx, 20
    jmp return_ok
1:  mov ah, 0x86
    jmp return_carry

/* --- INT 16h: keyboard, or else the serial port --------------------------------------------------- */
int_16:
    push ds
    push dx
    push BDA
    pop ds
    cmp ah, 0x00
    je key_wait
    cmp ah, 0x10
    je key_wait
    cmp ah, 0x01
    je key_peek
    cmp ah, 0x11
    je key_peek
    cmp ah, 0x02
    jne key_done
    mov al, [BDA_SHIFT]
key_done:
    pop dx
    pop ds
    iret
key_wait:
    call look_for_key
    jnz 1f
    sti                         /* the tick wakes it at least 18 times a second */
    hlt
    jmp key_wait
1:  mov word ptr [BDA_KEY], 0
    jmp key_done
key_peek:
    call look_for_key
    pop dx
    pop ds
    push bp
    mov bp, sp
    jz 1f
    and byte ptr [bp + 6], 0xbf /* ZF clear: AX is the key, which stays */
    jmp 2f
1:  or byte ptr [bp + 6], 0x40
2:  pop bp
    iret

/* AX: the key that waits, ZF clear; or ZF set. DS = BDA. Changes DX. */
look_for_key:
    mov ax, [BDA_KEY]
    test ax, ax
    jnz 9f
    mov dx, COM1 + 5
    in al, dx
    cmp al, 0xff                /* nothing there */
    je 1f
    test al, 1
    jz 1f
    mov dx, COM1
    in al, dx
    mov ah, 0
    cmp al, '\n'
    jne 8f
    mov al, '\r'
    jmp 8f
1:  in al, KBD_STATUS
    cmp al, 0xff
    je 7f
    test al, 1
    jz 7f
    mov ah, al
    in al, KBD_DATA
    test ah, 0x20               /* that was the mouse */
    jnz 7f
    mov ah, al
    and al, 0x7f
    cmp al, 0x2a
    je shift
    cmp al, 0x36
    je shift
    test ah, 0x80               /* a key released, or a prefix */
    jnz 7f
    cmp al, offset keys_end - keys
    jae 4f
    push bx
    mov bx, offset keys
    test byte ptr [BDA_SHIFT], 3
    jz 2f
    mov bx, offset keys_shifted
2:  xlat byte ptr cs:[bx]
    pop bx
    jmp 8f
4:  mov al, 0                   /* no ASCII: cursor and function keys */
8:  mov [BDA_KEY], ax
    test ax, ax
9:  ret
shift:                          /* left is bit 1, right bit 0 of the flags */
    mov dl, 2
    cmp al, 0x2a
    je 3f
    mov dl, 1
3:  or [BDA_SHIFT], dl
    test ah, 0x80
    jz 7f
    xor [BDA_SHIFT], dl
7:  xor ax, ax
    ret

/* ASCII by scan code of set 1, US layout. */
keys:
    .ascii "\0\0331234567890-=\b\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 "
keys_end:
keys_shifted:
    .ascii "\0\033!@#$%^&*()_+\b\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 "

/* --- INT 1Ah: time -------------------------------------------------------------------------------- */
int_1a:
    test ah, ah
    jnz return_carry
    push ds
    push BDA
    pop ds
    mov dx, [BDA_TICKS]
    mov cx, [BDA_TICKS + 2]
    mov al, [BDA_MIDNIGHT]
    mov byte ptr [BDA_MIDNIGHT], 0
    pop ds
    jmp return_ok

/* --- F000:FFF0 ------------------------------------------------------------------------------------ */
    .section .reset, "ax"
    .byte 0xea                  /* jmp F000:reboot */
    .word reboot, 0xf000
    .ascii "01/01/00"           /* release date, then a byte that nobody uses, then the model: PC/AT */
    .byte 0, 0xfc, 0
