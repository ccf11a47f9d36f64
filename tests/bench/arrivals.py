"""Clients that come whatever happens: an open load, at a fixed rate.

`python -m tests.bench.arrivals LOAD`; prints how many came in each second
(`asked`), how many downloads came to their end in each (`served`; the last
number is all that came later), and how often one left (`left`). One who leaves
asks again at once, twice at most.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from random import Random

from tests.bench.client import Target
from tests.bench.content import MANIFEST_TYPE

_TRIES = 3
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`per_s` clients a second for `for_s`; each wants one of the targets, all alike."""

    port: int
    targets: list[Target]
    per_s: int
    for_s: int
    patience_s: float
    seed: int


@dataclass(slots=True)
class Served:
    """See above; `served` has one number more than there are seconds."""

    asked: list[int]
    served: list[int]
    left: int = 0
    failed: list[str] = field(default_factory=list)


async def run(load: Load) -> Served:
    """Returns when the last client has gone."""
    order = Random(load.seed)
    said = Served([0] * load.for_s, [0] * (load.for_s + 1))
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as clients:
        for number in range(load.per_s * load.for_s):
            await asyncio.sleep(began + number / load.per_s - loop.time())
            target = order.choice(load.targets)
            said.asked[number // load.per_s] += 1
            clients.create_task(_client(load, target, began, said))
    return said


async def _client(load: Load, target: Target, began: float, said: Served) -> None:
    for _ in range(_TRIES):
        try:
            async with asyncio.timeout(load.patience_s):
                await _get(load.port, target)
        except TimeoutError:
            said.left += 1
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            said.left += 1
            said.failed = [*said.failed, repr(error)][-5:]
            await asyncio.sleep(0.5)
        else:
            second = int(asyncio.get_running_loop().time() - began)
            said.served[min(second, load.for_s)] += 1
            return


async def _get(port: int, target: Target) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * _PIECE_BYTES)
    try:
        for path in filter(None, (target.before, target.path)):
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {MANIFEST_TYPE}, */*"
            writer.write(f"{head}\r\n\r\n".encode())
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            if status.split()[1] != "200":
                raise ValueError(status)
            length = next(one for one in fields if one.lower().startswith("content-length:"))
            left = int(length.partition(":")[2])
            while left:
                piece = await reader.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
    finally:
        writer.transport.abort()


if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    wanted = [Target(**target) for target in fields.pop("targets")]
    print(json.dumps(asdict(asyncio.run(run(Load(targets=wanted, **fields))))))
