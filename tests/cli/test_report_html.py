"""`minihv report`: the pages it writes, and how they look in a browser at three widths and in two themes."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from browser import browse, chromium, probe
from cli_support import CANNOT_START, SCRIPT, USAGE, Typed, assert_one_sentence

WIDTHS = (390, 820, 1440)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory, engine: str) -> dict[str, str]:
    """Kind -> JSON, as the commands write it; sessions run them once."""
    from minihv.cli.main import run

    folder = tmp_path_factory.mktemp("documents")
    files = {kind: folder / f"{kind}.json" for kind in ("run", "crash", "compare", "nano")}
    common = ["--engine", engine, "--serial", "null", "--stats-json"]
    assert run(["run", "smp", "-c", "2", "--kernel-exits", *common, str(files["run"])]) == 0
    assert run(["run", "triple", *common, str(files["crash"])]) == 242
    nano = [
        "nano",
        "--engines",
        engine,
        "--rounds",
        "3",
        "--goal-ms",
        "0.01",
        "--only",
        "in",
        "--only",
        "cpuid",
    ]
    assert run([*nano, "--json", str(files["nano"])]) == 0
    with files["compare"].open("w") as file:
        subprocess.run(
            [str(SCRIPT), "compare", "hello", "--engines", engine, "--json"], stdout=file, check=True
        )
    return {kind: file.read_text() for kind, file in files.items()}


@pytest.fixture
def pages(documents: dict[str, str], tmp_path: Path, typed: Typed) -> dict[str, str]:
    """Kind -> the page that the command wrote."""
    made = {}
    for kind, text in documents.items():
        (tmp_path / f"{kind}.json").write_text(text)
        done = typed("report", tmp_path / f"{kind}.json", "-o", tmp_path / f"{kind}.html")
        assert (done.status, done.out) == (0, "")
        made[kind] = (tmp_path / f"{kind}.html").read_text(encoding="utf-8")
    return made


def test_every_document_has_a_page(pages: dict[str, str]) -> None:
    assert "smp on" in pages["run"]
    assert "minihv run smp -c 2 --kernel-exits" in pages["run"], "the command that gives it again"
    assert "exits per second" in pages["run"]
    assert "Autopsy" in pages["crash"]
    assert "triple-fault" in pages["crash"]
    assert "hello: the same guest on" in pages["compare"]
    assert "cycles an operation" in pages["nano"]


def test_the_page_goes_beside_the_report_unless_told_otherwise(
    documents: dict[str, str], tmp_path: Path, typed: Typed
) -> None:
    (tmp_path / "a.json").write_text(documents["run"])
    done = typed("report", tmp_path / "a.json")
    assert done.err == f"minihv: wrote {tmp_path / 'a.html'}\n"
    done = typed("report", tmp_path / "a.json", "-o", "-")
    assert done.out == (tmp_path / "a.html").read_text(encoding="utf-8")
    assert done.err == ""


def test_what_is_no_document_is_refused(documents: dict[str, str], tmp_path: Path, typed: Typed) -> None:
    bad = tmp_path / "bad.json"
    for content, tells in (
        (b"", "an empty file"),
        (documents["run"][:2000].encode(), "breaks off"),
        (b"\xff\xfe{}", "found byte 0xff at offset 0"),
        (b'{"schema": "minihv.report/9"}', "found version 9"),
        (b'{"traceEvents": []}', "without a schema"),
    ):
        bad.write_bytes(content)
        assert_one_sentence(typed("report", bad), USAGE, (str(bad), "expected", tells))
        assert_one_sentence(typed("stats", bad), USAGE, (str(bad), "expected", tells))
    assert_one_sentence(typed("report", tmp_path / "none.json"), USAGE, ("cannot be read",))
    assert_one_sentence(typed("report", tmp_path), USAGE, ("cannot be read",))
    good = tmp_path / "good.json"
    good.write_text(documents["run"])
    done = typed("report", good, "-o", tmp_path / "no" / "such.html")
    assert_one_sentence(done, CANNOT_START, ("cannot be written",))


# In a browser


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_or_overlaps(
    pages: dict[str, str], width: int, dark: bool, tmp_path: Path
) -> None:
    chromium()
    for kind, page in pages.items():
        told = probe(page, tmp_path, width, dark)
        assert told["width"] == width
        assert (kind, told["scroll"], told["wide"]) == (kind, width, [])
        assert told["texts"] > 3, "a chart is shown"
        assert (kind, told["overlaps"]) == (kind, [])
        assert (kind, told["stacked"]) == (kind, [])
        assert (kind, told["small"]) == (kind, []), "letters of less than 11 pixels"
        assert told["loaded"] == [], "nothing is fetched"
        assert brightness(told["paper"]) > 200 if not dark else brightness(told["paper"]) < 60
        assert abs(brightness(told["paper"]) - brightness(told["ink"])) > 140, "ink on paper can be read"


def brightness(colour: str) -> float:
    """0 to 255, of a CSS rgb()."""
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.slow
def test_a_hostile_page_runs_nothing(pages: dict[str, str], tmp_path: Path) -> None:
    """Even with the policy taken out, what a guest named does not run in a browser."""
    chromium()
    evil = "<img src=x onerror=\"document.body.id='owned'\"><script>document.body.id='owned'</script>"
    from minihv.report.html.documents import document_page

    report = json.loads((tmp_path / "run.json").read_text())
    report["guest"]["name"] = report["command"] = report["exits"][0]["register"] = evil
    report["exits"][0]["sites"][0]["symbol"] = evil
    file = tmp_path / "evil.html"
    file.write_text(document_page(json.dumps(report), "evil").replace("Content-Security-Policy", "X-None"))
    dom = browse(tmp_path, "--dump-dom", file.as_uri())
    assert "owned" in dom, "it is shown"
    assert 'id="owned"' not in dom, "and not obeyed"


@pytest.mark.slow
def test_a_page_prints(pages: dict[str, str], tmp_path: Path) -> None:
    chromium()
    (tmp_path / "run.html").write_text(pages["run"], encoding="utf-8")
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'run.pdf'}", (tmp_path / "run.html").as_uri())
    pdf = (tmp_path / "run.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
