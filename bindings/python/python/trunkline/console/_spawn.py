"""A kernel that ends with its console."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from .. import Key

_END = 10.0
"""Seconds that the kernel may take to end, before it is killed."""


class Spawned:
    """A context manager: a kernel on this machine, whose key no other process sees."""

    def __init__(self, *options: str) -> None:
        """With these options of `python -m trunkline.kernel`."""
        self.address = ""
        self._options = options
        self.key = Key.generate()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Spawned:
        self.start()
        return self

    def start(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "key")
            self.key.write_new_file(file)
            command = [sys.executable, "-m", "trunkline.kernel", "--listen", "127.0.0.1:0", "--key-file", str(file)]
            # Ctrl-C on the terminal is for the console, which tells the kernel itself.
            self._process = subprocess.Popen(
                [*command, "--with-parent", *self._options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert self._process.stdout is not None
            said = self._process.stdout.readline()
        _, _, self.address = said.strip().rpartition("listening on ")
        if not self.address:
            self.end()
            raise ChildProcessError("the kernel did not start; what it wrote to standard error says why")

    def end(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        # The end of its input is the end of its parent.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._process = None

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.end()
