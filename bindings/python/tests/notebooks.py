"""Kernels of Jupyter's, and what a test needs of a frontend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from conftest import LONG
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbformat.v4 import output_from_msg

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def install(folder: Path, module: str, name: str, *options: str) -> KernelSpecManager:
    """Makes a kernelspec below a folder."""
    command = [sys.executable, "-m", module, "install", "--prefix", str(folder), "--name", name, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return specs(folder)


def specs(folder: Path) -> KernelSpecManager:
    return KernelSpecManager(kernel_dirs=[str(folder / "share/jupyter/kernels")], ensure_native_kernel=False)


class Frontend:
    """A notebook: what each cell shows."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client: BlockingKernelClient = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LONG)
        self.outputs: list[nbformat.NotebookNode] = []

    def run(self, code: str, *answers: str, **options) -> dict:
        """Runs a cell. Returns the reply; what it has shown is in `outputs`."""
        self.outputs = []
        left = list(answers)
        self.asked: list[str] = []
        self.hidden: list[bool] = []

        def show(message: dict) -> None:
            content = message["content"]
            # As notebooks do: text that follows other text of the same stream is one with it.
            if message["msg_type"] == "stream" and self.outputs and self.outputs[-1].get("name") == content["name"]:
                self.outputs[-1]["text"] += content["text"]
            elif message["msg_type"] in ("stream", "execute_result", "display_data", "error"):
                self.outputs.append(output_from_msg(message))

        def answer(message: dict) -> None:
            self.asked.append(message["content"]["prompt"])
            self.hidden.append(message["content"]["password"])
            self.client.input(left.pop(0))

        options = {"allow_stdin": bool(answers), **options}
        reply = self.client.execute_interactive(
            code, output_hook=show, stdin_hook=answer if answers else None, timeout=LONG, **options
        )
        return reply["content"]

    def text(self, code: str, *answers: str) -> str:
        """What a cell shows, all in one."""
        assert self.run(code, *answers)["status"] == "ok", self.outputs
        parts = [each.get("text") or each["data"]["text/plain"] for each in self.outputs]
        return "".join(parts)

    def close(self) -> None:
        self.client.stop_channels()


def without_pytest() -> dict[str, str]:
    """The environment. ipykernel does not show what children write if it finds that it is tested."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@contextmanager
def frontend(found: KernelSpecManager, name: str, **environment: str) -> Iterator[Frontend]:
    manager = KernelManager(kernel_spec_manager=found, kernel_name=name)
    manager.start_kernel(env={**without_pytest(), **environment})
    made = None
    try:
        made = Frontend(manager)
        yield made
    finally:
        if made is not None:
            made.close()
        manager.shutdown_kernel(now=made is None)
        manager.cleanup_resources()


def plain(outputs: list) -> list:
    """What was shown, as far as it is to be the same wherever it was run: the text of each stream, which ipykernel does
    not keep in order; of pictures and tracebacks counts that they are there."""
    found: list = []
    for name in ("stdout", "stderr"):
        found.append("".join(each["text"] for each in outputs if each.get("name") == name))
    for output in outputs:
        kind = output["output_type"]
        if kind == "stream":
            continue
        if kind == "error":
            # Where a statement is, each kernel says in its own words.
            found.append((kind, output["ename"], output["evalue"].partition(" (")[0]))
        else:
            data = {mime: "…" if mime.startswith("image/") else text for mime, text in output["data"].items()}
            found.append((kind, data))
    return found
