"""`python -m tests.bench.readme [RESULT.json]`: writes the README's bench block.

Between `<!-- bench -->` and `<!-- /bench -->`: what it was measured on, the
chart, the lines a reader asks for first with the best of each in bold, which
limits are not met, and where it says what bounds those. Everything else is in
the result's own file. Never edited by hand: a test compares it with the newest
result.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import kept
from tests.bench.chart import PNG
from tests.bench.kept import Result
from tests.bench.machine import line
from tests.bench.report import SUBJECT, Entry, cell
from tests.bench.systems import ROOT

README = ROOT / "README.md"
LIMITS = Path(__file__).with_name("LIMITS.md")
"""What bounds the lines that miss, with the profiles; written by hand."""
_BLOCK = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)
_KEYS = re.compile(
    r"manifest_(tag|digest)_rps|small_blob_rps|(warm|tls|fill)_cpu_s_per_gb"
    r"|crowd_(64_on_1x200|1024_on_1x16)_\w+|crowd_16_on_1x1000_efficiency|capped_time"
    r"|lazy_(soci|containerd)_\w+|streams_rss_mb|restart_floors|idle_(rss_mb|start_s)"
)


def block(result: Result, where: str, name: str) -> str:
    """The block's text. `where`: the chart's path, `name`: the result's, from the README."""
    table = [entry for entry in result["table"] if SUBJECT in entry["median"]]
    columns = [SUBJECT, *(c for c in result["columns"] if c not in (SUBJECT, "straight"))]
    missed = [entry["row"] for entry in table if entry["verdict"] == "FAIL"]
    busy = kept.busy(result)
    parts = [
        (
            f"{line(result['machine'])}; {kept.sampling(result['rounds'])} in random order, all "
            "systems in the same run, each on one core, load and upstream on the other. Access logs "
            f"off.{f' {busy[0].upper()}{busy[1:]}.' if busy else ''} Every number, with its "
            f"spread: [{Path(name).name}]({name}). `make bench` makes this table on yours."
        ),
        f"![{SUBJECT} and its peers: bars for six lines of the table]({where})",
        shown([entry for entry in table if _KEYS.fullmatch(entry["key"])], columns),
    ]
    if missed:
        parts.append(
            f"Where it misses what it aims at: {'; '.join(missed)}. "
            f"[What bounds it there]({LIMITS.relative_to(ROOT)}), with the profiles."
        )
    return "\n\n".join(parts) + "\n"


def shown(table: Sequence[Entry], columns: Sequence[str]) -> str:
    """A Markdown table of medians; the best of each line in bold."""
    lines = ["| | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for entry in table:
        middle = {name: entry["median"][name] for name in columns if name in entry["median"]}
        best = (min if entry["less"] else max)(middle.values())
        cells = []
        for name in columns:
            text = cell(entry, name, spread=False)
            # What looks the same is as good.
            if len(middle) > 1 and text == entry["form"].format(best):
                text = f"**{text}**"
            cells.append(text)
        lines.append(f"| {entry['row']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def of_kept(path: Path) -> str:
    """The block for a kept result. Raises `ValueError` for another version's."""
    path = path.resolve()
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    return block(kept.read(path), str(PNG.relative_to(ROOT)), name)


def blocks(text: str) -> list[str]:
    """The bench blocks that the README's text has now; one, if all is well."""
    return _BLOCK.findall(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.readme", description=__doc__)
    parser.add_argument("result", type=Path, nargs="?", help="default: the newest kept one")
    path = parser.parse_args().result or kept.newest()
    if path is None:
        parser.error("no result is kept; run `make bench` first, or name one")
    text, made = README.read_text(), of_kept(path)
    if len(blocks(text)) != 1:
        parser.error(f"{README.name} must have one bench block, has {len(blocks(text))}")
    README.write_text(_BLOCK.sub(lambda _: made, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
