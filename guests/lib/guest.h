/* Addresses of the default board, for assembly and C alike (minihv/machine names the same ports). */
#define COM1 0x3f8          /* 16550A: transmit on write, receive on read */
#define COM1_LSR 0x3fd      /* line status: bit 0 a byte has arrived, bit 5 a byte may be sent */
#define DEBUG_CONSOLE 0xe9  /* a byte out is a byte on the console; reads back 0xe9 */
#define EXIT_STATUS 0xf8    /* a byte out ends the machine with this status; 0 is success */
#define FW_CFG_SELECT 0x510 /* word: which item the data port delivers from its start on */
#define FW_CFG_DATA 0x511
#define FW_CFG_SIGNATURE 0
#define FW_CFG_CPUS 5
#define LAPIC 0xfee00000    /* each CPU finds its own local APIC there (SDM Vol. 3A, 10.4) */
#define LAPIC_ID 0x020      /* bits 31:24 */

/* Selectors of lib/kernel64.S, in the order that SYSCALL and SYSRET expect (SDM Vol. 3A, 5.8.8). */
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA 0x1b
#define USER_CODE 0x23
#define TSS_SELECTOR 0x28

/* System calls of lib/user64.S, by INT 0x80: number in RAX, arguments in RDI and RSI, which are lost, and
   so is RDX. INT and not SYSCALL, because under KVM on PVM a SYSCALL does not leave ring 3 (see ring3.S). */
#define SYSTEM_CALL 0x80
#define SYS_EXIT 0
#define SYS_WRITE 1

#ifdef __ASSEMBLER__
.intel_syntax noprefix

/* End the machine. The loop is never reached under minihv; elsewhere it keeps the processor quiet. */
.macro EXIT status
    mov al, \status
    out EXIT_STATUS, al
9999:
    cli
    hlt
    jmp 9999b
.endm

/* Put one byte on the serial port. No look at the line status: minihv's transmitter is always ready,
   and so every byte costs exactly one exit. */
.macro PUTC byte
    mov dx, COM1
    mov al, \byte
    out dx, al
.endm

/* Print a literal through lib/print.c. Changes what a C call may change. */
.macro PRINT text
    .pushsection .rodata
9998:
    .asciz "\text"
    .popsection
    lea rdi, [rip + 9998b]
    call puts
.endm
#endif
