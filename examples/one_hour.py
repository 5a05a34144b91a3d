# %% [markdown]
# # Hardware, translation, emulation: one hour in class
#
# How does one computer run inside another? Three answers, held side by side: let the processor do it (a
# bare-metal hypervisor), translate the guest's code (binary translation), imitate the processor (emulation).
#
# Every cell is plain Python. Run the file as a script, or cell by cell in an editor that knows `# %%`
# (VS Code, Spyder, jupytext). Nothing in here names an engine: the cells use all that work on this host, so
# that an engine more is a column more. Numbers are true for this machine only: write its name beside them.

# %% [markdown]
# ## 1. What is under our feet? (5 minutes)
#
# `/dev/kvm` is not the same everywhere: VT-x, AMD-V, either of them nested, or PVM, which is no hardware
# virtualization at all. Question: which one has your machine, and what do you expect from it?

# %%
# ruff: noqa: E402  (a cell imports what it uses)
from minihv.engine.select import survey

engines = survey()
for name, reason in engines.items():
    print(f"{name}: {'works here' if reason is None else reason}")
working = [name for name, reason in engines.items() if reason is None]
assert working, "no engine works here: `minihv doctor` tells why"

# %% [markdown]
# ## 2. One instruction (10 minutes)
#
# The guest `add` computes 1 + 2 and prints it. Before you run the cell, guess: for which of its instructions
# must somebody be asked?

# %%
from minihv.machine.explain import explain
from minihv.report.explanation import explanation_text

told = explain("add")
print(explanation_text(told))
assert told.instructions[0].text == "add eax, ebx"
assert all(not paths for account in told.accounts for paths in account.exits), "an addition asks nobody"

# %% [markdown]
# The addition needed nobody. The `out` behind it did: it touches something outside of the guest. That is the
# whole subject: *most instructions concern only the guest; what happens at the others?*

# %%
told = explain("add", at="the_out")
print(explanation_text(told))
for account in told.accounts:
    [[path]] = account.exits
    print(f"{account.engine}: {path.detail} {path.value}, {path.mean_ns / 1000:.1f} us to answer")
    assert path.name == "io"

# %% [markdown]
# ## 3. The same guest, every engine (10 minutes)
#
# A guest must not be able to tell who runs it. What is equal, what is not?

# %%
from minihv import MachineConfig
from minihv.machine.lineup import compare
from minihv.report.comparewords import comparison_text

side_by_side = compare("add", MachineConfig(timeout=60), runs=5)
print(comparison_text(side_by_side))
assert side_by_side.equal

# %% [markdown]
# Which row is the same in all columns, and must be? Which row would you expect to change on VT-x?

# %% [markdown]
# ## 4. Ring 3: where a processor shines (10 minutes)
#
# `ring3` goes to user mode and comes back three ways. User code concerns nobody but the guest: count how many
# exits the ways to user mode and back cost.

# %%
from minihv import Machine

for engine in working:
    with Machine(engine=engine, timeout=60) as machine:
        machine.load("ring3")
        report = machine.with_symbols(machine.run())
    assert report.outcome.status == 0
    print(f"{engine}: {report.wall_ns / 1e6:.1f} ms, {report.total_exits} exits, all of these kinds:")
    for kind, exits in report.exits.by("name").items():
        print(f"  {exits.total:5} {kind}, from {', '.join(sorted({s.symbol for s, _ in exits.sites}))}")
    assert set(report.exits.by("name")) == {"io"}, "only printing leaves the guest"

# %% [markdown]
# INT 0x80, SYSCALL, SYSRET, IRET, a general-protection fault and not one exit for them: the guest handles its
# own system calls. (In 2006, under software virtualization, each cost about 2000 cycles: `minihv nano`.)

# %% [markdown]
# ## 5. Why x86 was hard (10 minutes)
#
# Popek and Goldberg (1974): trap and emulate works if every sensitive instruction traps. Robin and Irvine
# (2000) found seventeen on x86 that do not. Ask of each of these: privileged, I/O-sensitive, or silent?

# %%
from minihv.x86.sensitive import UNPRIVILEGED, mark

silent = []
for text in ("add eax, ebx", "out dx, al", "hlt", "mov cr3, rax", "popfq", "sgdt [rax]", "push cs", "cpuid"):
    found = mark(text)
    print(f"{text:14} {found or 'concerns only the guest'}")
    if found is not None and found.kind == UNPRIVILEGED:
        silent.append(text)
assert silent == ["popfq", "sgdt [rax]", "push cs"]

# %% [markdown]
# ## 6. Your own device (10 minutes)
#
# An exit is a value, a device a function. Seven instructions ask a device of yours a question and leave with
# its answer. Change the device; count the exits again.

# %%
GUEST = bytes.fromhex("66ba4200ec0404ee66baf800ee")  # in al, 0x42; add al, 4; out; exit
for engine in working:
    written: list[int] = []
    with Machine(engine=engine, format="flat64", timeout=60) as machine:
        machine.on_port(0x42, read=lambda: 38, write=written.append, name="deep-thought")
        machine.load(GUEST)
        report = machine.run()
    print(f"{engine}: wrote {written}, left with {report.outcome.status}, {report.total_exits} exits")
    assert (written, report.outcome.status, report.total_exits) == ([42], 42, 3)

# %% [markdown]
# ## 7. Hand in (5 minutes)
#
# Numbers are handed in as JSON, with the machine they were taken on: nobody can check them otherwise.

# %%
import json

handed_in = side_by_side.to_dict()
print(json.dumps({key: handed_in[key] for key in ("schema", "guest", "equal", "sentences")}, indent=1))
print("Taken on:", handed_in["engines"][0]["host"])

# %% [markdown]
# Homework: `minihv compare primes` (compute), `minihv compare hello` (print),
# `minihv explain ring3 --at user`. For which guest is the processor's lead largest, and why?
