/* What every test kernel here stands on: output, verdicts, caught exceptions, ring 3, processors, APIC.
 *
 * A kernel has `void test(void)`; the start-up code gets there in ring 0 with a GDT, an IDT of catching
 * stubs, a TSS per processor, identity paging of the low 4 GiB (64-bit kernels; all pages user-accessible)
 * or no paging (32-bit kernels), interrupts off, the 8259s masked and the local APIC enabled. The exit
 * port gets the number of failed checks, cut to 60; 61 is an exception nobody expected.
 */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long word; /* as wide as a register */

#ifdef __x86_64__
#define W "q"
#define WORD ".quad"
#else
#define W "l"
#define WORD ".long"
#endif

/* --- selectors, the same in both widths where they exist in both */
#define CODE0 0x08
#define DATA0 0x10
#define CODE32 0x18   /* ring 0, 32-bit */
#define CODE16 0x20   /* ring 0, 16-bit, base 0 */
#define DATA16 0x28
#define CODE3_32 0x33 /* SYSRET wants 32-bit code, data, 64-bit code in this order */
#define DATA3 0x3b
#define CODE3 0x43    /* 64-bit in 64-bit kernels, 32-bit in the others */
#define ABSENT 0x48   /* code, not present */
#define SPARE 0x50    /* eight descriptors for the tests */
#define SPARE_COUNT 8
#define TSS0 0x90     /* 16 bytes each */
#define CPUS 8

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM };
#define NOTHING 0xff

#define F_CF 1ul
#define F_TF 0x100ul
#define F_IF 0x200ul
#define F_DF 0x400ul
#define F_IOPL 0x3000ul
#define F_NT 0x4000ul
#define F_RF 0x10000ul
#define F_VM 0x20000ul
#define F_AC 0x40000ul

/* --- output and verdicts (lib/kernel.c) */
void put(char c);
void print(const char *format, ...); /* %s %d %u %x (word) %c */
void check(int good, const char *format, ...);
void equal(u64 found, u64 expected, const char *format, ...);
void section(const char *name);
void skip(const char *what);
void leave(u32 value) __attribute__((noreturn));
void clear(void *at, word bytes);
void copy(void *to, const void *from, word bytes);
int same(const void *a, const void *b, word bytes);
int argument(const char *word);       /* whether the command line has it as a word of its own */
void test(void);

/* --- exceptions */
struct frame {
#ifdef __x86_64__
    word r15, r14, r13, r12, r11, r10, r9, r8;
#endif
    word di, si, bp, bx, dx, cx, ax;
    word vector, error, ip, cs, flags, sp, ss; /* sp and ss: 32-bit kernels only after a change of ring */
};

/* What ATTEMPT leaves: the last exception, or vector NOTHING. `resume` is where it goes on. */
struct caught {
    word resume, vector, error, ip, flags, cs, address, sp;
};
extern volatile struct caught caught;

typedef void (*handler)(struct frame *);
extern handler handlers[256];
extern word boot_info; /* multiboot: EBX */
extern word boot_magic; /* EAX */

/* Execute `code`; an exception in it ends it. `code` must leave the stack pointer where it was when it
 * succeeds, and may not raise with a changed one. Value: the vector, or NOTHING. */
#define ATTEMPT(code, outs, ins, ...)                                                                    \
    ({                                                                                                   \
        caught.vector = NOTHING;                                                                         \
        asm volatile("mov" W " $9f, caught\n8: " code "\n9: mov" W " $0, caught"                         \
                     : UNPACK outs : UNPACK ins : "memory", "cc", ##__VA_ARGS__);                                      \
        caught.vector;                                                                                   \
    })
#define UNPACK(...) __VA_ARGS__
#define OUTS(...) (__VA_ARGS__)
#define INS(...) (__VA_ARGS__)
#define NONE ()

void gate(int vector, void *to, int dpl, int kind, int ist);
void restore_gate(int vector);
extern char stubs[];
#define STUB_SIZE 16
#define INTERRUPT_GATE 14
#define TRAP_GATE 15

/* --- ring 3: run `code(argument)` there; an exception caught on the way out gives NOTHING or its vector */
word in_ring3(word (*code)(word), word argument);
extern volatile word ring3_flags; /* flags to enter with, IOPL included */

/* --- instructions */
#define ACCESSORS(name, reg)                                                                             \
    static inline word get_##name(void) { word v; asm volatile("mov %%" reg ", %0" : "=r"(v)); return v; } \
    static inline void set_##name(word v) { asm volatile("mov %0, %%" reg : : "r"(v) : "memory"); }
ACCESSORS(cr0, "cr0")
ACCESSORS(cr2, "cr2")
ACCESSORS(cr3, "cr3")
ACCESSORS(cr4, "cr4")
ACCESSORS(dr0, "db0")
ACCESSORS(dr1, "db1")
ACCESSORS(dr2, "db2")
ACCESSORS(dr3, "db3")
ACCESSORS(dr6, "db6")
ACCESSORS(dr7, "db7")
#ifdef __x86_64__
ACCESSORS(cr8, "cr8")
#endif

static inline word get_flags(void) { word v; asm volatile("pushf; pop %0" : "=r"(v)); return v; }
static inline void set_flags(word v) { asm volatile("push %0; popf" : : "r"(v) : "cc", "memory"); }
static inline void out8(u16 port, u8 v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void out16(u16 port, u16 v) { asm volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
static inline void out32(u16 port, u32 v) { asm volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 in16(u16 port) { u16 v; asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 in32(u16 port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline void on(void) { asm volatile("sti; nop" : : : "memory"); }
static inline void off(void) { asm volatile("cli" : : : "memory"); }
static inline void relax(void) { asm volatile("pause" : : : "memory"); }
static inline void flush(word at) { asm volatile("invlpg (%0)" : : "r"(at) : "memory"); }

static inline u64 rdmsr(u32 index)
{
    u32 lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index));
    return (u64)hi << 32 | lo;
}
static inline void wrmsr(u32 index, u64 v)
{
    asm volatile("wrmsr" : : "c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void)
{
    u32 lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}
struct cpuid { u32 a, b, c, d; };
static inline struct cpuid cpuid(u32 leaf, u32 sub)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}
int is_amd(void);
u32 try_rdmsr(u32 index, u64 *value);
u32 try_wrmsr(u32 index, u64 value);
u32 try_cr0(word v);
u32 try_cr3(word v);
u32 try_cr4(word v);

#define CR0_PE 1ul
#define CR0_MP 2ul
#define CR0_EM 4ul
#define CR0_TS 8ul
#define CR0_NE 0x20ul
#define CR0_WP 0x10000ul
#define CR0_AM 0x40000ul
#define CR0_NW 0x20000000ul
#define CR0_CD 0x40000000ul
#define CR0_PG 0x80000000ul
#define CR4_VME 1ul
#define CR4_TSD 4ul
#define CR4_DE 8ul
#define CR4_PSE 0x10ul
#define CR4_PAE 0x20ul
#define CR4_PGE 0x80ul
#define CR4_PCE 0x100ul
#define CR4_OSFXSR 0x200ul
#define CR4_OSXMMEXCPT 0x400ul
#define CR4_UMIP 0x800ul
#define CR4_LA57 0x1000ul
#define CR4_FSGSBASE 0x10000ul
#define CR4_PCIDE 0x20000ul
#define CR4_OSXSAVE 0x40000ul
#define CR4_SMEP 0x100000ul
#define CR4_SMAP 0x200000ul
#define CR4_PKE 0x400000ul
#define CR4_CET 0x800000ul

#define MSR_EFER 0xc0000080
#define EFER_SCE 1ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define EFER_NXE 0x800ull
#define MSR_APIC_BASE 0x1b
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

#define P_P 1ull
#define P_W 2ull
#define P_U 4ull
#define P_A 0x20ull
#define P_D 0x40ull
#define P_PS 0x80ull
#define P_G 0x100ull
#define P_NX (1ull << 63)

/* --- descriptors */
struct table { u16 limit; word base; } __attribute__((packed));
extern u64 gdt[];
u64 descriptor(u32 base, u32 limit, u8 access, u8 granularity); /* limit of 20 bits; granularity: high 4 */

/* --- local APIC and other processors */
#define LAPIC 0xfee00000ul
u32 apic_read(u32 offset);           /* page, or MSR in x2APIC mode; offsets of the page */
void apic_write(u32 offset, u32 v);
void apic_ipi(u32 low, u32 destination);
u32 apic_id(void);
void use_x2apic(void);
void use_xapic(void);                 /* through "disabled", APIC enabled again */
void eoi(void);
u32 cpu_count(void);                  /* from fw_cfg */
u64 ram_size(void);
void start_processors(void);          /* INIT, SIPI to all but self; they wait in `sti; hlt` for run_on */
void run_on(u32 cpu, void (*code)(void *), void *argument);        /* and wait until it is done */
void start_on(u32 cpu, void (*code)(void *), void *argument);      /* without waiting */
void wait_for(u32 cpu);

/* --- memory */
void *page(void);                     /* a zeroed page of 4 KiB, physical = linear */
void map(word linear, u64 entry);     /* 64-bit kernels: one 4 KiB PTE; makes tables as needed */
u64 *entry_of(word linear, int level); /* level 1: PTE, 2: PDE ...; 0 where a table is missing */

#endif
