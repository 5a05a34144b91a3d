"""The interpreter: guest instructions executed in Python, one closure per instruction.

Read in this order: `faults` (how an instruction stops), `flags` (lazy flags), `cpu` (registers),
`space` + `mmu` (memory), `decode`, `site` (operands), `blocks`, `vcpu`, `hot`; then any family page.

How it runs
    `blocks.lookup` decodes a straight run of instructions inside one page and asks the family pages
    for one *op* (`Op = Callable[[], None]`) per instruction: a closure specialised for its registers,
    sizes, immediates and mode. `vcpu.run` calls the ops of a block one after the other. Blocks are found
    by (mode, linear address), behind that by (physical address, mode), and die when their bytes are
    written. A block that has run `hot.HEAT` times is compiled into one function (`hot`, `hotcode`): the
    commonest instructions have templates there, the others are called as the ops they are.

Family page
    A module with `TABLE: Table` (`dict[Mnemonic, Builder]`), listed in `table.PAGES`. A builder is
    `def adc(s: Site) -> Op`: it looks at the decoded instruction once and returns the closure. A
    builder may `raise_ud`-return (`return s.undefined()`) when the CPUID we claim does not have the
    instruction. Mnemonics in no table raise #UD.

    - `s.cpu` the `Cpu`; `s.cpu.r` the 16 general registers, unsigned 64-bit ints in encoding order.
      Outside 64-bit mode the upper halves are kept zero by whoever writes.
    - `s.insn` the iced-x86 `Instruction`; `s.ip`, `s.next_ip` offsets in CS; `s.mode` the `Mode`.
    - `s.size(n)` operand size in bytes; `s.is_reg(n)`, `s.is_mem(n)`; `s.imm(n)` unsigned immediate cut
      to the operand's size; `s.gpr(n)` general register number (AH..BH: number + 16, see `s.reader`).
    - `s.reader(n) -> Callable[[], int]`, `s.writer(n) -> Callable[[int], None]` for a general register,
      memory or immediate operand: zero-extended ints; a 32-bit register write clears the upper half.
    - `s.modify(n) -> (read, write)` for read-modify-write operands: `read` checks for *write* access
      first, `write` then cannot fault.
    - `s.address(size, write) -> Callable[[], int]` gives the checked *linear* address of the memory
      operand; `s.ld(size)`/`s.st(size)` give `ld(lin) -> int`, `st(lin, value)` with the right privilege
      and, for SS, the right fault. Sizes 1, 2, 4, 8, 16. Any length: `s.read_bytes()(lin, n)`,
      `s.write_bytes()(lin, data)` (all of it or a fault before the first byte; `s.probe_write()(lin, n)`
      only checks).
    - `s.xmm(n)` number of an XMM operand (`s.cpu.xmm[i]`, unsigned 128-bit int), `s.mmx(n)` of an MMX/ST.
    - FPU state: `cpu.xmm`, `cpu.mxcsr`, `cpu.fpu` (an `fpu.FpuState`), `cpu.xcr0`.

Faults
    `raise GuestFault(VECTOR, error)` from an op: the run loop restores RIP to that instruction and
    delivers it. So an op must change nothing (registers, flags, memory) before everything that can
    fault has succeeded: load, compute, store, then registers and flags.

Flags
    An op that sets the six arithmetic flags assigns one tuple, `cpu.fl = (RULE, a, b, result)`; see
    `flags` for the rules (`ADD[size]`, `SUB[size]`, `LOGIC[size]`, ...). Explicit values:
    `cpu.fl = explicit(cf, pf, af, zf, sf, of)` or `from_word(rflags_bits)`; reading: `cpu.cf()`,
    `cpu.arith()` (the word of six bits). The other flags are plain bits of `cpu.flags` (DF, IF, ...).

Control
    An op never touches `cpu.rip` unless its mnemonic is a block's end: `s.ends_block()` was called by its
    builder (branches, segment loads, anything that changes mode, translation, IF or TF, RDTSC). Such an
    op sees `cpu.rip` already equal to `s.next_ip` and may overwrite it. After a change of segments, CPL,
    CR0/CR4/EFER or RFLAGS.VM/AC: `cpu.mode_changed()`; of IF/TF or pending events: `cpu.attention = True`.

Outside world
    `cpu.ask(exit) -> bytes` hands an exit to the VMM: it raises `NeedExit`, and when the instruction is
    executed again from its start, the same call returns the answer. Loads and stores of non-RAM do this
    by themselves. So ops are written straight on, and must not have changed state before they ask.
"""
