/* The smallest VMM that can run the benchmark's guest: what minihv is measured against.
 *
 * usage: out_loop IMAGE GPA [clock]
 * Runs the flat 32-bit image at GPA until it writes port 0xf8; bytes for port 0x3f8 are stored, a byte to
 * port 0x5f0 ends a batch. Prints the exits, the nanoseconds (wall and CPU) of the last batch and, with
 * "clock", those spent between the return of one KVM_RUN and the next call during all of the run (reading
 * the clock twice an exit costs something: a pass of its own).
 * The VM is set up as minihv does: PIC, IOAPIC, LAPIC and PIT in the kernel, the host's CPUID.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY (4u << 20)
#define COM1 0x3f8
#define EXIT_PORT 0xf8
#define MARK_PORT 0x5f0

static void check(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static uint64_t read_clock(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static void load(unsigned char *memory, const char *path, uint64_t gpa)
{
    int fd = open(path, O_RDONLY);

    check(fd >= 0 && gpa < MEMORY && read(fd, memory + gpa, MEMORY - gpa) > 0, path);
    close(fd);
}

static int make_vm(int kvm, unsigned char *memory)
{
    struct kvm_userspace_memory_region slot = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)memory};
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    uint64_t identity_map = 0xfeffc000;
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);

    check(vm >= 0, "KVM_CREATE_VM");
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0, "KVM_SET_USER_MEMORY_REGION");
    check(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) == 0, "KVM_SET_IDENTITY_MAP_ADDR");
    check(ioctl(vm, KVM_SET_TSS_ADDR, identity_map + 0x1000) == 0, "KVM_SET_TSS_ADDR");
    check(ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0, "KVM_CREATE_IRQCHIP");
    check(ioctl(vm, KVM_CREATE_PIT2, &pit) == 0, "KVM_CREATE_PIT2");
    return vm;
}

static void set_cpuid(int kvm, int vcpu)
{
    struct kvm_cpuid2 *table = calloc(1, sizeof *table + 256 * sizeof table->entries[0]);

    check(table != NULL, "calloc");
    table->nent = 256;
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table) == 0, "KVM_GET_SUPPORTED_CPUID");
    check(ioctl(vcpu, KVM_SET_CPUID2, table) == 0, "KVM_SET_CPUID2");
    free(table);
}

/* Flat 32-bit protected mode, paging off. */
static void enter_protected(int vcpu, uint64_t entry)
{
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
    };
    struct kvm_regs regs = {.rip = entry, .rflags = 2};
    struct kvm_sregs sregs;

    check(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
    sregs.cs = data;
    sregs.cs.selector = 8;
    sregs.cs.type = 11;
    sregs.cr0 = 0x11;
    check(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
    check(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
}

static unsigned char stored[4096];

/* The last batch of exits: how long it took, and where the clocks stood at its end. */
struct span {
    uint64_t wall, cpu, wall_end, cpu_end;
};

static void end_batch(struct span *batch)
{
    uint64_t wall = now(), cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);

    *batch = (struct span){wall - batch->wall_end, cpu - batch->cpu_end, wall, cpu};
}

/* Returns 1 when the guest has ended. */
static int handle(struct kvm_run *run, uint64_t exits, struct span *batch)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        if (run->io.direction == KVM_EXIT_IO_OUT && run->io.port == COM1)
            stored[exits % sizeof stored] = *((unsigned char *)run + run->io.data_offset);
        else if (run->io.port == MARK_PORT)
            end_batch(batch);
        return run->io.port == EXIT_PORT;
    default:
        fprintf(stderr, "unexpected exit reason %u\n", run->exit_reason);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    check(argc >= 3, "usage: out_loop IMAGE GPA [clock]");
    uint64_t entry = strtoull(argv[2], NULL, 0), exits = 0, outside = 0, left = 0;
    int with_clock = argc > 3;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    check(kvm >= 0, "/dev/kvm");
    unsigned char *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED, "mmap");
    load(memory, argv[1], entry);
    int vm = make_vm(kvm, memory);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check(vcpu >= 0, "KVM_CREATE_VCPU");
    set_cpuid(kvm, vcpu);
    enter_protected(vcpu, entry);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    check(run != MAP_FAILED, "mmap of the vCPU");

    struct span batch = {0};
    for (int done = 0; !done; exits++) {
        if (with_clock && exits)
            outside += now() - left;
        check(ioctl(vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
        if (with_clock)
            left = now();
        done = handle(run, exits, &batch);
    }
    printf("{\"exits\": %llu, \"wall_ns\": %llu, \"cpu_ns\": %llu, \"outside_ns\": %llu}\n",
           (unsigned long long)exits, (unsigned long long)batch.wall, (unsigned long long)batch.cpu,
           (unsigned long long)outside);
    return 0;
}
