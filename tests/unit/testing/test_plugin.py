"""The pytest plugin, tried as a hobby kernel's tests would use it."""

import re
from pathlib import Path

import pytest

from minihv.engine.select import ENGINES, survey
from minihv.testing.vm import Vm

pytest_plugins = "pytester"

WORKING = [name for name, why in survey().items() if why is None]
pytestmark = pytest.mark.skipif(not WORKING, reason=f"no engine works here: {survey()}")


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """A run inside this process forgets the modules that it was the first to import: that is slow, and
    iced-x86 cannot be loaded a second time. So everything is imported before."""
    for name in WORKING:
        Vm(name).run("triple").describe()
        Vm(name).run("spin", timeout=0.01)


GOOD = """
    def test_hello(vm):
        result = vm.run("hello")
        result.assert_outcome("exit", 0).assert_console("Hello from long mode!\\n")
        result.assert_exits(io=23, mmio=0).assert_budget("io=23,mmio=0")
        assert result.exits.where(register="serial.THR").total == 22
        assert result.engine == vm.engine
"""
ASSEMBLED = """
    import pytest

    @pytest.mark.parametrize("bits", [16, 32, 64])
    def test_code(vm, bits):
        code = vm.asm("mov al, 7; mov dx, 0xf8; out dx, al", bits)
        vm.run(code).assert_outcome("exit", 7)
"""


def run(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(text)
    return pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-rs", *arguments
    )


def test_a_test_runs_on_every_engine_that_works(pytester: pytest.Pytester) -> None:
    result = run(pytester, GOOD, "-v")
    result.assert_outcomes(passed=len(WORKING))
    for name in WORKING:
        result.stdout.fnmatch_lines([f"*test_hello?{name}?*PASSED*"])


def test_engines_can_be_chosen(pytester: pytest.Pytester) -> None:
    run(pytester, GOOD, "--minihv-engines", WORKING[-1]).assert_outcomes(passed=1)


def test_an_unknown_engine_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, GOOD, "--minihv-engines", "abacus")
    assert result.ret != 0
    result.stdout.fnmatch_lines(
        [f"*--minihv-engines: expected engines of {', '.join(ENGINES)}, found 'abacus'*"]
    )


def test_a_marker_chooses_for_one_test(pytester: pytest.Pytester) -> None:
    text = f"""
        import pytest

        @pytest.mark.minihv_engines("{WORKING[-1]}")
        def test_it(vm):
            assert vm.engine == "{WORKING[-1]}"
    """
    run(pytester, text, "--strict-markers").assert_outcomes(passed=1)


def test_what_cannot_work_is_skipped_with_its_reason(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minihv.engine import select

    nothing = {"kvm": "no such device", "interpret": "no decoder"}
    monkeypatch.setattr(select, "survey", lambda: nothing)
    result = run(pytester, GOOD)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*kvm: no such device; interpret: no decoder*"])
    result = run(pytester, GOOD, "--minihv-engines", "kvm")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*engine kvm cannot work here: no such device*"])


@pytest.mark.parametrize(
    ("assertion", "words"),
    [
        ('assert_outcome("exit", 3)', "expected outcome exit with status 3, found exit with status 0"),
        ('assert_console("Hello from long node!\\n")', "the console differs at line 1, column 17:"),
        ('assert_prints("long", "Hello")', "expected b'Hello' on the console after byte"),
        ("assert_exits(io=22)", "expected 22 io exits, found 23"),
        ('assert_budget("io=20")', "budget io=20 is broken: 23 io exits"),
        ('assert_console(__import__("re").compile("Bye.*"))', "expected a console that matches 'Bye.*'"),
    ],
)
def test_a_failed_assertion_explains_itself(pytester: pytest.Pytester, assertion: str, words: str) -> None:
    engine = WORKING[-1]
    result = run(pytester, f"def test_it(vm):\n    vm.run('hello').{assertion}\n", "--minihv-engines", engine)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert f"on {engine}: " in text
    assert words in text
    assert f"minihv run 1 on {engine}" in text
    assert "Hello from long mode!" in text
    assert "VM-EXIT" in text


def test_a_crash_shows_the_autopsy(pytester: pytest.Pytester) -> None:
    text = "def test_it(vm):\n    vm.run('triple').assert_outcome()\n"
    result = run(pytester, text, "--minihv-engines", WORKING[-1])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*found triple-fault with status 242*", "*Last exits, oldest first:*"])


def test_a_guest_that_hangs_shows_where(pytester: pytest.Pytester) -> None:
    text = "def test_it(vm):\n    vm.run('spin', timeout=0.1).assert_outcome()\n"
    result = run(pytester, text, "--minihv-engines", ",".join(WORKING))
    result.assert_outcomes(failed=len(WORKING))
    result.stdout.fnmatch_lines(["*found timeout with status 244*", "*vCPU 0 when it was ended*", "*RIP 0*"])


def test_a_good_test_shows_nothing(pytester: pytest.Pytester) -> None:
    assert "minihv run 1" not in run(pytester, GOOD).stdout.str()


def test_input_is_typed(pytester: pytest.Pytester) -> None:
    text = """
        def test_it(vm):
            code = b"\\x66\\xba\\xf8\\x03\\xec\\x66\\xba\\xf8\\x00\\xee"  # in al, COM1; out exit, al
            vm.run(code, input="A", format="flat64").assert_outcome("exit", 65)
    """
    run(pytester, text).assert_outcomes(passed=len(WORKING))


def test_assembled_code(pytester: pytest.Pytester) -> None:
    from minihv.testing.assemble import why_no_assembler

    if (reason := why_no_assembler()) is not None:
        pytest.skip(reason)
    run(pytester, ASSEMBLED).assert_outcomes(passed=3 * len(WORKING))


def test_without_an_assembler_tests_are_skipped_with_a_way_out(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minihv.testing import assemble

    monkeypatch.setattr(assemble, "_keystone", lambda: None)
    monkeypatch.setattr(assemble, "_missing_tools", lambda: ["as"])
    result = run(pytester, ASSEMBLED)
    result.assert_outcomes(skipped=3 * len(WORKING))
    result.stdout.fnmatch_lines(["*no assembler: keystone is not installed, nor are as; pip install*"])


def test_tests_without_vm_are_left_alone(pytester: pytest.Pytester) -> None:
    run(pytester, "def test_it():\n    pass\n").assert_outcomes(passed=1)


def test_the_readmes_example(pytester: pytest.Pytester) -> None:
    from minihv.testing.assemble import why_no_assembler

    if (reason := why_no_assembler()) is not None:
        pytest.skip(reason)
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    run(pytester, example).assert_outcomes(passed=2 * len(WORKING))
