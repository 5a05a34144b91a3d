"""Checking that engines agree: the random-instruction tester, opcode coverage, and lock step.

Random instructions: read `layout` (the harness guest's memory), `image` and `stubs` (how a case is loaded
and saved by the guest itself, in ring 3), `case` (one instruction and its state), `session` (a batch on one
engine), `instructions` and `generate` (where cases come from), `compare` with its two visible tables
`undefined_flags` and `allowances`, and `shrink`; `campaign` puts them together.

Lock step: `lockstep` over two built machines, with `differences` (state against state).

Everything here knows engines by `minihv.engine.select` and `minihv.interfaces` only.
"""
