"""What is delivered: types, docstrings, the source distribution."""

import inspect
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import trunkline

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent


def tool(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=300, **options
    )


@pytest.mark.timeout(300)
def test_the_types_are_those_of_the_program():
    stubs = tool(
        "mypy.stubtest", "trunkline", "--ignore-unused-allowlist", "--allowlist", str(HERE / "stubtest_allowlist.txt")
    )
    assert stubs.returncode == 0, stubs.stdout
    checked = tool("mypy")
    assert checked.returncode == 0, checked.stdout


def test_the_types_find_what_is_wrong(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from trunkline import Connection\n"
        "def f(c: Connection) -> int:\n"
        "    c.sender('1')\n"
        "    c.sender(1).send(7)\n"
        "    return c.receiver(1).try_recv().channel\n"
    )
    found = tool("mypy", str(wrong)).stdout
    assert [f"wrong.py:{line}" in found for line in (3, 4, 5)] == [True] * 3, found


def test_everything_that_is_public_is_documented():
    undocumented = []
    for name in trunkline.__all__:
        thing = getattr(trunkline, name)
        if not (thing.__doc__ or "").strip():
            undocumented.append(name)
        if not inspect.isclass(thing) or issubclass(thing, BaseException):
            continue
        for member, value in vars(thing).items():
            if member.startswith("_") or isinstance(value, int):
                continue
            if not (inspect.getdoc(getattr(thing, member)) or "").strip():
                undocumented.append(f"{name}.{member}")
    # What `io` has documented, and fields whose names say all.
    fields = {
        "Stats",
        "ChannelStats",
        "Event",
        "ListenerEvent",
        "Received",
        "KernelSaid",
        "KernelResult",
        "SessionInfo",
    }
    assert [name for name in undocumented if name.split(".")[0] not in fields] == []


def test_the_readme_runs(tmp_path):
    blocks = (PACKAGE / "README.md").read_text().split("```python\n")[1:]
    assert len(blocks) >= 2
    for block in blocks:
        code = block.split("```")[0]
        path = tmp_path / "readme.py"
        path.write_text(code)
        ran = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        expected = [line.split("# prints ")[1] for line in code.splitlines() if "# prints " in line]
        assert ran.stdout.splitlines() == expected


@pytest.mark.timeout(300)
def test_the_source_distribution_has_all_that_it_needs(tmp_path):
    made = tool("maturin", "sdist", "--out", str(tmp_path))
    assert made.returncode == 0, made.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        tar.extractall(tmp_path, filter="data")
    assert not any("/target/" in name or name.endswith(".so") or "/.venv" in name for name in names)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (manifest,) = (path for path in folder.rglob("Cargo.toml") if "trunkline-python" in path.read_text())
    # Cargo finds all of it, in the versions of the lock file; `.ci/run` builds it.
    resolved = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--manifest-path", manifest],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("CARGO_TARGET")},
    )
    assert resolved.returncode == 0, resolved.stderr
    assert str(PACKAGE.parents[1]) + "/src" not in resolved.stdout
