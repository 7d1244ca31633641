"""The compile step of a program: taken from what this node has compiled before (`built.py`), or run and kept.

Kept is what the program alone decided: a compiler that ended by itself, and was not disturbed. A tree that
cannot be packed is not kept.
"""

import time
from collections.abc import Callable

import trio

from occd.execution.arbiter import Turn
from occd.execution.built import EACH_MAX, Built, Claim
from occd.execution.entry import Entry
from occd.execution.program import Program
from occd.execution.steps import Done, Steps
from occd.model import Step
from occd.sandbox import Cell, Packed


def _undisturbed() -> bool:
    return False


class Compiler:
    """Of one attempt."""

    def __init__(self, built: Built, steps: Steps, owner: str | None, *, cached: bool) -> None:
        """`cached`: whether the submission takes part in what is kept."""
        self._built = built
        self._steps = steps
        self._owner = owner
        self._cached = cached

    async def claim(
        self, program: Program, step: Step, box: int, turn: Turn | None = None
    ) -> Claim:
        """Has a slot, unless it was stopped. `box` is the size of the cell's boxes."""
        if not self._cached:
            return Claim(self._built)
        return await self._built.claim(program, step, box, self._owner, self._steps.stop, turn)

    def known(self, claim: Claim, step: Step, log_max: int | None = None) -> Done | None:
        """The step as it was when it was run, if it need not be run again."""
        entry = claim.known
        if entry is None:
            return None
        return self._steps.repeat(step, entry.outcome, entry.said, entry.tree, log_max)

    async def compile(
        self,
        claim: Claim,
        cell: Cell,
        program: Program,
        step: Step,
        *,
        signals: trio.MemoryReceiveChannel[int] | None = None,
        log_max: int | None = None,
        disturbed: Callable[[], bool] = _undisturbed,
    ) -> Done:
        """Leaves a tree."""
        claim.begin()
        done = await self._steps.run(
            cell,
            step,
            program.to_compile(),
            signals=signals,
            log_max=log_max,
            keep_said=claim.is_for_others,
            keep_tree=True,
        )
        if self._steps.stop.is_set() or disturbed():
            claim.give_up()
        elif claim.is_for_others:
            await claim.keep(await self._entry(cell, done))
        return done

    async def _entry(self, cell: Cell, done: Done) -> Entry | None:
        outcome = done.outcome
        if outcome.exit_code is None or outcome.limit is not None:
            return None
        packed = None
        if outcome.succeeded:
            assert not isinstance(done.tree, Packed)
            packed = await cell.pack(done.tree, EACH_MAX) if done.tree else None
            if packed is None:
                return None
        return Entry(outcome.exit_code, done.said, packed, time.time())
