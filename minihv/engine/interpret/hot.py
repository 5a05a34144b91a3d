"""Blocks that run often become one Python function each: see `hotcode` for what the source looks like."""

from collections.abc import Callable

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.faults import BlockDied, protection
from minihv.engine.interpret.hotcode import NoTemplate, Writer
from minihv.engine.interpret.hottemplates import TEMPLATES
from minihv.engine.interpret.site import Op, Site

HEAT = 300
"""Runs of a block before it is compiled: about what compiling costs."""


def _write(sites: list[Site], ops: list[Op], preload: frozenset[int], dirty: set[int], loop: bool) -> Writer:
    """The body of the block's function."""
    w = Writer(sites, preload)
    w.dirty = set(dirty)
    if loop:
        w.loop_start = sites[0].ip
        w.indent = 3
    for number, site in enumerate(sites):
        w.number = number
        template = TEMPLATES.get(site.insn.mnemonic)
        if template is None:
            w.call_op(ops[number])
            continue
        lines, state = len(w.lines), (set(w.cached), set(w.dirty), w.flags)
        try:
            template(w, site)
        except NoTemplate:
            del w.lines[lines:]
            w.cached, w.dirty, w.flags = state
            w.call_op(ops[number])
    return w


def source(sites: list[Site], ops: list[Op]) -> tuple[str, dict[str, object]] | None:
    """The function's source and what it refers to; None where it would be little but calls of ops."""
    w = _write(sites, ops, frozenset(), set(), False)
    if w.ops_called * 2 > len(sites):
        return None
    head = ["        died = False"]
    if not w.ops_called:
        used, dirty = frozenset(w.used), w.dirty
        looping = _write(sites, ops, used, dirty, True)
        if looping.loops:
            w = looping
            head += [f"        r{n} = r[{n}]" for n in sorted(used)]
            head.append("        while True:")
            w.indent = 2
    w.write_back()
    lines = ["def make(cpu, r, block, names):"]
    lines += [f"    {name} = names[{name!r}]" for name in sorted(w.names)]
    lines += ["    def run():", *head, *w.lines, "    return run"]
    return "\n".join(lines), w.names


def compile_block(cpu: Cpu, block: object, sites: list[Site], ops: list[Op]) -> Op | None:
    """The block's function, or None where it is not worth while."""
    written = source(sites, ops)
    if written is None:
        return None
    text, names = written
    for name, value in (("BlockDied", BlockDied), ("protection", protection)):
        if name in names:
            names[name] = value
    space: dict[str, Callable[..., Op]] = {}
    exec(compile(text, f"<block {sites[0].ip:#x}>", "exec"), space)
    return space["make"](cpu, cpu.r, block, names)
