"""Interrupts at any moment of 19 kinds of statement: python benches/interrupts.py [COUNT [SEED]]  (12000 unless told)

Prints how many stopped their statement, how many came when that was over, how many were lost, and how many hit another
statement: the last two are to be 0, and the exit status says so.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from interrupting import KINDS, interrupt_many
from kernels import kernel


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1

    def progress(at: int) -> None:
        if at % 1000 == 0:
            print(f"{at} of {count}", file=sys.stderr, flush=True)

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, kernel(Path(folder), "--asyncio") as running:
        counts = interrupt_many(running.console(), count, seed, progress=progress)
    print(f"{count} interrupts over {len(KINDS)} kinds of statement, {time.monotonic() - begin:.0f} s")
    for what in ("stopped", "ended", "lost", "wrong"):
        print(f"{what:8} {counts[what]}")
    print("; ".join(f"{kind} {counts[f'stopped {kind}']}" for kind in KINDS))
    for each in counts.bad[:10]:
        print(each)
    return 1 if counts.bad else 0


if __name__ == "__main__":
    sys.exit(main())
