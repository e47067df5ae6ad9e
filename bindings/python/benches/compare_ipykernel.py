"""The same things asked of a kernel of trunkline's and of ipykernel, each by a client of its own.

python benches/compare_ipykernel.py  (needs jupyter_client and ipykernel)

What is asked: a question while code runs; a flood of 20,000 lines for a client that looks away for five seconds; a
second client; a client that goes away and comes back; an interrupt of C code that hears no signals.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from trunkline import Config
from trunkline._trunkline import _Session
from trunkline.console._spawn import Spawned

PATIENCE = 2.0
"""Seconds that a person waits for an answer."""
LONG = 60.0
LINES = 20_000
BUSY = "while True: pass"
C_CODE = "sum(range(10 ** 11))"


class Client(ABC):
    """A person at a kernel. `lines` is what it was shown."""

    lines: list[str]

    @abstractmethod
    def start(self, code: str) -> None: ...

    @abstractmethod
    def until(self, check: Callable[[], bool], seconds: float) -> bool:
        """Reads until something is so."""

    @abstractmethod
    def is_over(self) -> bool:
        """Whether the code that was started is over."""

    @abstractmethod
    def completes(self, code: str) -> bool:
        """Whether a question is answered in time."""

    @abstractmethod
    def interrupt(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def run(self, code: str) -> None:
        self.start(code)
        if not self.until(self.is_over, LONG):
            raise TimeoutError(f"{code!r} has no end")


class Trunkline(Client):
    def __init__(self, kernel: Spawned) -> None:
        self._session = _Session.connect(kernel.address, Config(kernel.key))
        self._text = ""
        self._number = 0
        self._answers: set[int] = set()
        self.statuses: list[str] = []
        self.stack = ""
        self.until(lambda: bool(self.statuses), LONG)

    @property
    def lines(self) -> list[str]:  # type: ignore[override]
        return self._text.split("\n")[:-1]

    def start(self, code: str) -> None:
        number = self._session.send(code + "\n\n", LONG)
        if number is None:
            raise TimeoutError("the kernel takes nothing")
        self._number = number

    def until(self, check: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not check():
            said: Any = self._session.next(max(deadline - time.monotonic(), 0))
            if said is None:
                return check()
            if said[0] == "stdout":
                self._text += said[1].decode()
            elif said[0] == "status":
                self.statuses.append(said[1])
            elif said[0] == "answer":
                self._answers.add(said[1])
                self.stack = said[2]
        return True

    def is_over(self) -> bool:
        return self._session.is_over(self._number)

    def completes(self, code: str) -> bool:
        number = self._session.ask("complete", code, len(code))
        return self.until(lambda: number in self._answers, PATIENCE)

    def asks_stack(self) -> bool:
        number = self._session.ask("stack")
        return self.until(lambda: number in self._answers, PATIENCE) and "frames" in self.stack

    def interrupt(self) -> None:
        self._session.interrupt()

    def kill(self) -> None:
        self._session.command("signal KILL")

    def close(self) -> None:
        self._session.close()


class IPython(Client):
    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        # Not by manager.client(): its clients have one name, so the second takes the place of the first.
        self._client = BlockingKernelClient()
        self._client.load_connection_info(manager.get_connection_info())
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LONG)
        self._asked = ""
        self._over = False
        self.lines = []
        self._rest = ""

    def start(self, code: str) -> None:
        self._over = False
        self._asked = self._client.execute(code, allow_stdin=False)

    def until(self, check: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not check():
            try:
                message = self._client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0))
            except Empty:
                return check()
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                *lines, self._rest = (self._rest + content["text"]).split("\n")
                self.lines += lines
            elif content.get("execution_state") == "idle" and message["parent_header"].get("msg_id") == self._asked:
                self._over = True
        return True

    def is_over(self) -> bool:
        return self._over

    def completes(self, code: str) -> bool:
        asked = self._client.complete(code)
        deadline = time.monotonic() + PATIENCE
        try:
            while True:
                reply = self._client.get_shell_msg(timeout=max(deadline - time.monotonic(), 0))
                if reply["parent_header"].get("msg_id") == asked:
                    return True
        except Empty:
            return False

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def close(self) -> None:
        self._client.stop_channels()


# -- What is asked -----------------------------------------------------------------------------------------------------


def busy(client: Client) -> str:
    client.run("import os")
    client.start(BUSY)
    client.until(lambda: False, 0.5)
    times = []
    for _ in range(10):
        begin = time.monotonic()
        if not client.completes("os.pa"):
            break
        times.append(time.monotonic() - begin)
    client.interrupt()
    client.until(client.is_over, LONG)
    # What was asked is not in the way of what follows.
    client.until(lambda: False, 0.5)
    if len(times) < 10:
        return f"no answer within {PATIENCE:.0f} s"
    return f"answered, median {1000 * statistics.median(times):.1f} ms"


def flood(client: Client) -> str:
    client.start(f"for i in range({LINES}): print('line', i, '.' * 200, flush=True)")
    time.sleep(5)
    client.until(client.is_over, LONG)
    client.until(lambda: False, 0.5)
    seen = sum(line.startswith("line ") for line in client.lines)
    return f"{LINES - seen:,} of {LINES:,} lines lost"


def second(first: Client, join: Callable[[], Client]) -> str:
    first.run("for i in range(100): print('before', i)")
    other = join()
    first.run("for i in range(100): print('after', i)")
    other.until(lambda: "after 99" in other.lines, 5)
    counts = [sum(line.startswith(word) for line in other.lines) for word in ("before", "after")]
    other.close()
    return f"sees {counts[0]} of 100 lines from before it came, {counts[1]} of 100 from after"


def away(first: Client, join: Callable[[], Client]) -> str:
    first.start("import time\nfor i in range(200): print('made', i, flush=True); time.sleep(0.01)")
    first.until(lambda: "made 49" in first.lines, LONG)
    seen = {line for line in first.lines if line.startswith("made")}
    first.close()
    time.sleep(1)
    back = join()
    back.until(lambda: "made 199" in back.lines, 10)
    seen |= {line for line in back.lines if line.startswith("made")}
    back.close()
    return f"{200 - len(seen)} of 200 lines lost"


def c_code_trunkline(client: Trunkline) -> str:
    client.start("print('last words')\n" + C_CODE)
    client.until(lambda: client.statuses[-1].startswith("busy"), LONG)
    begin = time.monotonic()
    client.interrupt()
    if not client.until(lambda: client.statuses[-1].startswith("hung"), 10):
        return "nothing is told"
    told = time.monotonic() - begin
    stack = "its stack is told" if client.asks_stack() and _has_frames(client.stack) else "no stack"
    client.kill()
    client.until(lambda: client.statuses[-1].startswith("killed"), 10)
    words = "kept" if "last words" in client.lines else "lost"
    return f"told after {told:.1f} s that it hangs, {stack}; a kill tells `{client.statuses[-1]}`, last words {words}"


def _has_frames(answer: str) -> bool:
    return any(thread["frames"] for thread in json.loads(answer).get("threads", []))


def c_code_ipython(client: IPython, manager: KernelManager) -> str:
    client.start("print('last words')\n" + C_CODE)
    client.until(lambda: False, 1)
    client.interrupt()
    over = client.until(client.is_over, 5)
    answers = client.completes("os.pa")
    manager.restart_kernel(now=True)
    client.until(lambda: False, 0.5)
    words = "kept" if "last words" in client.lines else "lost"
    told = "stopped" if over else "nothing is told within 5 s"
    return f"{told}, {'questions are answered' if answers else 'no question is answered'}; killed, last words {words}"


def trunkline_rows() -> list[str]:
    rows = []
    with Spawned() as kernel:
        client = Trunkline(kernel)
        rows += [busy(client), flood(client), second(client, lambda: Trunkline(kernel))]
        rows.append(away(client, lambda: Trunkline(kernel)))
        rows.append(c_code_trunkline(Trunkline(kernel)))
    return rows


def ipython_rows() -> list[str]:
    manager = KernelManager()
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="ipykernel",
        language="python",
    )
    manager.start_kernel()
    rows = []
    try:
        client = IPython(manager)
        rows += [busy(client), flood(client), second(client, lambda: IPython(manager))]
        rows.append(away(client, lambda: IPython(manager)))
        rows.append(c_code_ipython(IPython(manager), manager))
    finally:
        manager.shutdown_kernel(now=True)
    return rows


def main() -> int:
    names = [
        "completion while a loop runs",
        f"a flood of {LINES:,} lines, a client that looks away for 5 s",
        "a second client",
        "going away for 1 s and coming back",
        "an interrupt of C code that hears no signals",
    ]
    ours, theirs = trunkline_rows(), ipython_rows()
    print("| | trunkline | ipykernel |\n|---|---|---|")
    for name, our, their in zip(names, ours, theirs, strict=True):
        print(f"| {name} | {our} | {their} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
