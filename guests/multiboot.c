/* multiboot: a multiboot kernel prints its command line, its modules and the memory it was given.
 *
 * Look at: what a boot loader hands over, and the bits in `flags` that say which of it is there. Try
 * --cmdline and --module.
 */
#include "guest.h"
#include "print.h"

#define HEADER_MAGIC 0x1BADB002
#define HEADER_FLAGS 3 /* modules on page borders, memory wanted */
#define LOADER_MAGIC 0x2BADB002
#define HAS_MEMORY 1
#define HAS_CMDLINE 4
#define HAS_MODULES 8
#define HAS_MMAP 64

/* Multiboot specification 0.6.96, 3.1.1: in the first 8 KiB, 4-byte aligned, the three add up to 0. */
__attribute__((section(".multiboot"), used)) static const unsigned header[] = {
    HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS),
};

/* 3.3, as far as it is printed */
struct info {
    unsigned flags, mem_lower, mem_upper, boot_device;
    const char *cmdline;
    unsigned mods_count;
    const struct module *mods;
    unsigned syms[4], mmap_length;
    const char *mmap;
};

struct module {
    const char *start, *end, *string;
    unsigned reserved;
};

struct __attribute__((packed)) range {
    unsigned size; /* of the entry, without this field */
    unsigned long long base, length;
    unsigned type;
};

static void print_modules(const struct info *info)
{
    for (unsigned i = 0; i < info->mods_count; i++) {
        const struct module *module = &info->mods[i];

        puts("module ");
        puts(module->string);
        puts(", ");
        putdec(module->end - module->start);
        puts(" bytes: ");
        for (const char *byte = module->start; byte < module->end; byte++)
            putc(*byte);
        putc('\n');
    }
}

static void print_memory_map(const struct info *info)
{
    const char *at = info->mmap;

    while (at < info->mmap + info->mmap_length) {
        const struct range *range = (const struct range *)at;

        puts(range->type == 1 ? "memory " : "reserved ");
        puthex(range->base, 9);
        puts(" + ");
        puthex(range->length, 9);
        putc('\n');
        at += range->size + 4;
    }
}

__attribute__((used)) int kernel(unsigned magic, const struct info *info)
{
    if (magic != LOADER_MAGIC) {
        puts("not started by a multiboot loader\n");
        return 1;
    }
    if (info->flags & HAS_CMDLINE) {
        puts("command line: ");
        puts(info->cmdline);
        putc('\n');
    }
    if (info->flags & HAS_MEMORY) {
        puts("lower memory: ");
        putdec(info->mem_lower);
        puts(" KiB, upper memory: ");
        putdec(info->mem_upper);
        puts(" KiB\n");
    }
    if (info->flags & HAS_MODULES)
        print_modules(info);
    if (info->flags & HAS_MMAP)
        print_memory_map(info);
    return 0;
}
