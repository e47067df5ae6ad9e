"""Connecting, access, closing, outages, events, settings."""

import math
import socket
import threading
import time

import pytest
import trunkline
from conftest import LONG, eventually, make_pair
from trunkline import Access, CloseCode, Config, Connection, Event, Key, Listener, ListenerEvent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_two_sides_talk(loopback):
    loopback.client.sender(1).send("hello")
    assert loopback.server.receiver(1).recv(LONG) == b"hello"
    assert loopback.client.peer_addr == loopback.listener.local_addr == loopback.server.local_addr
    assert loopback.client.rtt > 0
    assert "127.0.0.1" in repr(loopback.client)


@pytest.mark.parametrize("form", ["{0}:{1}", "localhost:{1}", None])
def test_an_address_is_a_text_or_a_pair(loopback, form):
    host, port = loopback.listener.local_addr
    address = form.format(host, port) if form else (host, port)
    Connection.connect(address, loopback.key).close()
    loopback.listener.accept(LONG)


@pytest.mark.parametrize("address", [7, None, ("localhost",), ("localhost", 70_000), b"localhost:1"])
def test_what_is_no_address_is_told(address):
    with pytest.raises(TypeError, match="an address is"):
        Connection.connect(address, Key.generate())


def test_why_there_is_no_connection(loopback):
    with pytest.raises(trunkline.NotAuthorised) as refused:
        Connection.connect(loopback.listener.local_addr, Key.generate())
    assert isinstance(refused.value, PermissionError)
    with pytest.raises(trunkline.ConnectError) as nothing:
        Connection.connect(("127.0.0.1", free_port()), loopback.key)
    assert nothing.value.errno == 111
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak():
            with other.accept()[0] as peer:
                peer.sendall(b"SSH-2.0-other\r\n" * 10)

        threading.Thread(target=speak).start()
        with pytest.raises(trunkline.NotTrunkline):
            Connection.connect(other.getsockname(), loopback.key)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(TimeoutError) as late:
            Connection.connect(silent.getsockname(), Config(loopback.key, connect_timeout=0.2))
        assert isinstance(late.value, trunkline.ConnectError)
    with pytest.raises(trunkline.BindError) as taken:
        Listener(loopback.listener.local_addr, loopback.key)
    assert taken.value.errno == 98
    with pytest.raises(trunkline.PlaintextError):
        Listener("0.0.0.0:0", Config(loopback.key, sealing="never"))
    with pytest.raises(trunkline.SealedOnly), Listener("127.0.0.1:0", Config(loopback.key, sealing="always")) as sealed:
        Connection.connect(sealed.local_addr, Config(loopback.key, sealing="never"))


@pytest.mark.parametrize("sealing", ["auto", "always", "never"])
def test_a_connection_is_sealed_or_not(sealing):
    config = Config(Key.generate(), sealing=sealing)
    with Listener("127.0.0.1:0", config) as listener:
        with Connection.connect(listener.local_addr, config) as client:
            server = listener.accept(LONG)
            assert client.is_sealed == server.is_sealed == (sealing != "never")
            client.sender(1).send(bytes(100_000))
            assert server.receiver(1).recv(LONG) == bytes(100_000)


def test_a_unix_socket_is_given_as_a_path(tmp_path):
    key, path = Key.generate(), tmp_path / "kernel.sock"
    tmp_path.chmod(0o700)
    with Listener(path, key) as listener:
        assert listener.local_addr == path and str(path) in repr(listener)
        with Connection.connect(path, key) as client:
            server = listener.accept(LONG)
            client.sender(1).send("over a file")
            assert server.receiver(1).recv(LONG) == b"over a file"
            assert client.peer_addr is None
        with pytest.raises(trunkline.SocketInUse) as used:
            Listener(path, key)
        assert used.value.path == str(path)
    file = tmp_path / "a file"
    file.write_text("no socket")
    with pytest.raises(trunkline.NotASocket):
        Listener(file, key)
    with pytest.raises(trunkline.ConnectError):
        Connection.connect(tmp_path / "none.sock", key)


def test_a_lazy_connection_waits_for_its_listener():
    key, port = Key.generate(), free_port()
    client = Connection.connect_lazily(("127.0.0.1", port), Config(key, resume_grace=math.inf))
    events = client.events()
    assert client.is_suspended and client.peer_addr is None
    client.sender(1).send("the first job")
    with pytest.raises(trunkline.Suspended):
        client.flush(0.01)
    with Listener(("127.0.0.1", port), key) as listener:
        server = listener.accept(LONG)
        assert isinstance(events.recv(LONG), Event.Resumed)
        client.flush(LONG)
        assert server.receiver(1).recv(LONG) == b"the first job"
        client.close()


def test_a_lazy_connection_to_another_key_is_refused(loopback):
    client = Connection.connect_lazily(loopback.listener.local_addr, Key.generate())
    with pytest.raises(trunkline.Refused) as refused:
        client.receiver(1).recv(LONG)
    assert isinstance(refused.value.handshake, trunkline.NotAuthorised)


def test_a_key_decides_what_its_holder_may_do():
    owner, wall = Key.generate(), Key.generate()
    access = Access(send=[0], receive=range(1, 3), interrupt=False, name="wall", max_connections=1)
    config = Config(owner, access=Access(name="desk"), keys=[(wall, access)])
    with Listener("127.0.0.1:0", config) as listener:
        client = Connection.connect(listener.local_addr, wall)
        server = listener.accept(LONG)
        assert server.access == access and server.access.name == "wall" and client.access is None
        assert (client.may_send, client.may_receive, client.may_interrupt) == ({0}, {1, 2}, False)
        with pytest.raises(trunkline.NotPermitted) as refused:
            client.sender(1)
        assert (refused.value.channel, refused.value.sending) == (1, True)
        with pytest.raises(trunkline.NotPermitted):
            client.receiver(3)
        with pytest.raises(trunkline.InterruptNotPermitted):
            client.interrupt()
        with pytest.raises(trunkline.TooBusy):
            Connection.connect(listener.local_addr, Config(wall, connect_timeout=1))
        listener.remove_key(wall)
        with pytest.raises(trunkline.ConnectionLost) as over:
            client.receiver(1).recv(LONG)
        assert over.value.code == CloseCode.NOT_PERMITTED
        listener.add_key(wall)
        Connection.connect(listener.local_addr, wall).close()
    read_only = Access.read_only([1, 2], name="watcher")
    assert (read_only.send, read_only.receive) == (set(), {1, 2})
    assert not read_only.interrupt and not read_only.take_input
    assert "watcher" in repr(read_only)


def test_a_close_tells_code_and_reason(pair):
    here, there = pair
    here.sender(1).send("the last words")
    here.close(CloseCode.application(3), "out of memory")
    receiver = there.receiver(1)
    assert receiver.recv(LONG) == b"the last words"
    with pytest.raises(trunkline.Finished):
        receiver.recv(LONG)
    with pytest.raises(trunkline.ClosedByPeer) as over:
        receiver.recv(LONG)
    assert (over.value.code, over.value.reason, over.value.fault) == (259, "out of memory", None)
    assert type(there.close_reason) is trunkline.ClosedByPeer
    assert type(here.close_reason) is trunkline.ConnectionClosed
    with pytest.raises(trunkline.ConnectionClosed):
        here.sender(1)


def test_a_with_block_closes_behind_what_was_sent(pair):
    here, there = pair
    with here:
        here.sender(1).send("in the block")
    assert there.receiver(1).recv(LONG) == b"in the block"
    assert there.close_reason.code == CloseCode.NORMAL


def test_a_with_block_that_raises_tells_the_peer(pair):
    here, there = pair
    with pytest.raises(ZeroDivisionError), here:
        1 / 0
    eventually("the end", lambda: there.close_reason is not None)
    assert there.close_reason.code == CloseCode.PANICKED
    assert there.close_reason.reason == "the program raised ZeroDivisionError"


def test_a_with_block_whose_peer_has_closed_ends_quietly(pair):
    here, there = pair
    with here:
        there.close()
        eventually("the end", lambda: here.close_reason is not None)


def test_a_peer_that_takes_nothing_makes_a_close_error():
    here, there = make_pair(window=4096, linger=0.2)
    receiver = there.receiver(1)
    with pytest.raises(trunkline.CloseError) as unsaid, here:
        # The first fills the window; the rest of the second waits for credit that never comes.
        sender = here.sender(1)
        sender.send(bytes(3000))
        sender.writer().write(bytes(60_000) + b"\n")
    assert isinstance(unsaid.value.cause, trunkline.ConnectionLost)
    assert receiver.recv(LONG) == bytes(3000)


def test_the_last_handle_closes_without_waiting(pair):
    here, there = make_pair(linger=LONG)
    here.sender(1).send("sent")
    begin = time.monotonic()
    del here
    assert time.monotonic() - begin < 5
    assert there.receiver(1).recv(LONG) == b"sent"
    eventually("the end", lambda: there.close_reason is not None)


def test_a_sender_keeps_its_connection(pair):
    here, there = make_pair()
    sender = here.sender(1)
    del here
    sender.send("still there")
    assert there.receiver(1).recv(LONG) == b"still there"
    assert there.close_reason is None


def test_detach_and_abandon_return_at_once(pair):
    for let_go in ("detach", "abandon"):
        here, there = make_pair()
        here.sender(1).send("sent")
        getattr(here, let_go)()
        with pytest.raises(trunkline.ConnectionLost):
            here.receiver(2).recv(LONG)
        eventually("the end", lambda there=there: there.close_reason is not None)


def test_events_are_told_and_end_with_the_connection(pair):
    here, there = pair
    events = there.events()
    assert events.try_recv() is None
    with pytest.raises(trunkline.EventTimedOut):
        events.recv(0.01)
    here.sender(9).send("a task begins")
    here.interrupt()
    assert events.recv(LONG) == Event.Opened(9)
    assert events.recv(LONG) == Event.Interrupt()
    here.close(reason="done")
    (over,) = list(events)
    match over:
        case Event.Closed(trunkline.ClosedByPeer(reason=reason)):
            assert reason == "done"
        case other:
            pytest.fail(repr(other))
    with pytest.raises(trunkline.EventsOver):
        events.recv()


def test_a_reader_that_waits_is_an_event(pair):
    here, there = pair
    events = here.events()
    stdin = there.receiver(0).reader(announce=True)
    reads = threading.Thread(target=stdin.readline)
    reads.start()
    assert events.recv(LONG) == Event.Waiting(channel=0, waiting=True, taken=0)
    sender = here.sender(0)
    assert sender.peer_is_waiting
    # It goes on waiting, and says so once: not again with each look at the signals.
    time.sleep(0.3)
    assert events.try_recv() is None
    sender.send("answer\n")
    reads.join(LONG)


def test_a_main_thread_that_waits_is_told_once(pair):
    here, there = pair
    stdin = there.receiver(0).reader(announce=True)
    told = []

    def watch():
        for event in here.events():
            told.append(event)

    watches = threading.Thread(target=watch)
    watches.start()
    threading.Timer(0.5, lambda: here.sender(0).send("answer\n")).start()
    assert stdin.readline() == b"answer\n"
    here.close()
    watches.join(LONG)
    assert sum(isinstance(event, Event.Waiting) for event in told) <= 2


def test_a_listener_tells_who_was_turned_away(loopback):
    events = loopback.listener.events()
    with pytest.raises(trunkline.NotAuthorised):
        Connection.connect(loopback.listener.local_addr, Key.generate())
    event = events.recv(LONG)
    assert isinstance(event, ListenerEvent.TurnedAway)
    assert isinstance(event.error, trunkline.NotAuthorised)
    assert (event.peers, event.last[0]) == (1, "127.0.0.1")
    assert event.text.startswith("turned away 1 peer")
    loopback.listener.close()
    assert [type(event) for event in events] == [ListenerEvent.Closed]


def test_accepting(loopback):
    listener = loopback.listener
    assert listener.try_accept() is None
    with pytest.raises(trunkline.AcceptTimedOut):
        listener.accept(0.01)
    threading.Timer(0.1, lambda: Connection.connect(listener.local_addr, loopback.key).detach()).start()
    for connection in listener:
        assert connection.access is not None
        break
    threading.Timer(0.1, listener.close).start()
    assert [connection for connection in listener] == []
    with pytest.raises(trunkline.ListenerClosed):
        listener.accept()


def test_stats_count(pair):
    here, there = pair
    here.sender(1).send("three")
    here.flush(LONG)
    stats = there.stats()
    assert (stats.messages_received, stats.channels[0].unread_bytes, stats.held >= 37) == (1, 5, True)
    assert here.stats().channels[0].messages_sent == 1


def test_settings_are_checked_and_named():
    key = Key.generate()
    for settings, credit in (({"preset": "interactive"}, 256 << 10), ({"preset": "bulk", "window": 8192}, 8192)):
        here, _there = Connection.pair(Config(key, **settings))
        assert here.sender(1).credit == credit
    every = Config(
        key, window=8192, max_message=100, max_assembly=1, max_unread=1, send_queue=8192, replay_limit=1 << 20,
        handshake_timeout=1, connect_timeout=1.5, linger=0.5, resume_grace=math.inf, local_grace=0,
        pending_handshakes=1, backlog=1, max_connections=1, allow_plaintext=False, heartbeat=(1, 2),
        max_suspended=(1, 1),
    )  # fmt: skip
    Connection.pair(every)
    Connection.pair(Config(key, heartbeat=None))
    with pytest.raises(trunkline.OutOfRangeError, match="`window` is 10"):
        Connection.pair(Config(key, window=10))
    with pytest.raises(trunkline.HeartbeatError):
        Connection.pair(Config(key, heartbeat=(2, 3)))
    with pytest.raises(trunkline.DuplicateKeyError):
        Listener("127.0.0.1:0", Config(key, keys=[(key, Access())]))
    with pytest.raises(TypeError, match="no_such_thing: there is no such setting"):
        Config(key, no_such_thing=1)
    with pytest.raises(ValueError, match="linger: a time"):
        Config(key, linger=-1)
    with pytest.raises((ValueError, TypeError), match="window"):
        Config(key, window=-1)
    with pytest.raises(ValueError, match=r'sealing: .*not "sometimes"'):
        Config(key, sealing="sometimes")
    with pytest.raises(ValueError, match="preset"):
        Config(key, preset="fast")
    with pytest.raises(TypeError, match="a Key or a Config"):
        Connection.pair("5e" * 32)


def test_close_codes():
    assert CloseCode.application(0) == 256
    for number in (-1, 65279):
        with pytest.raises(ValueError, match="0 to 65278"):
            CloseCode.application(number)
