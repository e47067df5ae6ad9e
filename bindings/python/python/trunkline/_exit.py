"""The end of the interpreter: what was written goes, then all connections are closed, 1.5 s at most."""

from __future__ import annotations

import sys

from ._streams import writers
from ._trunkline import _begin_exit, _end_exit


def _exit() -> None:
    _begin_exit()
    # The interpreter flushes these after its exit handlers, which is too late for a stream of ours.
    for stream in (sys.stdout, sys.stderr, *writers):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception:
            # The interpreter itself says so where that is to be said.
            continue
    _end_exit()
