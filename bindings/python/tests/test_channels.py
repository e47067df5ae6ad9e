"""Sending and receiving: runs, ends, limits, and what waits."""

import threading
import time

import pytest
import trunkline
from conftest import LONG, eventually, make_pair
from trunkline import Received, Sender


def test_messages_come_in_order_with_their_channel(pair):
    here, there = pair
    out, err = here.sender(1), here.sender(2)
    for number in range(1000):
        (out if number % 3 else err).send(str(number))
    receiver = there.receiver(1, 2)
    assert receiver.channels == {1, 2}
    for number in range(1000):
        message = receiver.recv(LONG)
        assert (message.decode(), message.channel) == (str(number), 1 if number % 3 else 2)


@pytest.mark.parametrize("channels", [(1, 2), ([1, 2],), ({1, 2},), (range(1, 3),), (iter([1, 2]),)])
def test_a_set_of_channels_is_given_in_any_way(pair, channels):
    assert pair[0].receiver(*channels).channels == {1, 2}


@pytest.mark.parametrize("channel", [-1, 128, 1 << 70])
def test_a_number_that_is_no_channel_is_told(pair, channel):
    for use in (pair[0].sender, pair[0].receiver):
        with pytest.raises(trunkline.ChannelIdError, match=f'"{channel}" is not a channel'):
            use(channel)


@pytest.mark.parametrize("channel", ["1", 1.0, None])
def test_what_is_no_number_is_no_channel(pair, channel):
    with pytest.raises((TypeError, trunkline.ChannelIdError)):
        pair[0].sender(channel)


def test_a_loop_ends_with_the_run_and_the_next_loop_gets_the_next(pair):
    here, there = pair
    receiver = there.receiver(1)
    for run in range(3):
        with here.sender(1) as sender:
            for number in range(run):
                sender.send(f"{run} {number}")
        assert [message.decode() for message in receiver] == [f"{run} {number}" for number in range(run)]


def test_a_block_that_raises_abandons_its_run(pair):
    here, there = pair
    with pytest.raises(ZeroDivisionError), here.sender(1) as sender:
        sender.send("half of it")
        1 / 0
    receiver = there.receiver(1)
    assert receiver.recv(LONG) == b"half of it"
    with pytest.raises(trunkline.Reset) as caught:
        next(receiver)
    assert (caught.value.code, caught.value.channel) == (Sender.PANICKED, 1)


def test_every_end_raises_once_at_its_place(pair):
    here, there = pair
    sender, receiver = here.sender(7), there.receiver(7)
    sender.send("1")
    sender.gap(3, 400)
    sender.send("2")
    sender.finish()
    sender.send("3")
    sender.reset(5)
    assert receiver.recv(LONG) == b"1"
    with pytest.raises(trunkline.Gap) as gap:
        receiver.recv(LONG)
    assert (gap.value.channel, gap.value.messages, gap.value.bytes) == (7, 3, 400)
    assert receiver.recv(LONG) == b"2"
    with pytest.raises(trunkline.Finished):
        receiver.recv(LONG)
    assert receiver.recv(LONG) == b"3"
    with pytest.raises(trunkline.Reset):
        receiver.recv(LONG)
    assert receiver.try_recv() is None


def test_recv_any_tells_the_end_of_each_channel(pair):
    here, there = pair
    receiver = there.receiver(1, 2)
    here.sender(2).reset(7)
    with here.sender(1) as sender:
        sender.gap(2, 3)
    here.flush(LONG)
    assert receiver.recv_any() == Received.Reset(channel=2, code=7)
    match receiver.recv_any(LONG):
        case Received.Gap(channel, messages, size):
            assert (channel, messages, size) == (1, 2, 3)
        case other:
            pytest.fail(repr(other))
    assert receiver.recv_any(timeout=LONG) == Received.Finished(1)
    with pytest.raises(trunkline.Finished):
        receiver.recv_any()
    assert receiver.try_recv_any() is None
    with pytest.raises(TimeoutError):
        receiver.recv_any(0.01)


def test_recv_many_gives_all_that_is_there_up_to_the_end(pair):
    here, there = pair
    sender, receiver = here.sender(1), there.receiver(1)
    for number in range(100):
        sender.send(bytes([number]))
    sender.finish()
    sender.send("next run")
    here.flush(LONG)
    first = receiver.recv_many(10)
    assert [bytes(message)[0] for message in first] == list(range(10))
    assert len(receiver.recv_many()) == 90
    with pytest.raises(trunkline.Finished):
        receiver.recv_many()
    assert receiver.recv_many() == [b"next run"]
    with pytest.raises(TimeoutError):
        receiver.recv_many(timeout=0.01)
    with pytest.raises(ValueError, match="limit is at least 1"):
        receiver.recv_many(0)


def test_nothing_there_is_none_or_a_timeout(pair):
    receiver = pair[0].receiver(1)
    assert receiver.try_recv() is None
    begin = time.monotonic()
    with pytest.raises(trunkline.RecvTimedOut) as caught:
        receiver.recv(0.2)
    assert time.monotonic() - begin >= 0.2
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(TimeoutError):
        receiver.recv(timeout=0)


@pytest.mark.parametrize("timeout", [-1, float("nan"), -float("inf")])
def test_a_time_that_is_none_is_refused(pair, timeout):
    with pytest.raises(ValueError, match="a number of seconds"):
        pair[0].receiver(1).recv(timeout)


def test_an_infinite_timeout_waits_and_gets(pair):
    here, there = pair
    threading.Timer(0.1, lambda: here.sender(1).send("late")).start()
    assert there.receiver(1).recv(float("inf")) == b"late"


def test_a_window_that_is_used_up_holds_up_its_channel_only():
    here, there = make_pair(window=4096, max_message=100_000)
    slow = here.sender(1)
    with pytest.raises(trunkline.Full) as full:
        for _ in range(100):
            slow.try_send(bytes(1000))
    assert isinstance(full.value, BlockingIOError)
    assert slow.credit < 1032
    begin = time.monotonic()
    with pytest.raises(trunkline.SendTimedOut):
        slow.send(bytes(1000), timeout=0.15)
    assert time.monotonic() - begin >= 0.15
    here.sender(2).send("not held up")
    assert there.receiver(2).recv(LONG) == b"not held up"
    with pytest.raises(trunkline.TooLarge) as large:
        slow.send(bytes(100_001))
    assert large.value.limit == slow.max_message == 100_000


def test_a_send_that_timed_out_has_sent_nothing():
    here, there = make_pair(window=4096)
    sender = here.sender(1)
    sent = 0
    for number in range(20):
        try:
            sender.send(bytes([number]) * 1000, timeout=0.01)
            sent += 1
        except TimeoutError:
            break
    assert sent < 20
    receiver = there.receiver(1)
    for number in range(sent):
        assert receiver.recv(LONG) == bytes([number]) * 1000
    sender.send("behind it", timeout=LONG)
    assert receiver.recv(LONG) == b"behind it"


def test_a_blocked_send_goes_on_when_there_is_room():
    here, there = make_pair(window=4096)
    sender, receiver = here.sender(1), there.receiver(1)
    got = []
    reads = threading.Thread(target=lambda: got.extend(bytes(receiver.recv(LONG)) for _ in range(200)))
    reads.start()
    for number in range(200):
        sender.send(number.to_bytes(2, "big") * 1000)
    reads.join(LONG)
    assert got == [number.to_bytes(2, "big") * 1000 for number in range(200)]


def test_a_stopped_run_is_told_to_the_sender(pair):
    here, there = pair
    sender, receiver = here.sender(1), there.receiver(1)
    sender.send("the first")
    receiver.recv(LONG)
    receiver.stop(9)
    eventually("the stop", lambda: sender.stopped == 9)
    with pytest.raises(trunkline.Stopped) as stopped:
        sender.send("one more")
    assert stopped.value.code == 9
    assert isinstance(stopped.value, BrokenPipeError)
    here.sender(1).send("the next run")
    assert receiver.recv(LONG) == b"the next run"


def test_a_channel_has_one_receiver_and_one_priority(pair):
    here, there = pair
    receiver = there.receiver(1)
    with pytest.raises(trunkline.InUse, match="already has a receiver"):
        there.receiver(1)
    receiver.close()
    assert receiver.closed
    there.receiver(1)
    here.sender(1, urgent=True)
    urgent = here.sender(2, urgent=True)
    with pytest.raises(trunkline.PriorityInUse):
        here.sender(2, urgent=False)
    here.sender(2).send("as the others")
    assert urgent.channel == 2
    with pytest.raises(trunkline.NoChannel):
        there.receiver([])


def test_a_handle_that_is_closed_says_so(pair):
    here, there = pair
    sender, receiver = here.sender(1), there.receiver(1)
    sender.close()
    receiver.close()
    sender.close()
    receiver.close()
    assert sender.closed and receiver.closed
    for use in (lambda: sender.send("x"), sender.finish, receiver.recv, receiver.try_recv, lambda: len(receiver)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_closing_ends_what_waits_with_the_receiver(pair):
    receiver = pair[0].receiver(1)
    # One that has waited for long, and one that has just begun.
    for wait in (0.2, 0.01):
        receiver = pair[0].receiver(2) if receiver.closed else receiver
        errors = []

        def wait_for_ever(receiver=receiver, errors=errors):
            try:
                receiver.recv()
            except ValueError as error:
                errors.append(error)

        thread = threading.Thread(target=wait_for_ever)
        thread.start()
        time.sleep(wait)
        receiver.close()
        thread.join(LONG)
        assert not thread.is_alive() and len(errors) == 1


@pytest.mark.parametrize("wait", [0.005, 0.2])
def test_an_interrupter_ends_a_call_and_loses_nothing(wait):
    here, there = make_pair(window=4096)
    receiver = there.receiver(1)
    interrupter = receiver.interrupter()
    threading.Timer(wait, interrupter.interrupt).start()
    with pytest.raises(trunkline.Interrupted):
        receiver.recv(LONG)
    # One that comes first ends the next wait, or is forgotten.
    interrupter.interrupt()
    receiver.clear_interrupt()
    with pytest.raises(TimeoutError):
        receiver.recv(0.01)

    sender = here.sender(1)
    threading.Timer(wait, sender.interrupter().interrupt).start()
    with pytest.raises(trunkline.Interrupted):
        while True:
            sender.send(bytes(1000), timeout=LONG)
    while receiver.try_recv() is not None:
        pass
    sender.send("goes on", timeout=LONG)
    eventually("the message behind", lambda: receiver.recv(LONG) == b"goes on")


def test_what_was_queued_is_taken_back(pair):
    here, there = pair
    sender = here.sender(1)
    sent = 0
    try:
        while True:
            sender.try_send(bytes(4096))
            sent += 1
    except trunkline.Full:
        pass
    taken_back = sender.discard_queued()
    sender.finish()
    receiver = there.receiver(1)
    left = 0
    while not isinstance(received := receiver.recv_any(LONG), Received.Finished):
        left += received.messages if isinstance(received, Received.Gap) else 1
    assert left == sent >= taken_back


def test_a_receiver_is_true_and_has_a_length(pair):
    here, there = pair
    receiver = there.receiver(1)
    assert receiver and len(receiver) == 0
    for _ in range(5):
        here.sender(1).send("x")
    here.flush(LONG)
    assert len(receiver) == 5
