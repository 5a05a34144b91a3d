/* Output, verdicts, exceptions, processors and memory for the test kernels. See kernel.h. */
#include "kernel.h"
#include <stdarg.h>

volatile struct caught caught;
handler handlers[256];
volatile word ring3_flags = 2;
extern u8 idt[], trampoline[], trampoline_end[];
extern char image_end[];
extern word enter_ring3(word (*)(word), word, word, word);
extern void leave_ring3(void);

static u32 passed, failed, skipped;
static volatile u32 printing;
static u32 alone = 1; /* no other processor yet */

/* --- output */

void put(char c)
{
    out8(0x3f8, c);
}

static void number(u64 v, u32 base, int negative)
{
    char digits[24];
    int n = 0;
    if (base == 16)
        do digits[n++] = "0123456789abcdef"[v & 15]; while (v >>= 4);
    else {
        u32 low = (u32)v;
        do digits[n++] = '0' + low % 10; while (low /= 10);
    }
    if (negative)
        put('-');
    while (n)
        put(digits[--n]);
}

static void format_out(const char *format, va_list args)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *s = va_arg(args, const char *); *s; s++)
                put(*s);
            break;
        case 'x': number(va_arg(args, word), 16, 0); break;
        case 'X': number(va_arg(args, u64), 16, 0); break;
        case 'u': number(va_arg(args, u32), 10, 0); break;
        case 'd': {
            int v = va_arg(args, int);
            number(v < 0 ? -v : v, 10, v < 0);
            break;
        }
        case 'c': put((char)va_arg(args, int)); break;
        default: put('%');
        }
    }
}

void print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    format_out(format, args);
    va_end(args);
}

void section(const char *name)
{
    print("-- %s\n", name);
}

void skip(const char *what)
{
    skipped++;
    print("SKIP %s\n", what);
}

void check(int good, const char *format, ...)
{
    va_list args;
    good ? passed++ : failed++;
    print(good ? "PASS " : "FAIL ");
    va_start(args, format);
    format_out(format, args);
    va_end(args);
    put('\n');
}

void equal(u64 found, u64 expected, const char *format, ...)
{
    va_list args;
    int good = found == expected;
    good ? passed++ : failed++;
    print(good ? "PASS " : "FAIL ");
    va_start(args, format);
    format_out(format, args);
    va_end(args);
    if (!good)
        print(": found %X, expected %X", found, expected);
    put('\n');
}

void leave(u32 value)
{
    out32(0xf4, value);
    for (;;)
        asm volatile("cli; hlt");
}

void clear(void *at, word bytes)
{
    asm volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(0) : "memory");
}

void copy(void *to, const void *from, word bytes)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

int same(const void *a, const void *b, word bytes)
{
    const u8 *x = a, *y = b;
    while (bytes--)
        if (*x++ != *y++)
            return 0;
    return 1;
}

int argument(const char *wanted)
{
    const char *at = (const char *)(word)((u32 *)boot_info)[4];
    for (;;) {
        const char *w = wanted;
        while (*at == ' ')
            at++;
        if (!*at)
            return 0;
        while (*w && *at == *w)
            at++, w++;
        if (!*w && (!*at || *at == ' '))
            return 1;
        while (*at && *at != ' ')
            at++;
    }
}

/* The compiler may call these by itself. */
void *memset(void *at, int v, word bytes)
{
    void *to = at;
    asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(v) : "memory");
    return at;
}
void *memcpy(void *to, const void *from, word bytes)
{
    copy(to, from, bytes);
    return to;
}

/* --- gates and exceptions */

void gate(int vector, void *to, int dpl, int kind, int ist)
{
    word at = (word)to;
#ifdef __x86_64__
    u64 *g = (u64 *)(idt + 16 * vector);
    g[1] = at >> 32;
#else
    u64 *g = (u64 *)(idt + 8 * vector);
#endif
    g[0] = (at & 0xffff) | (u64)CODE0 << 16 | (u64)ist << 32 | (u64)(0x80 | dpl << 5 | kind) << 40
           | (u64)(at >> 16 & 0xffff) << 48;
}

void restore_gate(int vector)
{
    gate(vector, stubs + STUB_SIZE * vector, 0, INTERRUPT_GATE, 0);
}

void on_vector(struct frame *f)
{
    if (handlers[f->vector]) {
        handlers[f->vector](f);
        return;
    }
    if (caught.resume) {
        caught.vector = f->vector;
        caught.error = f->error;
        caught.ip = f->ip;
        caught.flags = f->flags;
        caught.cs = f->cs;
        caught.address = f->vector == PF ? get_cr2() : 0;
#ifdef __x86_64__
        caught.sp = f->sp;
#else
        caught.sp = f->cs & 3 ? f->sp : (word)(&f->flags + 1);
#endif
        f->ip = caught.resume;
        f->flags &= ~(F_TF | F_RF);
        return;
    }
    print("UNEXPECTED vector %x error %x at %x:%x flags %x cr2 %x\n", f->vector, f->error, f->cs, f->ip,
          f->flags, get_cr2());
    leave(61);
}

u64 descriptor(u32 base, u32 limit, u8 access, u8 granularity)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40
           | (u64)(limit >> 16 & 15) << 48 | (u64)(granularity & 0xf0) << 48 | (u64)(base >> 24) << 56;
}

/* --- ring 3 */

static u8 ring3_stack[8192] __attribute__((aligned(16)));

word in_ring3(word (*code)(word), word argument)
{
    gate(0x81, leave_ring3, 3, INTERRUPT_GATE, 0);
    return enter_ring3(code, argument, (word)(ring3_stack + sizeof ring3_stack), ring3_flags);
}

/* --- small instructions that may fault */

int is_amd(void)
{
    return cpuid(0, 0).b == 0x68747541;
}

u32 try_rdmsr(u32 index, u64 *value)
{
    u32 lo = 0, hi = 0;
    u32 vector = ATTEMPT("rdmsr", OUTS("+a"(lo), "+d"(hi)), INS("c"(index)));
    *value = (u64)hi << 32 | lo;
    return vector;
}

u32 try_wrmsr(u32 index, u64 value)
{
    return ATTEMPT("wrmsr", NONE, INS("c"(index), "a"((u32)value), "d"((u32)(value >> 32))));
}

u32 try_cr0(word v)
{
    return ATTEMPT("mov %0, %%cr0", NONE, INS("r"(v)));
}

u32 try_cr3(word v)
{
    return ATTEMPT("mov %0, %%cr3", NONE, INS("r"(v)));
}

u32 try_cr4(word v)
{
    return ATTEMPT("mov %0, %%cr4", NONE, INS("r"(v)));
}

/* --- local APIC */

static int x2apic(void)
{
    return (rdmsr(MSR_APIC_BASE) & 0xc00) == 0xc00;
}

u32 apic_read(u32 offset)
{
    return x2apic() ? (u32)rdmsr(0x800 + (offset >> 4)) : *(volatile u32 *)(LAPIC + offset);
}

void apic_write(u32 offset, u32 v)
{
    if (x2apic())
        wrmsr(0x800 + (offset >> 4), v);
    else
        *(volatile u32 *)(LAPIC + offset) = v;
}

void apic_ipi(u32 low, u32 destination)
{
    if (x2apic()) {
        wrmsr(0x830, (u64)destination << 32 | low);
        return;
    }
    *(volatile u32 *)(LAPIC + 0x310) = destination << 24;
    *(volatile u32 *)(LAPIC + 0x300) = low;
}

u32 apic_id(void)
{
    return x2apic() ? apic_read(0x20) : apic_read(0x20) >> 24;
}

void use_x2apic(void)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
    apic_write(0xf0, 0x1ff);
}

void use_xapic(void)
{
    u64 base = rdmsr(MSR_APIC_BASE) & ~0xc00ull;
    wrmsr(MSR_APIC_BASE, base);
    wrmsr(MSR_APIC_BASE, base | 0x800);
    apic_write(0xf0, 0x1ff);
}

void eoi(void)
{
    apic_write(0xb0, 0);
}

/* --- fw_cfg */

static u64 fw_cfg(u16 key, int bytes)
{
    u64 v = 0;
    out16(0x510, key);
    for (int n = 0; n < bytes; n++)
        v |= (u64)in8(0x511) << 8 * n;
    return v;
}

u32 cpu_count(void)
{
    return (u32)fw_cfg(5, 2);
}

u64 ram_size(void)
{
    return fw_cfg(3, 8);
}

/* --- other processors */

struct job {
    void (*volatile code)(void *);
    void *volatile argument;
} __attribute__((aligned(64)));
static struct job jobs[CPUS];
static volatile u32 online = 1;
#define WAKE 0xd0

static void woken(struct frame *f)
{
    eoi();
}

void processor(u32 number)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
    apic_write(0xf0, 0x1ff);
    u32 me = apic_id();
    (void)number;
    __atomic_fetch_add(&online, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        asm volatile("cli");
        if (jobs[me].code) {
            asm volatile("sti");
            jobs[me].code(jobs[me].argument);
            __atomic_store_n(&jobs[me].code, 0, __ATOMIC_SEQ_CST);
        } else
            asm volatile("sti; hlt");
    }
}

void start_processors(void)
{
    u32 wanted = cpu_count();
    handlers[WAKE] = woken;
    copy((void *)0x8000, trampoline, trampoline_end - trampoline);
    apic_ipi(0xc4500, 0);
    apic_ipi(0xc4600 | 0x08, 0);
    while (online < wanted)
        relax();
    alone = wanted == 1;
}

void start_on(u32 cpu, void (*code)(void *), void *argument)
{
    jobs[cpu].argument = argument;
    __atomic_store_n(&jobs[cpu].code, code, __ATOMIC_SEQ_CST);
    apic_ipi(0x4000 | WAKE, cpu);
}

void wait_for(u32 cpu)
{
    while (jobs[cpu].code)
        relax();
}

void run_on(u32 cpu, void (*code)(void *), void *argument)
{
    if (cpu == apic_id()) {
        code(argument);
        return;
    }
    start_on(cpu, code, argument);
    wait_for(cpu);
}

/* --- memory */

static word next_page;

void *page(void)
{
    if (!next_page)
        next_page = ((word)image_end + 4095) & ~4095ul;
    void *p = (void *)next_page;
    next_page += 4096;
    clear(p, 4096);
    return p;
}

#ifdef __x86_64__
extern u64 pml4[];

u64 *entry_of(word linear, int level)
{
    u64 *table = pml4;
    for (int at = 4; at > level; at--) {
        u64 e = table[linear >> (3 + 9 * at) & 511];
        if (!(e & P_P) || (at < 4 && e & P_PS))
            return 0;
        table = (u64 *)(e & 0xffffffffff000);
    }
    return &table[linear >> (3 + 9 * level) & 511];
}

void map(word linear, u64 entry)
{
    u64 *table = pml4;
    for (int at = 4; at > 1; at--) {
        u64 *e = &table[linear >> (3 + 9 * at) & 511];
        if (!(*e & P_P))
            *e = (word)page() | P_P | P_W | P_U;
        table = (u64 *)(*e & 0xffffffffff000);
    }
    table[linear >> 12 & 511] = entry;
    flush(linear);
}
#endif

/* --- from here to the test and back */

void main(void)
{
    for (int n = 0; n < 256; n++)
        restore_gate(n);
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
    apic_write(0xf0, 0x1ff);
    test();
    print("SUMMARY %u passed, %u failed, %u skipped\n", passed, failed, skipped);
    leave(failed > 60 ? 60 : failed);
}
