"""Which instructions a hypervisor cares about, and why."""

import pytest

from minihv.x86.sensitive import IO_SENSITIVE, PRIVILEGED, TRAPPED, UNPRIVILEGED, mark


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hlt", PRIVILEGED), ("mov cr3, rax", PRIVILEGED), ("mov rax, dr7", PRIVILEGED),
        ("wrmsr", PRIVILEGED),
        ("out dx, al", IO_SENSITIVE), ("rep insb [rdi], dx", IO_SENSITIVE), ("cli", IO_SENSITIVE),
        ("sgdt [rax]", UNPRIVILEGED), ("pushfq", UNPRIVILEGED), ("popf", UNPRIVILEGED),
        ("iretq", UNPRIVILEGED),
        ("mov ds, eax", UNPRIVILEGED), ("push fs", UNPRIVILEGED), ("call far [rax]", UNPRIVILEGED),
        ("jmp 0x8:0x1000", UNPRIVILEGED), ("int 0x80", UNPRIVILEGED), ("retf", UNPRIVILEGED),
        ("cpuid", TRAPPED), ("rdtsc", TRAPPED),
    ],
)  # fmt: skip
def test_marked(text: str, kind: str) -> None:
    found = mark(text)
    assert found is not None
    assert found.kind == kind
    assert str(found).startswith(f"{kind}: ")
    assert "Vol. " in found.source


@pytest.mark.parametrize(
    "text",
    ["add eax, ebx", "mov rax, [rbx]", "mov ax, ds:[0x10]", "call rax", "call fs:[0x28]", "jmp", "ret",
     "inc eax", "push rax", "01 02 (no valid instruction)", ""],
)  # fmt: skip
def test_not_marked(text: str) -> None:
    assert mark(text) is None


def test_robin_and_irvines_seventeen_are_all_there() -> None:
    seventeen = (
        "sgdt [rax]", "sidt [rax]", "sldt ax", "smsw ax", "pushfq", "popfq", "lar eax, ebx", "lsl eax, ebx",
        "verr ax", "verw ax", "pop ds", "push cs", "call far [rax]", "jmp far [rax]", "int 3", "retf",
        "str ax", "mov eax, cs",
    )  # fmt: skip
    for text in seventeen:
        found = mark(text)
        assert found is not None, text
        assert found.kind == UNPRIVILEGED
