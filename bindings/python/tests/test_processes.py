"""Forks, `multiprocessing`, the end of the interpreter, and what stays in its process."""

import copy
import os
import pickle
import signal
import sys
import threading
import time

import pytest
import trunkline
from conftest import LONG, dead_peer, eventually, make_pair, run
from trunkline import Access, Config, Connection, Key, Listener

EXITS = int(os.environ.get("TRUNKLINE_EXITS", "15"))


def in_child(check) -> None:
    """Runs a check in a forked child."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    until = time.monotonic() + LONG
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_fails_clearly_and_its_parent_goes_on(loopback):
    client, server, listener = loopback.client, loopback.server, loopback.listener
    sender, receiver = client.sender(1), server.receiver(1)
    reader, writer = server.receiver(2).reader(), client.sender(2).writer()
    events, listener_events = client.events(), listener.events()
    interrupter = receiver.interrupter()
    # A thread of the parent's that waits with the receiver, and one with the reader.
    got = []
    waits = [
        threading.Thread(target=lambda: got.append(bytes(receiver.recv()))),
        threading.Thread(target=lambda: got.append(reader.readline())),
    ]
    for wait in waits:
        wait.start()
    time.sleep(0.02)

    def check():
        calls = [
            lambda: sender.send("x"),
            lambda: sender.try_send("x"),
            sender.finish,
            lambda: sender.credit,
            lambda: sender.writer(),
            receiver.recv,
            receiver.try_recv,
            receiver.recv_many,
            receiver.recv_any,
            lambda: receiver.recv(0.1),
            lambda: next(receiver),
            lambda: len(receiver),
            receiver.reader,
            receiver.stop,
            lambda: reader.read(1),
            reader.pending,
            lambda: writer.write(b"x"),
            events.recv,
            events.try_recv,
            listener_events.recv,
            listener.accept,
            listener.try_accept,
            lambda: client.sender(3),
            lambda: client.receiver(3),
            client.flush,
            client.close,
            client.detach,
            client.stats,
            client.events,
            client.interrupt,
            lambda: client.may_send,
            lambda: client.is_suspended,
        ]
        for call in calls:
            with pytest.raises(trunkline.Forked, match="make a new connection after the fork"):
                call()
        assert type(client.close_reason) is trunkline.Forked
        assert sender.closed and receiver.closed
        for quiet in (interrupter.interrupt, sender.close, receiver.close, reader.close, writer.close, listener.close):
            quiet()
        assert "another process" in repr(client)
        # A connection of its own works.
        with Connection.connect(loopback.listener.local_addr, loopback.key) as own:
            own.sender(1).send("from the child")

    in_child(check)
    with listener.accept(LONG) as other:
        assert other.receiver(1).recv(LONG) == b"from the child"
    sender.send("from the parent")
    writer.write(b"a line\n")
    for wait in waits:
        wait.join(LONG)
    assert sorted(got) == [b"a line\n", b"from the parent"]


def test_the_standard_streams_of_a_forked_child_are_closed_quietly():
    # As `multiprocessing` does it: the child's streams are the parent's channels.
    ended = run(
        """
        from conftest import *
        import io, multiprocessing, warnings
        warnings.simplefilter("ignore")
        here, there = make_pair()
        typed, printed, real = there.sender(0), there.receiver(1), sys.stdout
        sys.stdin = io.TextIOWrapper(here.receiver(0).reader())
        sys.stdout = io.TextIOWrapper(here.sender(1).writer(), write_through=True)
        print("half a", end="")
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=time.sleep, args=(0,))
        worker.start()
        worker.join(30)
        print(" line")
        typed.send("typed\\n")
        assert input() == "typed"
        # The parent's part of the line was flushed before the fork.
        assert printed.recv(10) == b"half a" and printed.recv(10) == b" line\\n"
        print(worker.exitcode, file=real)
        """
    )
    assert (ended.status, ended.out, ended.err) == (0, "0\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_that_ends_as_usual_hangs_not_and_closes_nothing():
    ended = run(
        """
        from conftest import *
        import threading, warnings
        warnings.simplefilter("ignore")
        here, there = make_pair()
        receiver, sender = there.receiver(1), here.sender(1)
        threading.Thread(target=receiver.recv, daemon=True).start()
        time.sleep(0.1)
        child = os.fork()
        if child == 0:
            sys.exit(7)  # through the exit handlers
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), here.close_reason)
        """
    )
    assert (ended.status, ended.out, ended.err) == (0, "7 None\n", "")


def test_a_fork_where_warnings_are_errors():
    code = """
        import os, sys
        import trunkline
        # To import the package starts no thread, so a fork warns of none.
        if not os.fork():
            os._exit(0)
        os.wait()
        assert len(os.listdir("/proc/self/task")) == 1
        here, there = trunkline.Connection.pair(trunkline.Key.generate())
        # With a connection there is a thread, and from 3.12 on CPython says so in the parent. It is true, and
        # the child may do all but use the connection.
        child = os.fork()
        if not child:
            try:
                here.sender(1)
            except trunkline.Forked:
                os._exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), here.close_reason)
    """
    ended = run(code, options=("-W", "error"))
    assert (ended.status, ended.out) == (0, "5 None\n")
    if sys.version_info < (3, 12):
        assert ended.err == ""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path):
    # A worker makes a connection of its own; what it is given is an address and a key.
    (tmp_path / "pool_program.py").write_text(
        """
import multiprocessing, sys, warnings
from trunkline import Connection, Key, Listener

def work(port, hex, number):
    with Connection.connect(("127.0.0.1", port), Key(hex)) as connection, connection.sender(1) as sender:
        sender.send(f"worker {number}")
    return number * number

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    key = Key.generate()
    context = multiprocessing.get_context(sys.argv[1])
    with Listener("127.0.0.1:0", key) as listener:
        # There is a connection before, so the parent has its thread.
        Connection.pair(key)
        with context.Pool(3) as pool:
            results = pool.starmap_async(work, [(listener.local_addr[1], key.expose_hex(), n) for n in range(6)])
            # Kept until the workers are done: a peer that closes first confirms nothing.
            connections = [listener.accept(30) for _ in range(6)]
            got = sorted(bytes(each.receiver(1).recv(30)).decode() for each in connections)
            print(results.get(30), got == [f"worker {n}" for n in range(6)])
            pool.close()
            pool.join()
"""
    )
    import subprocess

    ended = subprocess.run(
        [sys.executable, tmp_path / "pool_program.py", method], capture_output=True, text=True, timeout=LONG
    )
    assert (ended.returncode, ended.stdout) == (0, "[0, 1, 4, 9, 16, 25] True\n"), ended.stderr
    assert ended.stderr == ""


def test_daemon_threads_that_wait_at_the_end_do_no_harm():
    code = """
        from conftest import *
        import threading, time
        here, there = make_pair(window=4096)
        receivers = [there.receiver(number) for number in range(4)]
        reader = there.receiver(5).reader()
        events = there.events()
        listener = Listener("127.0.0.1:0", Key.generate())
        def fill():
            while True:
                here.sender(7).send(bytes(1000))
        waits = [receivers[number % 4].recv for number in range(8)]
        waits += [receivers[number].recv_many for number in range(4)]
        waits += [reader.readline, events.recv, listener.accept, fill]
        for wait in waits:
            threading.Thread(target=wait, daemon=True).start()
        if float(sys.argv[1]):
            time.sleep(float(sys.argv[1]))
        # Some come back in the moment in which the interpreter ends.
        senders = [here.sender(number) for number in range(4)]
        for sender in senders:
            sender.try_send("last")
        print("over")
    """
    for number in range(EXITS):
        ended = run(code, str([0, 0.005, 0.1][number % 3]))
        assert (ended.status, ended.out, ended.err) == (0, "over\n", ""), number
        assert ended.seconds < 10


def test_what_was_sent_arrives_though_the_program_just_ends():
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        code = """
            import sys
            from trunkline import Connection, Key
            connection = Connection.connect(("127.0.0.1", int(sys.argv[1])), Key(sys.argv[2]))
            sender = connection.sender(1)
            for number in range(1000):
                sender.send(number.to_bytes(4, "big") * 100)
            {end}
        """
        for end in ("", "sys.exit(3)", "1 / 0", "del connection, sender"):
            results = []
            program_ends = threading.Thread(
                target=lambda end=end, results=results: results.append(
                    run(code.format(end=end), str(listener.local_addr[1]), key.expose_hex())
                )
            )
            program_ends.start()
            receiver = listener.accept(LONG).receiver(1)
            for number in range(1000):
                assert receiver.recv(LONG) == number.to_bytes(4, "big") * 100
            with pytest.raises((trunkline.ClosedByPeer, trunkline.Finished)):
                receiver.recv(LONG)
            program_ends.join(LONG)
            assert results[0].status == {"": 0, "sys.exit(3)": 3, "1 / 0": 1}.get(end, 0)


def test_shutdown_before_a_hard_exit_loses_nothing():
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        code = """
            import os, sys, trunkline
            connection = trunkline.Connection.connect(("127.0.0.1", int(sys.argv[1])), trunkline.Key(sys.argv[2]))
            connection.sender(1).send(bytes(500_000))
            assert trunkline.shutdown(30)
            os._exit(4)
        """
        results = []
        ends = threading.Thread(target=lambda: results.append(run(code, str(listener.local_addr[1]), key.expose_hex())))
        ends.start()
        receiver = listener.accept(LONG).receiver(1)
        assert receiver.recv(LONG) == bytes(500_000)
        ends.join(LONG)
        assert results[0].status == 4


@pytest.mark.parametrize("how", ["dropped", "held", "in a cycle", "by a writer"])
def test_the_end_waits_less_than_two_seconds_for_a_dead_peer(how):
    let_go = {
        "dropped": "del dead, sender",
        "held": "pass",
        "in a cycle": "cycle = [dead, sender]; cycle.append(cycle); del dead, sender, cycle",
        "by a writer": "writer = sender.writer(); writer.write(b'not a whole line')",
    }[how]
    ended = run(
        f"""
        from conftest import *
        import time, atexit
        context = dead_peer(linger=60)
        dead = context.__enter__()
        sender = dead.sender(1)
        sender.send(bytes(3000))
        # Leaves without the helper's cleaning up, which is after the end that is measured.
        peer = context.gen.gi_frame.f_locals["process"].pid
        begin = time.monotonic()
        {let_go}
        assert time.monotonic() - begin < 1
        print(peer, time.monotonic(), flush=True)
        sys.stderr = None
        os.register_at_fork  # the end begins here
        """
    )
    peer, begin = ended.out.split()
    try:
        os.kill(int(peer), signal.SIGKILL)
    except ProcessLookupError:
        pass
    assert ended.status == 0, ended
    assert time.monotonic() - float(begin) < 4


def test_letting_go_of_many_connections_to_dead_peers_takes_no_time():
    with dead_peer(linger=60) as dead:
        sender = dead.sender(1)
        sender.send(bytes(3000))
        begin = time.monotonic()
        writer = sender.writer()
        writer.write(b"no whole line")
        del sender, writer
        # The fixture still holds `dead`; its senders are gone, and nothing waited.
        assert time.monotonic() - begin < 2


def test_a_subinterpreter_is_refused():
    ended = run(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import trunkline
        other = interpreters.create()
        error = None
        try:
            error = interpreters.run_string(other, "import trunkline")
        except BaseException as raised:
            error = raised
        print("subinterpreter" in str(getattr(error, "msg", error)), error, flush=True)
        # The first interpreter goes on.
        here, there = trunkline.Connection.pair(trunkline.Key.generate())
        here.sender(1).send("x")
        assert there.receiver(1).recv(10) == b"x"
        """
    )
    assert ended.status == 0, ended.err
    assert ended.out.startswith("True"), ended


def test_what_belongs_to_its_process_is_neither_pickled_nor_copied(pair):
    here, there = pair
    here.sender(9).send("x")
    key = Key.generate()
    things = [
        here,
        here.sender(1),
        here.events(),
        there.receiver(1),
        there.receiver(2).reader(),
        here.sender(2).writer(),
        there.receiver(9).recv(LONG),
        here.sender(1).interrupter(),
        Listener("127.0.0.1:0", key),
        Listener("127.0.0.1:0", key).events(),
        key,
        Access(),
        Config(key),
    ]
    for thing in things:
        for how in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"a {type(thing).__name__} cannot be pickled or copied: "):
                how(thing)


def test_handles_take_weak_references(pair):
    import weakref

    here, there = pair
    for handle in (here, here.sender(1), there.receiver(1), here.events(), here.sender(2).writer()):
        assert weakref.ref(handle)() is handle


def test_the_peer_of_a_killed_program_hears_of_it():
    key = Key.generate()
    with Listener("127.0.0.1:0", Config(key, resume_grace=0.2)) as listener:
        code = """
            import os, signal, sys, trunkline
            connection = trunkline.Connection.connect(("127.0.0.1", int(sys.argv[1])), trunkline.Key(sys.argv[2]))
            connection.sender(1).send("the last words")
            connection.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
        ends = threading.Thread(target=lambda: run(code, str(listener.local_addr[1]), key.expose_hex()))
        ends.start()
        server = listener.accept(LONG)
        receiver = server.receiver(1)
        assert receiver.recv(LONG) == b"the last words"
        with pytest.raises((trunkline.ConnectionLost, trunkline.Finished)):
            receiver.recv(LONG)
        eventually("the end", lambda: server.close_reason is not None)
        ends.join(LONG)
        assert make_pair()
