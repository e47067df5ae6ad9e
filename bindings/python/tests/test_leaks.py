"""Nothing is kept: neither Python's objects nor the library's memory."""

import asyncio
import gc
import io
import itertools
import sys
import tracemalloc
import weakref

import pytest
import trunkline
from conftest import LONG, make_pair, resident
from trunkline import Connection, Key, Listener, Message, Sender


def grows(work, rounds: int) -> tuple[int, int]:
    """How many bytes Python and the whole process hold more after so many rounds.

    The least of three times: tables that grow once in a while are no leak, and a leak is there each time.
    """
    tracemalloc.start()
    try:
        python, process = [], []
        for _ in range(4):
            for _ in range(rounds // 3):
                work()
            gc.collect()
            python.append(tracemalloc.get_traced_memory()[0])
            process.append(resident())
        return tuple(3 * min(b - a for a, b in itertools.pairwise(each)) for each in (python, process))
    finally:
        tracemalloc.stop()


def messages():
    here, there = PAIR
    for size in (4, 100, 20_000):
        SENDER.send(bytes(size))
        message = RECEIVER.recv(LONG)
        assert memoryview(message)[0] == 0 and hash(message) and message == bytes(size)
        SENDER.send(message)
        (again,) = RECEIVER.recv_many()
        assert again.decode(errors="replace")


def errors():
    here, there = PAIR
    for call in (
        lambda: RECEIVER.recv(0),
        lambda: here.sender(999),
        lambda: Key("no key"),
        lambda: there.receiver(1),
        lambda: SENDER.send(7),
        lambda: SENDER.send(bytes(17 << 20)),
        lambda: here.flush(-1),
    ):
        with pytest.raises((trunkline.Error, ValueError, TypeError)):
            call()
    trunkline._trunkline._every_error()


def events():
    here, there = PAIR
    events = there.events()
    here.interrupt()
    assert events.recv(LONG)
    assert events.try_recv() is None
    here.stats()


def streams():
    here, there = PAIR
    # First: a receiver that is gone refuses a run that begins before the next receiver is there.
    lines = io.TextIOWrapper(there.receiver(5).reader())
    text = io.TextIOWrapper(here.sender(5).writer(), write_through=True)
    print("a line", file=text)
    assert lines.readline() == "a line\n"
    RECEIVER.interrupter().interrupt()
    RECEIVER.clear_interrupt()


def connections():
    here, there = make_pair()
    with here:
        here.sender(1).send(bytes(5000))
        there.receiver(1).recv(LONG)
    here, there = make_pair()
    here.sender(1).send("left unread")
    cycle = [here, there]
    cycle.append(cycle)


def listeners():
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        client = Connection.connect(listener.local_addr, key)
        server = listener.accept(LONG)
        client.abandon()
        server.abandon()


def tasks():
    async def main():
        wait = asyncio.create_task(RECEIVER.recv_async())
        await asyncio.sleep(0)
        await SENDER.send_async("x")
        await wait
        given_up = asyncio.create_task(RECEIVER.recv_async())
        await asyncio.sleep(0)
        given_up.cancel()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def shared_pair():
    global PAIR, SENDER, RECEIVER
    PAIR = make_pair()
    SENDER, RECEIVER = PAIR[0].sender(1), PAIR[1].receiver(1)
    yield
    del PAIR, SENDER, RECEIVER


@pytest.mark.parametrize(
    ("work", "rounds"),
    [
        (messages, 3000),
        (errors, 900),
        (events, 3000),
        (streams, 1500),
        (connections, 600),
        (listeners, 300),
        (tasks, 900),
    ],
)
def test_nothing_is_kept(work, rounds):
    python, process = grows(work, rounds)
    # An object for each round would be 50 bytes and more; a message, a connection or a stack a thousand.
    assert python < rounds * 25, (python, process)
    assert process < 1_000_000 + rounds * 100, (python, process)


def test_references_are_counted_right():
    here, there = PAIR
    data, text = bytes(range(200)), "tëxt" * 20
    handles = [here, there, SENDER, RECEIVER, data, text, None, Message, Sender]
    before = [sys.getrefcount(each) for each in handles]
    for _ in range(100):
        SENDER.send(data)
        SENDER.try_send(text)
        with here.sender(2), there.receiver(2) as receiver:
            assert receiver.try_recv() is None
        assert iter(RECEIVER) is RECEIVER
        RECEIVER.recv_many(timeout=LONG)
        with pytest.raises(TimeoutError):
            while True:
                RECEIVER.recv(0.0)
        assert here.close_reason is None
    gc.collect()
    after = [sys.getrefcount(each) for each in handles]
    # None is everywhere; on later interpreters it is not counted.
    assert all(abs(b - a) <= (50 if each is None else 0) for each, a, b in zip(handles, before, after, strict=True))


def test_a_handle_in_a_cycle_is_collected():
    here, _ = make_pair()

    class Holder:
        pass

    holder = Holder()
    holder.me, holder.connection = holder, here
    gone = weakref.ref(here)
    del holder, here
    gc.collect()
    assert gone() is None


def test_a_peer_that_floods_fills_no_more_than_its_window():
    here, there = make_pair(window=64 << 10, send_queue=64 << 10)
    receiver, before = there.receiver(1), resident()
    sender = here.sender(1)
    with pytest.raises(trunkline.Full):
        while True:
            sender.try_send(bytes(1000))
    here.stats()
    assert len(receiver) <= 64
    assert resident() - before < 8 << 20
