"""Interrupts that come at any time of many kinds of statement, counted: for a test and for `benches/interrupts.py`."""

from __future__ import annotations

import collections
import random
import time
from collections.abc import Callable

from kernels import Console

PRELUDE = """
import asyncio, os, socket, subprocess, sys, threading, time
lock = threading.Lock(); lock.acquire()
a, b = socket.socketpair()
log = []; cut = 0
def until(d, act):
    t = time.perf_counter() + d
    while time.perf_counter() < t: act()
def busy(d): until(d, int)
class Slow:
    def __init__(self, d): self.d = d
    def __repr__(self):
        busy(self.d)
        return "slow"
class Finalized:
    def __del__(self): busy(0.0005)
def fin(d):
    global cut
    raised = False
    try:
        busy(d)
    except KeyboardInterrupt:
        raised = True
        raise
    finally:
        try:
            for _ in range(2000): pass
        except KeyboardInterrupt:
            # The first may come here, and a second one must not.
            cut += raised
            raise
def recv(d):
    a.settimeout(d)
    try: a.recv(1)
    except TimeoutError: pass
def noise(d): until(d, lambda: print("noise"))
def rec(n): return n and rec(n - 1)
def deep(d): until(d, lambda: rec(500))
def gens(d):
    def g():
        while True:
            try: yield 1
            finally: pass
    until(d, lambda: next(g()))
def imp(d):
    def once():
        for name in ("json", "json.decoder", "json.encoder", "json.scanner", "colorsys", "sched"):
            sys.modules.pop(name, None)
        import json, colorsys, sched
    until(d, once)
async def spin(d):
    t = time.perf_counter() + d
    while time.perf_counter() < t: await asyncio.sleep(0)
async def then_busy(d):
    await asyncio.sleep(0)
    busy(d)
"""

KINDS = {
    "busy": "busy({})",
    "finally": "fin({})",
    "sleep": "time.sleep({})",
    "input": "input()",
    "imports": "imp({})",
    "system": "os.system('sleep {}')",
    "socket": "recv({})",
    "lock": "lock.acquire(timeout={})",
    "repr": "Slow({})",
    "recursion": "deep({})",
    "finalizers": "until({}, Finalized)",
    "prints": "noise({})",
    "generators": "gens({})",
    "a child": "subprocess.run(['sleep', '{}'])",
    "short": "1",
    "await": "await asyncio.sleep({})",
    "await gather": "await asyncio.gather(*[asyncio.sleep({}) for _ in range(20)])",
    "await, then busy": "await then_busy({})",
    "await in a loop": "await spin({})",
}
"""Each for so many seconds. The last ones are for a kernel whose statements may await."""


class Counts(collections.Counter[str]):
    """What became of the interrupts: `stopped`, `ended` (the statement was over first), `lost`, and `wrong` (another
    statement was hit, or was not run)."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def note(self, what: str, why: object) -> None:
        self[what] += 1
        self.bad.append(f"{what}: {why}")


def interrupt_many(
    console: Console, count: int, seed: int, patience: float = 20, progress: Callable[[int], object] = lambda _: None
) -> Counts:
    """Runs so many statements, of the kinds in turn, and interrupts each: 4 of 10 endless, the others about to end; 1
    of 10 interrupted before the kernel has the statement; each second one with another right behind it."""
    chance = random.Random(seed)
    counts = Counts()
    last = console.send(PRELUDE)
    console.until("the prelude", lambda: console.session.is_over(last))
    kinds = list(KINDS)
    for at in range(count):
        progress(at)
        if at % len(kinds) == 0:
            chance.shuffle(kinds)
        kind = kinds[at % len(kinds)]
        endless = kind == "input" or (kind != "short" and chance.random() < 0.4)
        seconds = chance.uniform(0, 0.004)
        code = KINDS[kind].format(1000 if endless else f"{seconds:.6f}")
        early = chance.random() < 0.1
        console.forget()
        if early:
            console.session.command(f"interrupt own {last + 1}")
        number = console.send(code)
        # Nothing that follows may be read by what asks for input.
        follows = kind != "input" and chance.random() < 0.5
        last = console.send(f"log.append({at})") if follows else number
        if not early:
            time.sleep(chance.uniform(0, 0.005 if endless else seconds * 1.5))
            console.session.command(f"interrupt own {number}")
        what = f"statement {at}, {code}, {endless=}, {early=}, {follows=}"
        try:
            console.until(what, lambda last=last: console.session.is_over(last), patience)
        except AssertionError as error:
            counts.note("lost", error)
            console.session.command("interrupt")
            console.until(f"a second interrupt of {what}", lambda last=last: console.session.is_over(last))
        text = console.stderr
        stopped = "interrupted\n" in text
        if endless and not stopped:
            counts.note("lost", (what, text))
        counts["stopped" if stopped else "ended"] += 1
        counts[f"stopped {kind}"] += stopped
        console.forget()
        last = console.send(f"print('log', log[-1:] == [{at}] or {not follows})")
        console.until(f"the check after {what}", lambda last=last: console.session.is_over(last))
        if console.all != "log True\n":
            counts.note("wrong", (what, text, console.all))
    console.forget()
    last = console.send("print('cut', cut)")
    console.until("the end", lambda: console.session.is_over(last))
    if console.all != "cut 0\n":
        # A second interrupt for the same statement.
        counts.note("wrong", f"a clean-up was cut: {console.all}")
    return counts
