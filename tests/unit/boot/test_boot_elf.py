"""ELF kernels: what is placed where, the entry states, and every reason to refuse one."""

import pytest
from boot_images import CODE, FACTS, Elf, Segment, bytes_at, check_plan, chunk_named

from minihv.boot.load import load
from minihv.boot.plan import BoardFacts, BootPlan, LoadRequest
from minihv.errors import ImageError, UsageError


def boot(
    elf: Elf, facts: BoardFacts = FACTS, format: str | None = None, entry: int | None = None
) -> BootPlan:
    plan = load(LoadRequest("k.elf", elf.build(), format, entry=entry), facts)
    check_plan(plan, facts)
    return plan


def test_elf64_starts_in_long_mode_with_identity_mapping() -> None:
    plan = boot(Elf())
    state = plan.state
    assert plan.format == "elf64"
    assert state.rip == 0x100000
    assert state.cs.long
    assert not state.cs.big
    assert (state.cr0 & 0x80000001, state.cr4 & 0x20, state.efer) == (0x80000001, 0x20, 0x500)
    pml4 = int.from_bytes(bytes_at(plan, state.cr3, 8), "little")
    assert pml4 & 0xFFF == 3
    for address in (0, 0x123456, 0xFEE00000, 0xFFFFFFFF):
        pdpte = int.from_bytes(bytes_at(plan, (pml4 & ~0xFFF) + (address >> 30) * 8, 8), "little")
        pde = int.from_bytes(bytes_at(plan, (pdpte & ~0xFFF) + (address >> 21 & 511) * 8, 8), "little")
        assert pde & 0xFFF == 0x83
        assert (pde & ~0xFFF) + (address & 0x1FFFFF) == address


def test_elf64_gets_an_aligned_stack_and_a_gdt_that_its_selectors_name() -> None:
    plan = boot(Elf())
    stack = chunk_named(plan, "stack")
    assert plan.state.gpr[4] == stack.end
    assert stack.end % 16 == 0
    assert stack.size >= 4096
    descriptor = bytes_at(plan, plan.state.gdtr.base + plan.state.cs.selector, 8)
    assert descriptor.hex() == "ffff0000009baf00"
    assert bytes_at(plan, plan.state.gdtr.base + plan.state.ss.selector, 8).hex() == "ffff00000093cf00"
    assert plan.state.gdtr.limit == 23


def test_elf32_starts_flat_without_paging() -> None:
    plan = boot(Elf(32))
    assert plan.format == "elf32"
    assert plan.state.cr0 == 0x11
    assert plan.state.efer == 0
    assert plan.state.cs.big
    assert not plan.state.cs.long
    assert plan.state.ds.limit == 0xFFFFFFFF
    assert bytes_at(plan, plan.state.gdtr.base + 8, 8).hex() == "ffff0000009bcf00"


@pytest.mark.parametrize("bits", [32, 64])
def test_segments_go_to_physical_addresses_and_bss_is_zero(bits: int) -> None:
    data = Segment(paddr=0x180000, vaddr=0x80180000, data=b"data", memsz=0x2000)
    plan = boot(Elf(bits, segments=(Segment(), data)))
    assert bytes_at(plan, 0x100000, 32) == CODE
    assert bytes_at(plan, 0x180000, 8) == b"data\0\0\0\0"
    assert chunk_named(plan, "segment 1").size == 0x2000
    assert plan.symbols


def test_virtual_entry_is_translated() -> None:
    high = Segment(paddr=0x200000, vaddr=0xFFFFFFFF80200000)
    plan = boot(Elf(entry=0xFFFFFFFF80200010, segments=(high,)))
    assert plan.state.rip == 0x200010


def test_physical_entry_wins_over_another_segments_virtual_range() -> None:
    segments = (Segment(paddr=0x200000, vaddr=0x100000), Segment(paddr=0x100000, vaddr=0x900000))
    assert boot(Elf(entry=0x100008, segments=segments)).state.rip == 0x100008


def test_entry_option_replaces_the_files() -> None:
    assert boot(Elf(), entry=0x100004).state.rip == 0x100004


def test_image_over_the_usual_place_of_page_tables_moves_them() -> None:
    plan = boot(Elf(entry=0x1000, segments=(Segment(paddr=0x1000, data=bytes(0x9000)),)))
    assert plan.state.cr3 >= 0xA000
    assert plan.state.cr3 % 4096 == 0


def test_page_tables_avoid_reserved_windows() -> None:
    facts = BoardFacts(16 << 20, reserved=((0x3000, 0x200000, "a window"),))
    plan = boot(Elf(entry=0x400000, segments=(Segment(paddr=0x400000),)), facts)
    assert plan.state.cr3 == 0x200000


def test_segments_without_size_and_of_other_types_are_ignored() -> None:
    others = (Segment(type=0x6474E551, data=b""), Segment(paddr=0x5000000000, data=b"", memsz=0))
    boot(Elf(segments=(Segment(), *others)))


REFUSED = {
    "class": (Elf(elf_class=3), "class 1 or 2 at file offset 0x4, found 3"),
    "endianness": (Elf(encoding=2), "little-endian ELF file (1 at file offset 0x5), found 2"),
    "machine": (Elf(machine=183), "found 183 (AArch64)"),
    "machine of the other class": (Elf(32, machine=62), "expected machine 3 (i386)"),
    "relocatable": (Elf(type=1), "found a relocatable object"),
    "core": (Elf(type=4), "found a core dump"),
    "phnum": (Elf(phnum=0xFFFF), "at most 256 program headers (e_phnum at file offset 0x38), found 65535"),
    "phnum beyond the file": (Elf(phnum=100), "program header 1 takes 0x38 bytes at file offset 0x78"),
    "phentsize": (Elf(phentsize=1), "program headers of 56 bytes, found 1"),
    "no segments": (Elf(segments=()), "no loadable segment"),
    "nothing in memory": (Elf(segments=(Segment(data=b""),)), "no loadable segment"),
    "dynamic": (Elf(segments=(Segment(), Segment(type=3))), "segment 1 (program header at file offset 0x78)"),
    "truncated segment": (
        Elf(segments=(Segment(filesz=0x1000),)),
        "segment 0 (program header at file offset 0x40) takes 0x1000 bytes at file offset 0x80",
    ),
    "offset wraps": (Elf(segments=(Segment(offset=(1 << 64) - 8),)), "file offset 0xfffffffffffffff8"),
    "filesz > memsz": (Elf(segments=(Segment(memsz=8),)), "0x20 bytes in the file but only 0x8 in memory"),
    "address wrap": (Elf(segments=(Segment(paddr=(1 << 64) - 16),)), "end of the 64-bit physical"),
    "virtual wrap": (Elf(segments=(Segment(vaddr=(1 << 64) - 16),)), "end of the 64-bit virtual"),
    "32-bit wrap": (Elf(32, segments=(Segment(paddr=(1 << 32) - 16),)), "wraps around the end of the 32-bit"),
    "overlap": (Elf(segments=(Segment(), Segment(paddr=0x100010))), "0x100010..0x10002f overlaps segment 0"),
    "overlap from below": (Elf(segments=(Segment(paddr=0x100010), Segment())), "overlaps segment 0"),
    "too large": (Elf(segments=(Segment(memsz=1 << 40),)), "needs 0x10000000000 bytes, there are 0x1000000"),
    "beyond RAM": (Elf(segments=(Segment(paddr=0xFFFFF0),)), "at 0xfffff0..0x100000f does not fit"),
    "reserved": (Elf(segments=(Segment(paddr=0xB8000),)), "covers video memory and BIOS at 0xa0000..0xfffff"),
    "entry": (Elf(entry=0x100020), "inside a loadable segment (0x100000..0x10001f), found 0x100020"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_refused(why: str) -> None:
    elf, sentence = REFUSED[why]
    with pytest.raises(ImageError) as refused:
        boot(elf)
    assert str(refused.value).startswith("k.elf: ")
    assert sentence in str(refused.value)


def test_truncated_header_is_refused_at_every_length() -> None:
    data = Elf().build()
    for length in range(4, len(data) - 1):
        with pytest.raises(ImageError):
            load(LoadRequest("k.elf", data[:length]), FACTS)


def test_class_must_match_an_explicit_format() -> None:
    with pytest.raises(ImageError, match="expected a 32-bit ELF file, found a 64-bit one"):
        boot(Elf(), format="elf32")


def test_ram_above_4_gib_is_used_but_not_for_the_entry() -> None:
    facts = BoardFacts(4 << 30)
    high = Segment(paddr=1 << 32)
    boot(Elf(segments=(Segment(), high)), facts)
    with pytest.raises(ImageError, match="below 4 GiB, found 0x100000000"):
        boot(Elf(entry=1 << 32, segments=(high,)), facts)


def test_the_hole_below_4_gib_is_no_ram() -> None:
    with pytest.raises(ImageError, match=r"\.\.0xbfffffff, 0x100000000\.\."):
        boot(Elf(entry=0xC0000000, segments=(Segment(paddr=0xC0000000),)), BoardFacts(4 << 30))


def test_no_room_for_the_loaders_tables() -> None:
    with pytest.raises(ImageError, match=r"page tables needs 0x6000 bytes of guest RAM"):
        boot(Elf(entry=0, segments=(Segment(paddr=0, data=bytes(0x9000)),)), BoardFacts(0xA000))


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (LoadRequest("k.elf", Elf().build(), cmdline="quiet"), "a command line"),
        (LoadRequest("k.elf", Elf().build(), modules=(("m", b"x"),)), "modules"),
        (LoadRequest("k.elf", Elf().build(), load_address=0), "a load address"),
    ],
)
def test_options_without_a_place_are_refused_and_not_dropped(request_: LoadRequest, what: str) -> None:
    with pytest.raises(UsageError, match=f"format elf64 cannot take {what}"):
        load(request_, FACTS)
