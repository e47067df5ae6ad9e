"""How long a console waits for an answer while the kernel is busy: python benches/introspection.py [QUESTIONS]

Prints, for each load and each question, the median, the longest wait, and how many were answered with an error instead.
What the kernel promises: a median below 50 ms while a statement runs, below 200 ms beside 20 busy threads, and else an
error within 2 s; `stack` is answered also while an extension holds the interpreter's lock.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trunkline import Config, Key
from trunkline._trunkline import _Session

HOLD = "import ctypes; library = ctypes.PyDLL({!r}); library.hold.argtypes = [ctypes.c_double]; library.hold(3600)"
BUSY = """
import threading
def leaf(n): return [x * x for x in range(50)] if n == 0 else leaf(n - 1)
def busy():
    while True: leaf(7)
for _ in range(20): threading.Thread(target=busy, daemon=True).start()
import time; time.sleep(3600)
"""
SVD = "import numpy; numpy.linalg.svd(numpy.random.default_rng(1).random((3000, 3000)))"
LOADS = {
    "nothing runs": "",
    "a loop of bytecode": "while True: pass\n",
    "numpy's SVD of 3000 × 3000": SVD,
    "20 busy threads": BUSY,
    "an extension that holds the lock": HOLD,
}
QUESTIONS = {"complete": "cou", "inspect": "count", "variables": "", "stack": ""}


def ask(session: _Session, operation: str, code: str) -> tuple[float, dict]:
    begin = time.monotonic()
    number = session.ask(operation, code, len(code))
    while (said := session.next(60)) is not None:
        if said[0] == "answer" and said[1] == number:
            return time.monotonic() - begin, json.loads(said[2])
    raise RuntimeError(f"no answer to {operation}")


def until(session: _Session, activity: str) -> None:
    while session.activity() != activity and session.next(60) is not None:
        pass


def measure(folder: Path, what: str, code: str, times: int) -> None:
    key = folder / f"{abs(hash(what))}.key"
    command = [sys.executable, "-m", "trunkline.kernel", "--listen", "127.0.0.1:0", "--key-file", str(key)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as kernel:
        try:
            assert kernel.stdout is not None
            address = kernel.stdout.readline().strip().removeprefix("listening on ")
            session = _Session.connect(address, Config(Key.from_file(key)))
            session.send("count = 1; counts = list(range(1000)); numbers = dict(enumerate(counts))\n")
            until(session, "idle")
            if code:
                session.send(code + "\n")
                until(session, "busy")
                time.sleep(0.5)
            for operation, text in QUESTIONS.items():
                # What holds the lock is asked less often: each answer takes its time.
                asked = [ask(session, operation, text) for _ in range(times if "holds" not in what else 3)]
                waits = sorted(wait for wait, _ in asked)
                errors = sum("error" in answer for _, answer in asked)
                print(
                    f"{what:34} {operation:10} median {1000 * statistics.median(waits):7.1f} ms, "
                    f"longest {1000 * waits[-1]:7.1f} ms, {errors} of {len(asked)} an error",
                    flush=True,
                )
            session.close()
        finally:
            kernel.kill()


def main() -> int:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = Path(__file__).resolve().parent.parent / "tests" / "holdgil.c"
        library = folder / "holdgil.so"
        built = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=False).returncode == 0
        for what, code in LOADS.items():
            if code == HOLD:
                if not built:
                    print(f"{what:34} skipped: there is no C compiler")
                    continue
                code = HOLD.format(str(library))
            measure(folder, what, code, times)
    return 0


if __name__ == "__main__":
    sys.exit(main())
