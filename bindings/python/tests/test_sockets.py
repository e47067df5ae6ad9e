"""Sockets that a program has made by itself, who is at the other end, and what a relay asks."""

import asyncio
import os
import socket
import threading

import pytest
from conftest import LONG, make_pair, run
from trunkline import (
    Access,
    Config,
    Connection,
    Gap,
    HandshakeError,
    Key,
    Listener,
    RecvTimedOut,
)


def test_a_pair_of_sockets_becomes_a_connection():
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        one, two = socket.socketpair()
        listener.adopt(one)
        assert one.fileno() == -1
        with Connection.from_socket(two, key) as client, listener.accept(LONG) as server:
            assert two.fileno() == -1
            client.sender(1).send("hello")
            assert server.receiver(1).recv(LONG).decode() == "hello"
        tcp = socket.create_connection(listener.local_addr)
        with Connection.from_socket(tcp, key) as client, listener.accept(LONG) as server:
            server.sender(1).send("over TCP")
            assert client.receiver(1).recv(LONG).decode() == "over TCP"


def test_a_socket_that_is_none_is_refused_and_a_wrong_key_too():
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        with pytest.raises(TypeError):
            listener.adopt(7)
        datagrams = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for each in datagrams:
            with pytest.raises(ValueError, match="neither"):
                listener.adopt(each)
            assert each.fileno() >= 0
            each.close()
        one, two = socket.socketpair()
        one.close()
        with pytest.raises(ValueError, match="closed"):
            listener.adopt(one)
        with pytest.raises(ValueError, match="closed"):
            Connection.from_socket(one, key)
        two.close()
        one, two = socket.socketpair()
        listener.adopt(one)
        with pytest.raises(HandshakeError):
            Connection.from_socket(two, Key.generate())


def test_ctrl_c_ends_a_handshake_that_nobody_answers():
    ended = run("""
        import os, signal, socket, threading, time
        from trunkline import Config, Connection, Key
        one, two = socket.socketpair()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        try: Connection.from_socket(one, Config(Key.generate(), handshake_timeout=20))
        except KeyboardInterrupt: print("interrupted", time.monotonic() - begin < 5)
    """)
    assert (ended.status, ended.out) == (0, "interrupted True\n"), ended.err


def test_a_listener_tells_its_clients_and_a_unix_socket_its_process(tmp_path):
    key = Key.generate()
    config = Config(key, access=Access(receive=range(128), send=range(128), name="desk"))
    with Listener(tmp_path / "socket", config) as listener:
        assert listener.sessions() == []
        with Connection.connect(tmp_path / "socket", key) as client, listener.accept(LONG) as server:
            (session,) = listener.sessions()
            assert session.access.name == "desk" and not session.suspended and 0 <= session.age < LONG
            assert session.peer_addr is None and session.sealed == server.is_sealed
            for pid in (session.peer_pid, server.peer_pid, client.peer_pid):
                # An old system does not tell.
                assert pid in (os.getpid(), None)
    here, there = make_pair()
    assert here.peer_pid is None
    here.abandon()
    there.abandon()


def test_the_newest_of_what_is_there(pair):
    here, there = pair
    sender, receiver = here.sender(1), there.receiver(1)
    for percent in (10, 20, 30):
        sender.send(f"{percent} %")
    here.flush(LONG)
    assert receiver.recv_latest().decode() == "30 %" and len(receiver) == 0
    with pytest.raises(RecvTimedOut):
        receiver.recv_latest(0.05)
    threading.Timer(0.1, sender.send, ("late",)).start()
    assert receiver.recv_latest(LONG).decode() == "late"
    # It stops before a gap, which comes next.
    sender.send("before")
    sender.gap(3, 30)
    sender.send("after")
    here.flush(LONG)
    assert receiver.recv_latest().decode() == "before"
    with pytest.raises(Gap):
        receiver.recv_latest()
    assert asyncio.run(receiver.recv_latest_async()).decode() == "after"


def test_the_rest_of_a_run_is_skipped_and_the_next_stays(pair):
    here, there = pair
    receiver = there.receiver(1)
    for question in ("first", "second"):
        with here.sender(1) as sender:
            sender.send(question)
            sender.send("more of it")
    here.flush(LONG)
    assert receiver.recv(LONG).decode() == "first"
    receiver.skip_run(1, 3)
    assert receiver.discarded(1) == 1
    assert receiver.recv(LONG).decode() == "second"


def test_the_newest_are_taken_back_while_the_peer_takes_nothing():
    here, there = make_pair(window=4096)
    sender = here.sender(1)
    receiver = there.receiver(1)
    assert not sender.waits_for_peer and sender.staged == 0
    count = 0
    while not sender.waits_for_peer:
        sender.send(b"x" * 1000, timeout=LONG)
        count += 1
        assert count < 100
    sent = sender.discard_newest(1)
    assert sent in (0, 1)
    sender.gap(1, 1)
    got = 0
    try:
        while True:
            assert bytes(receiver.recv(LONG)) == b"x" * 1000
            got += 1
    except Gap:
        assert got == count - sent
    here.abandon()
    there.abandon()


def test_these_calls_of_a_closed_receiver_say_so(pair):
    here, there = pair
    receiver = there.receiver(1)
    receiver.close()
    for call in (lambda: receiver.skip_run(1), lambda: receiver.discarded(1), receiver.recv_latest):
        with pytest.raises(ValueError, match="closed"):
            call()
