"""What the engine makes of the host: which KVM it is, what an errno means, what CPUID becomes."""

import errno
import os
from pathlib import Path

import pytest

from minihv.engine.kvm import abi
from minihv.engine.kvm import kernel as kernel_module
from minihv.engine.kvm.cpuid import CPUID_CHANGES, CpuidEntry, guest_cpuid
from minihv.engine.kvm.engine import probe
from minihv.engine.kvm.kernel import Kernel, ioctl_name, kvm_error
from minihv.engine.kvm.kind import KIND_WORDS, kvm_kind
from minihv.engine.kvm.statsfd import StatsFd
from minihv.engine.kvm.system import Kvm
from minihv.errors import HostError, KvmError
from minihv.host.cpu import CpuInfo, read_cpu

# Kind


@pytest.mark.parametrize(
    ("flags", "folders", "kind"),
    [
        ("vmx ept", ["kvm_intel"], "vt-x"),
        ("svm npt", ["kvm_amd"], "amd-v"),
        ("vmx", [], "vt-x"),
        ("svm", ["kvm_intel", "kvm_amd"], "amd-v"),  # a kernel with both built in
        ("vmx hypervisor", ["kvm_intel"], "nested vt-x"),
        ("svm hypervisor", ["kvm_amd"], "nested amd-v"),
        ("hypervisor", ["kvm_pvm"], "pvm"),
        ("vmx", ["kvm_pvm"], "pvm"),
        ("", ["kvm_intel"], "vt-x"),
        ("hypervisor", ["kvm_amd"], "nested amd-v"),
        ("fpu", [], "unknown"),
        ("hypervisor", ["kvm"], "unknown"),
    ],
)
def test_kind(flags: str, folders: list[str], kind: str, tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    assert kvm_kind(CpuInfo("v", "m", frozenset(flags.split())), str(tmp_path)) == kind
    assert kind in KIND_WORDS


def test_cpuinfo_of_the_first_processor(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: the one\nflags\t\t: fpu vmx\n\n"
        "processor\t: 1\nvendor_id\t: Other\nflags\t\t: svm\n"
    )
    assert read_cpu(str(path)) == CpuInfo("GenuineIntel", "Xeon: the one", frozenset(("fpu", "vmx")))


def test_cpuinfo_that_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_cpu(str(tmp_path / "empty")) == CpuInfo("", "", frozenset())
    assert read_cpu(str(tmp_path / "missing")) == CpuInfo("", "", frozenset())


# Errors


def test_ioctls_have_the_names_of_the_api_document() -> None:
    assert ioctl_name(abi.GET_API_VERSION) == "KVM_GET_API_VERSION"
    assert ioctl_name(abi.CREATE_VM) == "KVM_CREATE_VM"
    assert ioctl_name(abi.SET_USER_MEMORY_REGION) == "KVM_SET_USER_MEMORY_REGION"
    assert ioctl_name(0xAEFF) == "ioctl 0xaeff"
    assert ioctl_name(12) == "ioctl 0xc"  # not KVM_API_VERSION


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "modprobe kvm_intel or kvm_amd"), (errno.EPERM, "run as root"),
        (errno.EBUSY, "another hypervisor"), (errno.ENODEV, "enable it in the firmware"),
        (errno.ENOMEM, "give the guest less (-m)"), (errno.EINVAL, "minihv doctor"),
        (errno.ENOTTY, "does not have it"), (errno.EMFILE, "ulimit -n"), (errno.EIO, "minihv doctor"),
    ],
)  # fmt: skip
def test_an_errno_becomes_one_sentence_with_advice(number: int, advice: str) -> None:
    error = kvm_error("KVM_CREATE_VM", number)
    assert isinstance(error, HostError)
    assert (error.ioctl, error.errno, error.exit_status) == ("KVM_CREATE_VM", number, 240)
    text = str(error)
    assert text.startswith(f"KVM_CREATE_VM on /dev/kvm failed: {os.strerror(number)} (errno {number}); ")
    assert advice in text
    assert "\n" not in text


def test_no_permission_names_the_group_of_the_device(tmp_path: Path) -> None:
    import grp

    device = tmp_path / "kvm"
    device.touch()
    group = grp.getgrgid(device.stat().st_gid).gr_name
    assert f"the group that owns it ({group})" in str(kvm_error("open", errno.EACCES, str(device)))


def test_a_group_without_a_name_is_told_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    def unknown(gid: int) -> None:
        raise KeyError(gid)

    monkeypatch.setattr(grp, "getgrgid", unknown)
    gid = tmp_path.stat().st_gid
    assert f"({gid})" in str(kvm_error("open", errno.EACCES, str(tmp_path)))


def test_no_permission_behind_a_closed_folder_is_still_a_sentence(tmp_path: Path) -> None:
    text = str(kvm_error("open", errno.EACCES, str(tmp_path / "missing" / "kvm")))
    assert "cannot be opened: Permission denied" in text


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "kvm")
    with pytest.raises(KvmError) as caught:
        Kvm(path)
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value).startswith(f"{path} cannot be opened: No such file or directory (errno 2); load")
    assert probe(path) == str(caught.value)


def test_a_file_that_is_no_kvm_device(tmp_path: Path, no_leaks: None) -> None:
    path = tmp_path / "kvm"
    path.touch()
    with pytest.raises(HostError, match=rf"{path} is no KVM device; expected /dev/kvm"):
        Kvm(str(path))
    assert "is no KVM device" in str(probe(str(path)))


def test_no_permission_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """root may open everything, so the refusal is made up."""

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KvmError, match="add yourself to the group that owns it"):
        Kvm("/dev/kvm")


def test_an_ioctl_that_fails_raises_or_answers_the_errno() -> None:
    kernel = Kernel("/some/device")
    with pytest.raises(KvmError, match=r"KVM_CREATE_VM on /some/device failed: Bad file descriptor"):
        kernel.ioctl(-1, abi.CREATE_VM, 0)
    assert kernel.try_ioctl(-1, abi.CREATE_VM, 0) == -errno.EBADF


def test_an_interrupted_ioctl_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ffi:
        errno = errno.EINTR

        @staticmethod
        def cast(kind: str, value: int) -> int:
            return value

    answers = [-1, -1, 42]
    kernel = Kernel()
    monkeypatch.setattr(kernel_module, "ffi", Ffi)
    monkeypatch.setattr(kernel, "_ioctl", lambda fd, request, argument: answers.pop(0))
    assert kernel.ioctl(3, abi.CREATE_VM, 0) == 42


# CPUID

HOST = [
    CpuidEntry(0, 0, 0, 0x1F, 0x756E6547, 0, 0),
    CpuidEntry(1, 0, 0, 0xA0F11, 0x55200855, 0x81202000, 0x178BFBFF),
    CpuidEntry(4, 0, 1, 0xFC1C0121, 1, 2, 3),
    CpuidEntry(4, 1, 1, 0, 0, 0, 0),
    CpuidEntry(0xB, 0, 1, 1, 2, 0x100, 77),
    CpuidEntry(0xB, 1, 1, 7, 128, 0x201, 77),
    CpuidEntry(0x1F, 0, 1, 0, 0, 0, 0),
    CpuidEntry(0x80000008, 0, 0, 0x3030, 5, 0x703F, 9),
    CpuidEntry(0x8000001E, 0, 0, 77, 0x123, 4, 5),
]


def leaf(entries: list[CpuidEntry], function: int, index: int = 0) -> CpuidEntry:
    [found] = (e for e in entries if (e.function, e.index) == (function, index))
    return found


def test_cpuid_of_the_third_of_five_cpus() -> None:
    before = [repr(e) for e in HOST]
    guest = guest_cpuid(HOST, 2, 5, True)
    assert [repr(e) for e in HOST] == before, "the host's table is not touched"
    assert leaf(guest, 0) == HOST[0]
    one = leaf(guest, 1)
    assert one.ebx == 0x02050855
    assert one.ecx == 0x81202000 | 1 << 31 | 1 << 24
    assert one.edx & 1 << 28
    assert leaf(guest, 4).eax == 0x001C0121 | 4 << 26
    assert leaf(guest, 4, 1).eax == 0, "the end of the cache list stays"
    for function in (0xB, 0x1F):
        levels = [leaf(guest, function, index) for index in range(3)]
        assert [(e.eax, e.ebx, e.ecx, e.edx) for e in levels] == [
            (0, 1, 0x100, 2),
            (3, 5, 0x201, 2),
            (0, 0, 2, 2),
        ]
        assert all(e.flags == 1 for e in levels)
    assert leaf(guest, 0x80000008).ecx == 0x3004
    assert (leaf(guest, 0x8000001E).eax, leaf(guest, 0x8000001E).ebx) == (2, 2)


def test_cpuid_of_a_machine_with_one_cpu_and_no_lapic() -> None:
    one = leaf(guest_cpuid(HOST, 0, 1, False), 1)
    assert not one.ecx & 1 << 24, "no TSC deadline"
    assert not one.ecx & 1 << 21, "no x2APIC"
    assert one.edx & 1 << 9, "the board has a model of the APIC"
    assert not one.edx & 1 << 28, "no siblings"
    assert one.ebx >> 16 == 1


def test_255_cpus_fit() -> None:
    guest = guest_cpuid(HOST, 254, 255, True)
    assert leaf(guest, 1).ebx >> 16 == 0xFEFF
    assert leaf(guest, 4).eax >> 26 == 63
    assert leaf(guest, 0xB, 1).eax == 8
    assert leaf(guest, 0x80000008).ecx & 0xFF == 254


def test_every_change_is_in_the_visible_list() -> None:
    told = " ".join(where for where, _, _ in CPUID_CHANGES)
    guest = guest_cpuid(HOST, 2, 5, False)
    changed = {e.function for e in guest if repr(e) not in map(repr, HOST)}
    assert changed == {1, 4, 0xB, 0x1F, 0x80000008, 0x8000001E}
    for function in changed:
        assert f"{function:#x}".lower().replace("0x", "") in told.lower()


# The kernel's statistics file


def stats_file(path: Path, *rows: tuple[str, int, int, list[int]]) -> int:
    """A file like KVM_GET_STATS_FD's: (name, type, elements, values)."""
    import struct

    name_size, header = 16, 24
    step = 16 + name_size
    data_offset = header + step * len(rows)
    table, data = b"", b""
    for name, kind, size, values in rows:
        table += struct.pack("<IhHII", kind, 0, size, len(data), 0) + name.encode().ljust(name_size, b"\0")
        data += b"".join(value.to_bytes(8, "little") for value in values)
    path.write_bytes(struct.pack("<6I", 0, name_size, len(rows), 0, header, data_offset) + table + data)
    return os.open(path, os.O_RDONLY)


def test_growing_counters_are_read_and_states_are_asked_for(tmp_path: Path) -> None:
    fd = stats_file(
        tmp_path / "s",
        ("exits", 0, 1, [12]),
        ("histogram", 3, 2, [1, 2]),
        ("blocking", 1, 1, [1]),
        ("io", 0, 1, [7]),
    )
    stats = StatsFd(fd)
    assert stats.read() == {"exits": 12, "io": 7}
    assert stats.value("blocking") == 1
    assert stats.value("io") == 7
    assert stats.value("nonsense") is None
    stats.close()
    stats.close()


def test_a_file_without_counters_is_no_problem(tmp_path: Path) -> None:
    stats = StatsFd(stats_file(tmp_path / "s"))
    assert stats.read() == {}
    stats.close()


def test_a_broken_statistics_file_is_closed_again(tmp_path: Path, no_leaks: None) -> None:
    (tmp_path / "s").write_bytes(b"short")
    with pytest.raises(Exception, match="unpack"):
        StatsFd(os.open(tmp_path / "s", os.O_RDONLY))
