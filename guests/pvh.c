/* pvh: an ELF kernel with a PVH note prints its command line, its modules and its memory map.
 *
 * Look at: direct kernel boot without BIOS or boot loader: the note names the entry, EBX points to
 * hvm_start_info. Try --cmdline and --module.
 */
#include "guest.h"
#include "print.h"

#define START_MAGIC 0x336ec578 /* "xEn3" with the top bit set */
#define NOTE_PHYS32_ENTRY 18   /* XEN_ELFNOTE_PHYS32_ENTRY */
#define TYPE_RAM 1

void _start(void);

__attribute__((section(".note.Xen"), used, aligned(4))) static const struct {
    unsigned name_size, data_size, type;
    char name[4];
    void (*entry)(void);
} note = {4, 4, NOTE_PHYS32_ENTRY, "Xen", _start};

/* Xen public headers, arch-x86/hvm/start_info.h; the last three fields came with version 1. */
struct start_info {
    unsigned magic, version, flags, modules_count;
    unsigned long long modules, cmdline, rsdp, memory_map;
    unsigned memory_entries, reserved;
};

struct module {
    unsigned long long start, size, cmdline, reserved;
};

struct range {
    unsigned long long base, length;
    unsigned type, reserved;
};

/* A 32-bit guest without paging reaches only the low 4 GiB. */
static const void *pointer(unsigned long long address)
{
    return (const void *)(unsigned long)address;
}

static void print_modules(const struct start_info *info)
{
    const struct module *modules = pointer(info->modules);

    for (unsigned i = 0; i < info->modules_count; i++) {
        const char *bytes = pointer(modules[i].start);

        puts("module ");
        if (modules[i].cmdline)
            puts(pointer(modules[i].cmdline));
        puts(", ");
        putdec(modules[i].size);
        puts(" bytes: ");
        for (unsigned j = 0; j < modules[i].size; j++)
            putc(bytes[j]);
        putc('\n');
    }
}

static void print_memory_map(const struct start_info *info)
{
    const struct range *ranges = pointer(info->memory_map);

    for (unsigned i = 0; i < info->memory_entries; i++) {
        puts(ranges[i].type == TYPE_RAM ? "memory " : "reserved ");
        puthex(ranges[i].base, 9);
        puts(" + ");
        puthex(ranges[i].length, 9);
        putc('\n');
    }
}

__attribute__((used)) int kernel(unsigned eax, const struct start_info *info)
{
    (void)eax; /* PVH says nothing about it */
    if (info->magic != START_MAGIC) {
        puts("not started by a PVH loader\n");
        return 1;
    }
    if (info->cmdline) {
        puts("command line: ");
        puts(pointer(info->cmdline));
        putc('\n');
    }
    print_modules(info);
    if (info->version >= 1)
        print_memory_map(info);
    return 0;
}
