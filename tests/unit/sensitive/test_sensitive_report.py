"""Words for what was seen, sentences that follow, the table and the JSON form: from values of our choice."""

import json

import pytest

from minihv.sensitive.conclusions import conclusions
from minihv.sensitive.guest import parse
from minihv.sensitive.instructions import INSTRUCTIONS
from minihv.sensitive.model import NATIVE, SCHEMA, Seen, SensitiveReport, Subject
from minihv.sensitive.native import subject
from minihv.sensitive.table import sensitive_table
from minihv.sensitive.words import READERS, REFUSED, seen_words

KERNEL = {
    "sgdt": 0x101000, "sidt": 0x107000, "sldt": 0, "smsw": 0x33, "pushf": 2, "popf": 0x200, "lar": 0xAF9B00,
    "lsl": 0xFFFFFFFF, "verr": 1, "verw": 1, "pop": 0x10, "push": 0, "call": 8, "jmp": 8, "int": 8, "ret": 8,
    "str": 0x28, "mov": 8, "iret": 0x200,
}  # fmt: skip
USER = {
    **KERNEL, "popf": 0, "iret": 0, "lar": REFUSED, "lsl": REFUSED, "verr": 0, "verw": 0, "push": 0x1B,
    "call": 0x23, "jmp": 0x23, "int": 0x23, "mov": 0x23,
}  # fmt: skip


def seen(values: dict[str, int], **trapped: int) -> dict[str, Seen]:
    found = {name: Seen(value, None) for name, value in values.items()}
    return {**found, **{name: Seen(0, vector) for name, vector in trapped.items()}}


def kernel(where: str = "one", **changes: int) -> Subject:
    return Subject(where, 0, seen({**KERNEL, **changes}))


def user(where: str = "one", **changes: int) -> Subject:
    return Subject(where, 3, seen({**USER, **changes}, pop=13, ret=13))


def told(*subjects: Subject) -> str:
    return "\n".join(conclusions(SensitiveReport({}, subjects, {})))


def test_the_list() -> None:
    assert [i.name for i in INSTRUCTIONS] == list(KERNEL)
    assert sum(i.original for i in INSTRUCTIONS) == 18
    assert {i.kind for i in INSTRUCTIONS} <= set(READERS)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("address", 0x101130, "0x101130"), ("address", 0xFFFFFFFFFFFE0000, "0xfffffffffffe0000 made up"),
        ("selector", 0x33, "0x33, RPL 3"), ("flags", 0x246, "0x246, IF 1"),
        ("interrupts", 0x200, "IF flipped"), ("interrupts", 0, "IF kept"),
        ("rights", REFUSED, "refused by ZF"), ("rights", 0xAF9B00, "0xaf9b00"),
        ("allowed", 1, "yes"), ("allowed", 0, "no, by ZF"), ("number", 0x33, "0x33"),
    ],
)  # fmt: skip
def test_values_in_words(kind: str, value: int, words: str) -> None:
    assert seen_words(kind, Seen(value, None), False) == words


def test_traps_in_words() -> None:
    assert seen_words("selector", Seen(0, 13), True) == "trap #GP"
    assert seen_words("selector", Seen(0, 9), True) == "trap vector 9"
    assert seen_words("interrupt", Seen(4711, None), True) == "the host answered"


def test_what_does_not_trap_is_counted() -> None:
    text = told(user(NATIVE))
    assert "17 of 19 did something else" in text
    assert "Trapped: pop (#GP), ret (#GP)." in text


@pytest.mark.parametrize(
    ("sgdt", "sentence"),
    [
        (Seen(0xFFFFFFFFFFFE0000, None), "Linux answered with values of its own making"),
        (Seen(0xFFFFFE0000001000, None), "UMIP is off: sgdt at ring 3 told where this kernel's GDT is"),
        (Seen(0, 13), "UMIP is on: sgdt traps at ring 3"),
    ],
)
def test_umip_follows_from_sgdt(sgdt: Seen, sentence: str) -> None:
    assert sentence in told(Subject(NATIVE, 3, {"sgdt": sgdt}))


def test_a_kernel_that_is_fooled_and_one_that_is_not() -> None:
    assert "On one a guest's kernel in ring 0 sees what a kernel expects" in told(kernel())
    for fooled in (kernel(mov=0x33), kernel(popf=0), kernel(verw=0)):
        assert "On one a guest's kernel can tell that it is not in ring 0" in told(fooled)


def test_the_host_shows_through() -> None:
    native = user(NATIVE, mov=0x33, pushf=0x246)
    text = told(native, kernel(), user(mov=0x33, pushf=0x202), kernel("two"), user("two"))
    assert "On one the guest's ring 3 finds 0x33 in CS, the host's selector" in text
    assert "On one pushf in ring 3 shows IF 1" in text
    assert "On two the guest's ring 3" not in text
    assert "On one and two popf in the guest's ring 3 kept the interrupt flag" in text


def test_help_exits_and_reasons() -> None:
    helped = kernel()._replace(helped=("int 0x80",), exits=3)
    text = told(helped, Subject("two", 0, {}, "the guest did not finish"))
    assert "minihv's interpreter had to execute int 0x80" in text
    assert "On one they left the guest for minihv 3 times" in text
    assert "two ring 0: the guest did not finish." in text


def test_table_has_a_line_for_each_and_a_column_for_everybody() -> None:
    text = sensitive_table(SensitiveReport({"kvm_words": "a strange one"}, (user(NATIVE), kernel()), {}))
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("instruction "))
    assert lines[start].split("  ")[-1].strip() == "one ring 0"
    assert [line.split()[0] for line in lines[start + 2 : start + 2 + len(INSTRUCTIONS)]] == [
        i.shown.split()[0] for i in INSTRUCTIONS
    ]
    assert "This KVM is a strange one." in text


def test_json_form() -> None:
    data = json.loads(json.dumps(SensitiveReport({}, (user(NATIVE), kernel()), {}).to_dict()))
    assert data["schema"] == SCHEMA
    by_name = {row["name"]: row for row in data["instructions"]}
    assert by_name["pop"]["seen"]["native ring 3"] == {"value": 0, "vector": 13, "words": "trap #GP"}
    assert by_name["mov"]["seen"]["one ring 0"]["words"] == "0x08, RPL 0"
    assert data["conclusions"]


def test_lines_of_the_guest() -> None:
    found = parse("sgdt 0 - 0x10\nsgdt 3 13 0x0\nsomething else\nmov 1 - 0x1\nmov 0")
    assert found == {0: {"sgdt": Seen(16, None)}, 3: {"sgdt": Seen(0, 13)}}


def test_lines_of_the_process() -> None:
    assert subject("sgdt - 16\npop 13 0\n", 0).seen == {"sgdt": Seen(16, None), "pop": Seen(0, 13)}
    assert subject("sgdt - 16\n", -11).why == "the process was ended by SIGSEGV after sgdt"
    assert subject("", 1).why == "the process ended with status 1"
    assert "Operation not permitted" in subject("! - Operation not permitted\n", 0).why
