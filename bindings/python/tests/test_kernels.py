"""`trunkline.Kernels`: several real kernels at one client."""

import os
import signal
import subprocess
import time

import pytest
from conftest import eventually, run
from kernels import is_running, kernel
from trunkline import Kernels, Key, NotPermitted

LONG = 10


@pytest.fixture(scope="module")
def three():
    with Kernels() as kernels:
        kernels.start("a", "b", "c")
        yield kernels


@pytest.fixture
def kernels():
    with Kernels() as kernels:
        yield kernels


def states(results):
    return {name: result.state for name, result in results.items()}


def test_a_cell_runs_on_all_or_on_some_and_each_gives_its_own_result(three):
    pids = three.run("import os, sys, time\nos.getpid()", timeout=LONG)
    assert states(pids) == {"a": "done", "b": "done", "c": "done"}
    assert len({int(result.stdout) for result in pids.values()}) == 3
    assert list(three.run("x = 5", "b", "a", "b", timeout=LONG)) == ["b", "a"]
    results = three.run("x", timeout=LONG)
    assert states(results) == {"a": "done", "b": "done", "c": "failed"}
    assert results["a"].stdout == "5\n" and "NameError" in results["c"].stderr
    assert states(three.run("1", timeout=LONG)) == dict.fromkeys("abc", "done")
    with pytest.raises(KeyError):
        three.run("1", "nobody")


def test_blocks_lines_and_statements_without_an_end_are_cells(three):
    assert three.run("for i in range(3):\n    print(i)", "a", timeout=LONG)["a"].stdout == "0\n1\n2\n"
    assert three.run("if True: print('one')", "a", timeout=LONG)["a"].stdout == "one\n"
    result = three.run("f(1,", "a", timeout=LONG)["a"]
    assert (result.state, result.why) == ("failed", "the cell has no end, so it was not run")
    assert "SyntaxError" in three.run("1 +* 2", "a", timeout=LONG)["a"].stderr
    assert three.run("def f():\n\n    return 3\nf()", "a", timeout=LONG)["a"].stdout == "3\n"
    assert states(three.run("", timeout=LONG)) == dict.fromkeys("abc", "done")


def test_output_comes_before_a_cell_is_over(three, tmp_path):
    go = tmp_path / "go"
    code = f"import os, time\nprint('begun')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n'end'"
    said = three.stream(code, timeout=LONG)
    assert {(each.name, each.kind, each.text) for each in (next(said), next(said), next(said))} == {
        (name, "stdout", "begun\n") for name in "abc"
    }
    go.touch()
    rest = list(said)
    assert sorted((each.name, each.kind) for each in rest) == sorted(
        [(name, "stdout") for name in "abc"] + [(name, "done") for name in "abc"]
    )


def test_what_is_left_runs_on_and_is_not_taken_for_the_next(three):
    said = three.stream("print('first')\nimport time; time.sleep(0.2)\nprint('late')", timeout=LONG)
    next(said)
    said.close()
    # What it still says is not kept for it.
    assert [cell.stream for name in "abc" for cell in three._kernels[name].cells] == [None] * 3
    assert [result.stdout for result in three.run("print('second')", timeout=LONG).values()] == ["second\n"] * 3


def test_several_streams_get_each_its_own(three):
    one, two = three.stream("print('one')", timeout=LONG), three.stream("print('two')", timeout=LONG)
    first = next(one)
    assert sorted(said.text for said in two if said.kind == "stdout") == ["two\n"] * 3
    assert [first.text, *(said.text for said in one if said.kind == "stdout")] == ["one\n"] * 3


def test_time_that_is_up_leaves_the_others_results(three):
    code = "import os, time\nif x_waits: time.sleep(1000)\n'over'"
    three.run("x_waits = False", timeout=LONG)
    three.run("x_waits = True", "b", timeout=LONG)
    results = three.run(code, timeout=1)
    assert results["b"].state == "unfinished"
    three.interrupt("b")
    assert three.run("1", "b", timeout=LONG)["b"].stdout == "1\n"
    with pytest.raises(TimeoutError, match="1 of 1 kernels"):
        list(three.stream("while True: pass", "a", timeout=0.1))
    three.interrupt()
    assert states(three.run("2", timeout=LONG)) == dict.fromkeys("abc", "done")


def test_what_is_kept_has_a_bound(three):
    code = "class P:\n    def _repr_png_(self): return b'x' * 600\nprint('x' * 700)\nP()"
    result = three.run(code, "a", keep=1000, timeout=LONG)["a"]
    assert (result.state, len(result.stdout), result.pictures, result.left_out) == ("done", 701, [], 600)
    result = three.run(code, "a", keep=100, timeout=LONG)["a"]
    assert (len(result.stdout), result.left_out) == (100, 601 + 600)
    (picture,) = three.run(code, "a", timeout=LONG)["a"].pictures
    assert (picture.mime, len(picture.body)) == ("image/png", 600)


def test_a_progress_bar_is_for_terminals_or_when_it_is_asked_for(three, capfd):
    three.run("1", timeout=LONG)
    assert capfd.readouterr().err == ""
    three.run("1", timeout=LONG, progress=True)
    assert capfd.readouterr().err.endswith(f"[{'#' * 30}] 3/3 kernels\n")


def test_the_death_of_one_is_told_and_the_others_go_on(kernels):
    kernels.start(*"abcd")
    code = "import os, signal, sys, time\nprint('begun', flush=True)\nwhat()"
    kernels.run("def what(): return 7", timeout=LONG)
    kernels.run("def what(): os.kill(os.getpid(), signal.SIGKILL)", "b", timeout=LONG)
    kernels.run("def what(): sys.exit(3)", "c", timeout=LONG)
    results = kernels.run(code, timeout=LONG)
    assert states(results) == {"a": "done", "b": "dead", "c": "dead", "d": "done"}
    assert results["b"].why == "the kernel has killed KILL" and results["c"].why == "the kernel has exited 3"
    assert results["b"].stdout == "begun\n" and results["a"].stdout == "begun\n7\n"
    assert set(kernels.dead) == {"b", "c"}
    assert states(kernels.run("1", timeout=LONG)) == {"a": "done", "b": "dead", "c": "dead", "d": "done"}
    # Its name is free when it is ended.
    with pytest.raises(ValueError, match="a kernel b already"):
        kernels.start("b")
    kernels.end("b", "c")
    kernels.start("b")
    assert states(kernels.run("1", timeout=LONG)) == {"a": "done", "d": "done", "b": "done"}


def test_a_host_that_is_killed_is_dead_too(kernels):
    kernels.start("a", "b")
    kernels.run("import os", timeout=LONG)
    host = int(kernels.run("os.getppid()", "b", timeout=LONG)["b"].stdout)
    said = kernels.stream("import time; time.sleep(1000)", "b", timeout=LONG)
    os.kill(host, signal.SIGKILL)
    assert [each.kind for each in said][-1] == "dead"
    assert kernels.run("2", "a", timeout=LONG)["a"].stdout == "2\n"


def test_kernels_elsewhere_are_used_and_left_running(tmp_path, kernels):
    with kernel(tmp_path) as other:
        kernels.connect("other", other.address, other.key)
        kernels.start("own")
        assert [result.stdout for result in kernels.run("6 * 7", timeout=LONG).values()] == ["42\n"] * 2
        console = other.console()
        console.take_input()
        result = kernels.run("1", timeout=LONG)["other"]
        assert result.state == "refused" and "take_input() takes it" in result.why
        # That was heard already, and is not told again.
        kernels.run("1", "own", timeout=LONG)
        assert kernels.run("1", "other")["other"].state == "refused"
        kernels.take_input("other")
        assert states(kernels.run("1", timeout=LONG)) == {"other": "done", "own": "done"}
        kernels.close()
        assert other.process.poll() is None


def test_no_process_stays(tmp_path):
    with Kernels() as kernels:
        kernels.start("a", "b")
        results = kernels.run("import os\nprint(os.getpid(), os.getppid())", timeout=LONG)
        pids = [int(pid) for result in results.values() for pid in result.stdout.split()]
        assert all(is_running(pid) for pid in pids)
    eventually("their ends", lambda: not any(is_running(pid) for pid in pids))


def test_one_that_does_not_start_ends_the_others_of_its_call(kernels, capfd):
    begin = time.monotonic()
    with pytest.raises(ChildProcessError, match="kernel x did not start"):
        kernels.start("x", "y", options=["--no-such-option"])
    assert kernels.names == [] and time.monotonic() - begin < LONG
    assert "--no-such-option" in capfd.readouterr().err


def test_what_has_started_ends_if_another_of_its_call_does_not_start(kernels, monkeypatch, capfd):
    started, popen = [], subprocess.Popen

    def second_fails(command, **options):
        started.append(popen([*command, *(["--no-such-option"] if len(started) == 1 else [])], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", second_fails)
    with pytest.raises(ChildProcessError, match="kernel y did not start"):
        kernels.start("x", "y", "z")
    assert kernels.names == [] and all(process.poll() is not None for process in started)
    monkeypatch.undo()
    kernels.start("x")
    assert kernels.run("5", timeout=LONG)["x"].stdout == "5\n"


def test_a_key_that_may_only_watch_is_refused(tmp_path, kernels):
    watch = Key.generate()
    watch.write_new_file(tmp_path / "watch.key")
    with kernel(tmp_path, "--watch-key-file", str(tmp_path / "watch.key")) as other:
        with pytest.raises(NotPermitted, match="may not send on channel 0"):
            kernels.connect("watched", other.address, watch)
        assert kernels.names == []


def test_ctrl_c_interrupts_the_cells_and_gives_the_results():
    ended = run("""
        import os, signal, threading
        from trunkline import Kernels
        with Kernels() as kernels:
            kernels.start("a", "b", "c")
            kernels.run("import time")
            def press():
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGINT)
            import time
            threading.Thread(target=press).start()
            results = kernels.run("print('begun')\\ntime.sleep(1000)")
            for each in results.values():
                print(each.name, each.state, each.stdout.strip(), "KeyboardInterrupt" in each.stderr)
            print(kernels.run("40 + 2", "a")["a"].stdout, end="")
            # A second one is the caller's, and the kernels can be used.
            kernels.run("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
            def press_twice():
                press()
                press()
            threading.Thread(target=press_twice).start()
            try: kernels.run("time.sleep(3)")
            except KeyboardInterrupt: print("interrupted")
            print(kernels.run("6 * 7", "b")["b"].stdout, end="")
    """)
    expected = "".join(f"{name} failed begun True\n" for name in "abc")
    assert (ended.status, ended.out) == (0, f"{expected}42\ninterrupted\n42\n"), ended.err
