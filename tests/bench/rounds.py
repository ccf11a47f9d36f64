"""The whole bench: rounds of rows of turns, each in random order, within a budget.

A turn is one system in one row: started empty, measured, ended. A peer that
does not start, or fails, costs its own numbers and nothing else; what Entrepot
does not serve is a fault.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from tests.bench.measured import Measured
from tests.bench.processes import DidNotStart
from tests.bench.row import Row
from tests.bench.stage import Stage, staged
from tests.bench.systems import ENTREPOT, NotHere, System

Turns = dict[str, dict[str, Measured]]
"""What one round gave, by row and system; the system `straight` is none at all."""

STRAIGHT = "straight"
_ROUND_LEAST = 0.5  # of the last one: later ones are shorter
_SMALL_BYTES = 10_000_000


class Bench:
    """`notes` are for the reader, `faults` make the exit status 1."""

    def __init__(self, folder: Path, rows: Sequence[Row], systems: Sequence[System]) -> None:
        self.rounds: list[Turns] = []
        self.notes: list[str] = []
        self.faults: list[str] = []
        self._folder = folder
        self._rows = rows
        self._systems = list(systems)
        self._until = 0.0

    def run(self, count: int, *, budget_s: float, order: random.Random, shrink: int = 1) -> None:
        """`shrink`: divide all large sizes by it. Raises `DidNotStart` for the upstream."""
        began = time.monotonic()
        self._until = began + budget_s
        shapes = {
            name: tuple(size if size < _SMALL_BYTES else size // shrink for size in sizes)
            for row in self._rows
            for name, sizes in row.images.items()
        }
        with staged(self._folder, shapes) as stage:
            say(f"content: {time.monotonic() - began:.0f} s")
            last_s = 0.0
            for number in range(1, count + 1):
                round_began = time.monotonic()
                if number > 1 and self._until - round_began < _ROUND_LEAST * last_s:
                    self.notes.append(f"stopped after round {number - 1} of {count}: out of time")
                    break
                turns: Turns = {}
                self.rounds.append(turns)
                for row in self._rows:
                    turns[row.name] = self._row(number, row, stage, order)
                last_s = time.monotonic() - round_began
                say(f"round {number} of {count}: {last_s:.0f} s")

    def _row(
        self, number: int, row: Row, stage: Stage, order: random.Random
    ) -> dict[str, Measured]:
        done: dict[str, Measured] = {}
        if row.straight is not None:
            done[STRAIGHT] = measured = Measured(STRAIGHT)
            began = time.monotonic()
            try:
                row.straight(stage, measured)
            except (DidNotStart, subprocess.SubprocessError, OSError, HTTPException) as error:
                self.faults.append(f"{row.name}, straight, round {number}: {error!r}")
                return done
            say(f"  {row.name}, {STRAIGHT}: {time.monotonic() - began:.1f} s")
            self._judge(number, row, measured)
        turns = [
            system
            for system in self._systems
            if row.fits(system) and (system is ENTREPOT or number == 1 or not row.peers_once)
        ]
        order.shuffle(turns)
        for system in turns:
            if system is not ENTREPOT and time.monotonic() > self._until:
                self._note(f"{row.name}, {system.name}, round {number}: out of time")
                continue
            began = time.monotonic()
            done[system.name] = measured = Measured(system.name)
            self._turn(number, row, stage, system, measured)
            say(f"  {row.name}, {system.name}: {time.monotonic() - began:.1f} s")
            self._judge(number, row, measured)
        return done

    def _turn(
        self, number: int, row: Row, stage: Stage, system: System, measured: Measured
    ) -> None:
        where = f"{row.name}, {system.name}, round {number}"
        complaints = self.faults if system is ENTREPOT else self.notes
        try:
            row.turn(stage, system, measured)
        except NotHere as error:
            self._systems.remove(system)
            self._note(f"{system.name}: not measured, {error}")
        except DidNotStart as error:
            complaints.append(f"{where}: did not start: {error}")
        except (subprocess.SubprocessError, OSError, HTTPException) as error:
            complaints.append(f"{where}: did not last: {error!r}")

    def _judge(self, number: int, row: Row, measured: Measured) -> None:
        where = f"{row.name}, {measured.system}, round {number}"
        self.faults += [f"WRONG BYTES: {where}: {fault}" for fault in measured.wrong]
        if measured.failed:
            first, more = measured.failed[0], len(measured.failed) - 1
            said = f"{where}: {first[:300]}" + (f" (and {more} more)" if more else "")
            ours = measured.system in (ENTREPOT.name, STRAIGHT)
            (self.faults if ours else self.notes).append(said)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def say(text: str) -> None:
    """Progress, for who waits."""
    print(text, file=sys.stderr, flush=True)
