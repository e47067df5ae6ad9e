"""Many threads at one handle, and the GIL."""

import random
import sys
import threading
import time

import pytest
import trunkline
from conftest import LONG, make_pair, run, threads


@pytest.fixture
def quick_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_threads_that_share_a_receiver_get_each_message_once(quick_switches):
    here, there = make_pair()
    receiver = there.receiver(1)
    count, got = 20_000, []

    def receive(how):
        while True:
            try:
                if how == 0:
                    got.append(bytes(receiver.recv()))
                elif how == 1:
                    got.extend(map(bytes, receiver.recv_many(7)))
                elif how == 2:
                    got.append(bytes(receiver.recv(0.001)))
                elif (message := receiver.try_recv()) is not None:
                    got.append(bytes(message))
                else:
                    time.sleep(0.0001)
            except TimeoutError:
                pass
            except (trunkline.ConnectionLost, trunkline.Finished):
                return

    readers = [threading.Thread(target=receive, args=(number % 4,)) for number in range(8)]
    for reader in readers:
        reader.start()
    with here:
        sender = here.sender(1)
        for number in range(count):
            sender.send(number.to_bytes(4, "big"))
            if number % 1000 == 0:
                time.sleep(0.01)
    for reader in readers:
        reader.join(LONG)
        assert not reader.is_alive()
    assert sorted(got) == [number.to_bytes(4, "big") for number in range(count)]


def test_every_thread_that_waits_is_woken_for_its_message():
    here, there = make_pair()
    receiver, sender = there.receiver(1), here.sender(1)
    for round in range(20):
        got = []
        readers = [threading.Thread(target=lambda got=got: got.append(bytes(receiver.recv(LONG)))) for _ in range(10)]
        for reader in readers:
            reader.start()
        if round % 2:
            time.sleep(0.07)
        for number in range(10):
            sender.send(bytes([number]))
        for reader in readers:
            reader.join(LONG)
        assert sorted(got) == [bytes([number]) for number in range(10)]


def test_threads_that_share_a_sender_keep_the_order_of_each(quick_switches):
    here, there = make_pair(window=4096)
    sender, receiver = here.sender(1), there.receiver(1)

    def send(which):
        for number in range(500):
            sender.send(bytes([which]) + number.to_bytes(2, "big"), timeout=LONG)

    workers = [threading.Thread(target=send, args=(which,)) for which in range(8)]
    for worker in workers:
        worker.start()
    seen = {which: [] for which in range(8)}
    for _ in range(8 * 500):
        message = bytes(receiver.recv(LONG))
        seen[message[0]].append(int.from_bytes(message[1:], "big"))
    for worker in workers:
        worker.join(LONG)
    assert all(numbers == list(range(500)) for numbers in seen.values())


def test_threads_that_send_close_and_drop_at_once_never_hang(quick_switches):
    # A lock of Rust's and the GIL, taken in opposite orders, would.
    until = time.monotonic() + 3
    errors = []

    def work(seed):
        chance = random.Random(seed)
        try:
            while time.monotonic() < until:
                here, there = make_pair(window=4096, linger=0.05)
                sender, receiver = here.sender(1), there.receiver(1)

                def use(sender=sender, receiver=receiver, here=here, there=there, chance=chance):
                    for _ in range(20):
                        try:
                            chance.choice(
                                [
                                    lambda: sender.send(bytes(700), timeout=0.01),
                                    lambda: receiver.recv(0.001),
                                    receiver.try_recv,
                                    receiver.close,
                                    sender.close,
                                    sender.finish,
                                    here.stats,
                                    lambda: here.close(timeout=0.01),
                                    lambda: there.events().try_recv(),
                                    lambda: there.abandon(),
                                    lambda: repr(there),
                                ]
                            )()
                        except (trunkline.Error, ValueError):
                            pass

                helpers = [threading.Thread(target=use) for _ in range(3)]
                for helper in helpers:
                    helper.start()
                del sender, receiver, here, there, use
                for helper in helpers:
                    helper.join(LONG)
                    assert not helper.is_alive()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONG)
        assert not worker.is_alive()
    assert errors == []


def fill(here):
    """Sends more than the peer, which reads nothing, takes."""
    sender = here.sender(1)
    sender.send(bytes(3000))
    sender.writer().write(bytes(30_000) + b"\n")


WAITS = {
    "recv": lambda here, there: there.receiver(1).recv(0.5),
    "recv_any": lambda here, there: there.receiver(1).recv_any(0.5),
    "events": lambda here, there: there.events().recv(0.5),
    "send": lambda here, there: [here.sender(1).send(bytes(1000), timeout=0.5) for _ in range(10)],
    "flush": lambda here, there: (fill(here), here.flush(0.5)),
    "close": lambda here, there: (fill(here), here.close(timeout=0.5)),
}


@pytest.mark.parametrize("what", WAITS)
def test_the_gil_is_let_go_of_while_a_call_waits(what):
    here, there = make_pair(window=4096)
    ends = []

    def wait():
        try:
            WAITS[what](here, there)
        except trunkline.Error as error:
            ends.append(error)

    waits = threading.Thread(target=wait)
    waits.start()
    count = 0
    begin = time.monotonic()
    while waits.is_alive():
        count += 1
    # Python code ran for as long as the call waited.
    assert time.monotonic() - begin > 0.3 and count > 10_000
    assert len(ends) == 1


def test_connections_go_on_while_the_gil_is_held():
    # Both ends have a heartbeat that is shorter than the time for which an extension holds the GIL.
    ended = run(
        """
        from conftest import *
        import ctypes
        key = Key.generate()
        config = Config(key, heartbeat=(0.1, 0.5), resume_grace=0)
        with Listener("127.0.0.1:0", config) as listener:
            client = Connection.connect(listener.local_addr, config)
            server = listener.accept(LONG)
            here = server.receiver(1)
            ctypes.PyDLL(None).usleep(900_000)
            ctypes.PyDLL(None).usleep(900_000)
            assert client.close_reason is None and server.close_reason is None
            client.sender(1).send("still there")
            print(here.recv(LONG).decode())
        """
    )
    assert (ended.status, ended.out, ended.err) == (0, "still there\n", "")


def test_a_connection_needs_no_thread_of_its_own():
    before = threads()
    pairs = [make_pair() for _ in range(50)]
    receivers = [there.receiver(1) for _, there in pairs]
    for here, _ in pairs:
        here.sender(1).send("x")
    for receiver in receivers:
        receiver.recv(LONG)
    assert threads() <= before + 1
