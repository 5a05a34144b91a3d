"""Paging: the walk against the pure one of `x86.paging`, over random tables; accessed and dirty bits."""

import random

import pytest
from lab import CODE, PD, PDPT, PML4, PT, Lab, long_mode, map_identity, protected

from minihv.engine.interpret.faults import GuestFault
from minihv.engine.interpret.mmu import PHYS_BITS
from minihv.x86 import registers as x
from minihv.x86.paging import walk

_BASE_CR0 = x.CR0_PE | x.CR0_PG
_CASES = 4000


def _random_entry(rng: random.Random, target: int, large: bool, wide: bool) -> int:
    entry = target
    for bit, chance in ((0, 0.93), (1, 0.6), (2, 0.6), (5, 0.5), (6, 0.5), (8, 0.2)):
        if rng.random() < chance:
            entry |= 1 << bit
    if large and rng.random() < 0.3:
        entry |= 1 << 7
        entry &= ~0x1FF000 if wide else ~0x3FF000
    if wide:
        if rng.random() < 0.2:
            entry |= 1 << 63
        if rng.random() < 0.06:
            entry |= 1 << rng.randrange(PHYS_BITS, 63)
        if rng.random() < 0.3:
            entry |= rng.randrange(16) << 59
    elif rng.random() < 0.05:
        entry |= 1 << rng.randrange(13, 22)
    return entry


@pytest.mark.parametrize("mode", ["2-level", "PAE", "4-level"])
def test_walk_agrees_with_the_pure_one(mode: str) -> None:
    rng = random.Random(mode)
    lab = Lab()
    cpu = lab.cpu
    wide = mode != "2-level"

    def read(gpa: int, size: int) -> int:
        return lab.get(gpa, size)

    for case in range(_CASES):
        cr4 = x.CR4_PSE if rng.random() < 0.7 else 0
        if mode != "2-level":
            cr4 |= x.CR4_PAE
        for bit in (x.CR4_SMEP, x.CR4_SMAP, x.CR4_PKE):
            if rng.random() < 0.4 and (bit != x.CR4_PKE or mode == "4-level"):
                cr4 |= bit
        efer = x.EFER_NXE if rng.random() < 0.7 else 0
        if mode == "4-level":
            efer |= x.EFER_LMA | x.EFER_LME
        cr0 = _BASE_CR0 | (x.CR0_WP if rng.random() < 0.5 else 0)
        lin = rng.randrange(4) << 12 | rng.randrange(4) << 21 | rng.randrange(0x1000)
        size = 8 if wide else 4
        if wide:
            lab.put(PML4, _random_entry(rng, PDPT, False, True), 8)
            entry = _random_entry(rng, PD, mode == "4-level", True)
            lab.put(PDPT, PD | 1 if mode == "PAE" else entry, 8)
            for n in range(4):
                lab.put(PD + 8 * n, _random_entry(rng, PT, True, True), 8)
        else:
            lab.put(PD, _random_entry(rng, PT, True, False), 4)
        for n in range(4):
            lab.put(PT + size * n, _random_entry(rng, 0x1000 * n, False, wide), size)
        cr3 = {"2-level": PD, "PAE": PDPT, "4-level": PML4}[mode]
        if mode == "2-level":
            lin &= 0x3FFF
        cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = cr0, cr3, cr4, efer
        cpu.pkru = rng.getrandbits(32)
        ac = rng.random() < 0.5
        cpu.flags = 2 | (x.RFLAGS_AC if ac else 0)
        cpu.mmu.adopt_pdptes()
        cpu.mmu.flush()
        user = rng.random() < 0.5
        write = rng.random() < 0.5
        fetch = not write and rng.random() < 0.4
        wanted = walk(
            read, cr0, cr3, cr4, efer, lin,
            write=write, user=user, fetch=fetch, ac=ac, pkru=cpu.pkru, phys_bits=PHYS_BITS,
        )  # fmt: skip
        if wanted.failure is None:
            assert cpu.mmu.translate(lin, write, user, fetch) == wanted.gpa, (case, wanted)
            continue
        with pytest.raises(GuestFault) as raised:
            cpu.mmu.translate(lin, write, user, fetch)
        fault = raised.value
        error = fault.error or 0
        if wanted.failure != "protection-key":
            error &= ~x.PF_KEY  # set whenever the key denies (SDM Vol. 3A, 4.7); `walk` names one reason
        assert (fault.vector, fault.cr2, error) == (14, lin, wanted.error_code), (case, wanted)


def test_accessed_and_dirty_bits() -> None:
    lab = Lab()
    map_identity(lab)
    page = 0x30
    for table, entry in ((PML4, PDPT), (PDPT, PD), (PD, PT)):
        lab.put(table, entry | 7, 8)
    lab.code(64, "mov al, [0x30000]; nop; mov [0x30008], al; hlt")
    lab.start(long_mode())
    lab.run(1)
    assert [lab.get(at, 1) & 0x60 for at in (PML4, PDPT, PD, PT + 8 * page)] == [0x20, 0x20, 0x20, 0x20]
    lab.run_to_halt()
    assert lab.get(PT + 8 * page, 1) & 0x60 == 0x60
    assert lab.get(PT + 8 * (CODE >> 12), 1) & 0x60 == 0x20


def test_faulting_write_sets_no_dirty_bit_and_stores_nothing() -> None:
    lab = Lab()
    map_identity(lab)
    lab.catch(64)
    lab.put(PT + 8 * 0x31, 0, 8)
    lab.code(64, "mov [0x30ffd], eax; hlt")
    lab.start(long_mode(), rax=0x11223344)
    lab.run_to_halt()
    assert lab.taken() == 14
    assert lab.cpu.cr2 == 0x31000
    assert lab.frame(8, 1) == [2]
    assert lab.get(0x30FFD, 3) == 0


def test_invlpg_and_cr3_make_new_entries_seen() -> None:
    lab = Lab()
    map_identity(lab)
    lab.put(0x30000, 1, 8)
    lab.put(0x31000, 2, 8)
    lab.code(
        64,
        f"""mov rax, [0x30000]; mov rdx, 0x31007; mov [{PT + 8 * 0x30}], rdx; invlpg [0x30000]
        mov rbx, [0x30000]; mov rdx, 0x30007; mov [{PT + 8 * 0x30}], rdx; mov rdx, cr3; mov cr3, rdx
        mov rcx, [0x30000]; hlt""",
    )
    lab.start(long_mode())
    lab.run_to_halt()
    assert (lab.rax, lab.rbx, lab.rcx) == (1, 2, 1)


def test_smap_holds_back_the_kernel_unless_ac_is_set() -> None:
    lab = Lab()
    map_identity(lab)
    lab.catch(64)
    for n in (CODE >> 12, 0x1F, 0x20, 0x40, 1, 0):
        lab.put(PT + 8 * n, n << 12 | 3, 8)
    for n in range(0x50, 0x54):
        lab.put(PT + 8 * n, n << 12 | 3, 8)
    lab.code(64, "stac; mov al, [0x30000]; clac; mov bl, [0x30000]; hlt")
    state = long_mode()
    state.cr4 |= x.CR4_SMAP
    lab.start(state)
    lab.run_to_halt()
    assert lab.taken() == 14
    assert lab.frame(8, 2) == [1, CODE + 13]


def test_reserved_bits_in_a_pdpte_refuse_cr3() -> None:
    lab = Lab()
    lab.catch(32)
    lab.put(PDPT, PD | 1, 8)
    lab.put(PD, 0x83, 8)
    lab.put(0x60000, PD | 1 | 2, 8)
    lab.code(32, "mov eax, 0x60000; mov cr3, eax; hlt")
    state = protected()
    state.cr0 |= x.CR0_PG
    state.cr4, state.cr3 = x.CR4_PAE, PDPT
    lab.start(state)
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.cpu.cr3 == PDPT
