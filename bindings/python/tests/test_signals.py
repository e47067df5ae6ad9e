"""Ctrl-C wakes every call that waits, and nothing is lost by it."""

import signal
import threading
import time
from collections import deque

import pytest
import trunkline
from conftest import LONG, interrupt, make_pair, program, run

# What waits, and what it needs before.
WAITS = {
    "recv": "receiver.recv()",
    "recv with a timeout": "receiver.recv(60)",
    "recv_many": "receiver.recv_many()",
    "recv_any": "receiver.recv_any()",
    "iteration": "next(receiver)",
    "send": "fill(); here.sender(1).send(bytes(1000))",
    "readline": "receiver.reader().readline()",
    "read of all": "receiver.reader().read()",
    "input": "sys.stdin = io.TextIOWrapper(receiver.reader()); input()",
    "write": "fill(); here.sender(1).writer().write(bytes(200_000))",
    "flush of a writer": "fill(); w = here.sender(1).writer(); [w.flush() for _ in range(9) if w.write(bytes(9000))]",
    "flush": "fill(); here.flush()",
    "close": "fill(); here.close(timeout=60)",
    "events": "there.events().recv()",
    "iteration of events": "list(there.events())",
    "accept": "Listener('127.0.0.1:0', key).accept()",
    "iteration of a listener": "next(Listener('127.0.0.1:0', key))",
    "connect": "Connection.connect(silent.getsockname(), Config(key, connect_timeout=9, handshake_timeout=9))",
    "shutdown": "dead.sender(1).send(bytes(3000)); trunkline.shutdown(60)",
    "close of a dead peer": "dead.sender(1).send(bytes(3000)); dead.close()",
    "flush to a dead peer": "dead.sender(1).send(bytes(3000)); dead.flush()",
}

PROGRAM = """
    import io, signal, socket, threading, time
    from conftest import *
    key = Key.generate()
    silent = socket.create_server(("127.0.0.1", 0))
    here, there = make_pair(window=4096, linger=60)
    receiver = there.receiver(2)
    kept = there.receiver(1)

    def fill():
        sender = here.sender(1)
        try:
            while True:
                sender.try_send(bytes(1000))
        except trunkline.Full:
            pass
        # More than the window, which waits for credit.
        w = here.sender(1).writer(); w.write(bytes(30_000) + b"\\n")

    came = 0.0
    def handler(number, frame):
        global came
        came = time.monotonic()
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, handler)
    sent = 0.0
    def strike():
        global sent
        time.sleep(0.2)
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    strikes = threading.Thread(target=strike, daemon=True)
    try:
        {wait}
    except KeyboardInterrupt:
        print(f"{{(came - sent) * 1000:.0f}}", flush=True)
    else:
        print("not interrupted")
    os._exit(0)
"""


@pytest.mark.parametrize("what", WAITS)
def test_a_signal_wakes_what_waits(what):
    wait = WAITS[what]
    if "dead." in wait:
        wait = f"with dead_peer(linger=60) as dead: strikes.start(); {wait}"
    else:
        wait = f"strikes.start(); {wait}"
    # In a program of its own: the best of three, because other programs may hold the machine up.
    delays = []
    for _ in range(3):
        ended = run(PROGRAM.format(wait=wait))
        assert ended.status == 0 and ended.out.strip().isdigit(), ended
        delays.append(int(ended.out))
        if delays[-1] < 100:
            return
    pytest.fail(f"{what}: {delays} ms")


def test_a_handler_that_returns_lets_the_call_go_on():
    here, there = make_pair()
    sender, receiver = here.sender(1), there.receiver(1)
    calls = []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(receiver.try_recv()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        threading.Timer(0.5, lambda: sender.send("at last")).start()
        # The handler uses the receiver that the call waits with.
        got = None
        begin = time.monotonic()
        while got is None and time.monotonic() - begin < LONG:
            try:
                got = receiver.recv(5)
            except trunkline.RecvError:
                got = next(call for call in calls if call is not None)
        assert got == b"at last"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(calls) >= 3


def test_a_timeout_is_kept_while_signals_come():
    here, there = make_pair()
    receiver = there.receiver(1)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            receiver.recv(0.5)
        assert time.monotonic() - begin >= 0.5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_may_close_what_the_call_waits_with():
    here, there = make_pair()
    receiver = there.receiver(1)
    before = signal.signal(signal.SIGALRM, lambda *_: receiver.close())
    try:
        for delay in (0.005, 0.2):
            signal.setitimer(signal.ITIMER_REAL, delay)
            with pytest.raises(ValueError, match="closed"):
                receiver.recv()
            receiver = there.receiver(2)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_signals_lose_no_message_and_repeat_none():
    class Struck(Exception):
        pass

    here, there = make_pair(window=4096)
    sender, receiver = here.sender(1), there.receiver(1)
    count, got, strikes = 3000, [], 0

    def receive():
        # All in C: Python handles signals only while the receiver waits, never between its return and the append.
        deque(map(got.append, receiver), maxlen=0)

    def strike(_, frame):
        if frame.f_code is receive.__code__:
            raise Struck

    def send():
        for number in range(count):
            sender.send(number.to_bytes(4, "big"))
            if number % 50 == 0:
                time.sleep(0.005)
        sender.finish()

    sends = threading.Thread(target=send)
    before = signal.signal(signal.SIGALRM, strike)
    try:
        sends.start()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while len(got) < count:
            try:
                receive()
            except Struck:
                strikes += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    sends.join()
    assert [int.from_bytes(bytes(message), "big") for message in got] == list(range(count))
    assert strikes >= 3


def test_an_interrupt_during_a_join_leaves_the_worker_in_its_recv():
    code = """
        from conftest import *
        import threading
        here, there = make_pair()
        receiver = there.receiver(1)
        got = []
        worker = threading.Thread(target=lambda: got.append(bytes(receiver.recv())))
        worker.start()
        print("waits", flush=True)
        try:
            worker.join()
        except KeyboardInterrupt:
            here.sender(1).send("after the interrupt")
            # Another join() would not wait: an interrupted one takes the thread for ended.
            eventually("the message", lambda: got)
            print(got, flush=True)
    """
    with program(code) as process:
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.2)
        interrupt(process)
        out, err = process.communicate(timeout=LONG)
        assert (process.returncode, out, err) == (0, "[b'after the interrupt']\n", "")


def test_ctrl_c_ends_a_program_as_any_other():
    code = """
        from conftest import *
        here, there = make_pair()
        print("waits", flush=True)
        there.receiver(1).recv()
    """
    with program(code) as process:
        process.stdout.readline()
        time.sleep(0.2)
        interrupt(process)
        _, err = process.communicate(timeout=LONG)
        assert process.returncode == -signal.SIGINT
        assert err.rstrip().endswith("KeyboardInterrupt")
