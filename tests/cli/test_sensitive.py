"""`minihv sensitive`: what every processor does at ring 3, and what a kernel on every engine must see."""

import json
import platform
from pathlib import Path

import pytest
from cli_support import USAGE, Typed, assert_one_sentence, works

from minihv.sensitive.instructions import INSTRUCTIONS


def test_everything(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "seen.json"
    done = typed("sensitive", "--json", file)
    assert (done.status, done.err) == (0, "")
    data = json.loads(file.read_text())
    assert [row["name"] for row in data["instructions"]] == [i.name for i in INSTRUCTIONS]
    assert all(line in done.out.replace("\n  ", " ") for line in data["conclusions"])
    seen = {row["name"]: row["seen"] for row in data["instructions"]}
    assert not [subject["why"] for subject in data["subjects"] if subject["why"]]
    for engine in ("kvm", "interpret"):
        if works(engine):
            ring0 = {name: by[f"{engine} ring 0"] for name, by in seen.items()}
            assert ring0["popf"]["words"] == "IF flipped"
            assert ring0["mov"]["words"] == "0x08, RPL 0"
            assert all(one["vector"] is None for one in ring0.values())
            assert seen["popf"][f"{engine} ring 3"]["words"] == "IF kept"
            assert seen["ret"][f"{engine} ring 3"]["words"] == "trap #GP"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions are x86-64 ones")
def test_natively_alone(typed: Typed) -> None:
    done = typed("sensitive", "--engines", "interpret", "--json", "-")
    native = {row["name"]: row["seen"]["native ring 3"] for row in json.loads(done.out)["instructions"]}
    assert native["popf"] == {"value": 0, "vector": None, "words": "IF kept"}
    assert native["mov"]["value"] & 3 == 3
    assert native["call"]["value"] & 3 == 3
    assert native["lar"]["words"] == "refused by ZF"
    assert native["pop"]["words"] == "trap #GP"


def test_an_engine_that_is_none(typed: Typed) -> None:
    assert_one_sentence(
        typed("sensitive", "--engines", "bochs"), USAGE, ("expected engines of kvm", "'bochs'")
    )


def test_without_native(typed: Typed) -> None:
    done = typed("sensitive", "--no-native", "--engines", "interpret")
    assert "native" not in done.out.split("Why trap-and-emulate")[0]
