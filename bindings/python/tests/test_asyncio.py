"""`await` and `async for`: no thread for a call, nothing lost by a cancellation, nothing late on a closed loop."""

import asyncio
import gc
import threading
import time

import pytest
import trunkline
from conftest import LONG, make_pair, resident, run, threads
from trunkline import Connection, Event, Key, Listener, Received


def test_a_conversation():
    async def main():
        key = Key.generate()
        with Listener("127.0.0.1:0", key) as listener:
            accepting = asyncio.create_task(listener.accept_async())
            async with await Connection.connect_async(listener.local_addr, key) as client:
                server = await accepting
                answers, questions = client.receiver(2), server.receiver(1)

                async def serve():
                    async for question in questions:
                        await server.sender(2).send_async(bytes(question).upper())
                    return "served"

                serving = asyncio.create_task(serve())
                with client.sender(1) as asks:
                    for question in ("who", "what", "when"):
                        await asks.send_async(question)
                        assert await answers.recv_async() == question.upper().encode()
                        with pytest.raises(trunkline.Finished):
                            await answers.recv_async()
                assert await serving == "served"
                await client.flush_async()
            assert type(server.close_reason) is trunkline.ClosedByPeer

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_every_call_that_waits_has_its_coroutine():
    async def main():
        here, there = make_pair()
        receiver, events = there.receiver(1, 2), there.events()
        waits = [asyncio.create_task(wait) for wait in (receiver.recv_async(), events.recv_async())]
        await asyncio.sleep(0.05)
        sender = here.sender(1)
        sender.send("1")
        here.interrupt()
        assert (await waits[0], await waits[1]) == (b"1", Event.Interrupt())
        for number in "23":
            sender.send(number)
        here.flush(LONG)
        assert await receiver.recv_many_async() == [b"2", b"3"]
        wait = asyncio.create_task(receiver.recv_any_async())
        await asyncio.sleep(0.02)
        sender.finish()
        assert await wait == Received.Finished(1)

        stdin, stdout = there.receiver(3).reader(), here.sender(3).writer()
        wait = asyncio.create_task(stdin.readline_async())
        await asyncio.sleep(0.02)
        assert await stdout.write_async("half") == 4
        await stdout.write_async(" a line\nmore")
        assert await wait == b"half a line\n"
        stdout.close()
        assert await stdin.readline_async() == b"more"
        assert await stdin.readline_async() == b""

        ends = asyncio.create_task(drain(events))
        await here.close_async(reason="done")
        assert isinstance((await ends)[-1], Event.Closed)
        with pytest.raises(trunkline.EventsOver):
            await events.recv_async()

    async def drain(events):
        return [event async for event in events]

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_a_send_waits_for_room_and_is_cancelled_as_a_whole():
    async def main():
        here, there = make_pair(window=4096)
        sender, receiver = here.sender(1), there.receiver(1)
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    await sender.send_async(bytes([sent]) * 1000)
                    sent += 1
        for number in range(sent):
            assert await receiver.recv_async() == bytes([number]) * 1000
        behind = asyncio.create_task(sender.send_async("behind"))
        assert await receiver.recv_async() == b"behind"
        await behind

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_a_coroutine_that_is_not_awaited_does_nothing():
    here, there = make_pair()
    send, recv = here.sender(1).send_async("x"), there.receiver(1).recv_async()
    send.close()
    recv.close()
    here.flush(LONG)
    assert there.stats().messages_received == 0


@pytest.mark.parametrize("count", [100_000])
def test_receives_with_a_time_limit_lose_nothing(count):
    here, there = make_pair(window=64 << 10)

    def send():
        with here.sender(1) as sender:
            for number in range(count):
                sender.send(number.to_bytes(4, "big"))
                if number % 4000 == 0:
                    # The receiver catches up and waits in vain meanwhile.
                    time.sleep(0.1)

    async def main():
        receiver, got, late = there.receiver(1), [], 0
        while True:
            try:
                # Short enough to run out now and then, in the moment when a message comes too.
                got.append(await asyncio.wait_for(receiver.recv_async(), 0.0002))
            except TimeoutError:
                late += 1
            except trunkline.Finished:
                return got, late

    sends = threading.Thread(target=send)
    sends.start()
    got, late = asyncio.run(main())
    sends.join()
    assert [int.from_bytes(bytes(message), "big") for message in got] == list(range(count))
    assert late > 10


def test_a_task_that_is_cancelled_again_and_again_leaves_nothing_behind():
    async def main():
        here, there = make_pair()
        receiver, events, listener = there.receiver(1), there.events(), Listener("127.0.0.1:0", Key.generate())
        calls = (receiver.recv_async, events.recv_async, listener.accept_async)

        async def rounds(count):
            for _ in range(count):
                for call in calls:
                    task = asyncio.create_task(call())
                    await asyncio.sleep(0)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task

        await rounds(500)
        gc.collect()
        before = resident()
        await rounds(8000)
        gc.collect()
        # 24,000 waits; a waker that stays would be a hundred bytes each, its task a thousand.
        assert resident() - before < 1_500_000
        here.sender(1).send("woken all the same")
        assert await receiver.recv_async() == b"woken all the same"

    asyncio.run(main())


def test_several_tasks_and_threads_share_a_receiver():
    async def main():
        here, there = make_pair()
        receiver, sender, got = there.receiver(1), here.sender(1), []

        async def receive():
            while (message := await receiver.recv_async()) != b"over":
                got.append(int(message.decode()))

        def receive_in_a_thread():
            while (message := receiver.recv(LONG)) != b"over":
                got.append(int(message.decode()))

        tasks = [asyncio.create_task(receive()) for _ in range(5)]
        workers = [threading.Thread(target=receive_in_a_thread) for _ in range(2)]
        for worker in workers:
            worker.start()
        await asyncio.sleep(0.1)
        for number in range(2000):
            await sender.send_async(str(number))
            if number % 100 == 0:
                await asyncio.sleep(0.002)
        for _ in range(7):
            sender.send("over")
        await asyncio.gather(*tasks)
        for worker in workers:
            await asyncio.to_thread(worker.join, LONG)
        assert sorted(got) == list(range(2000))

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_tasks_of_two_loops_share_a_receiver():
    here, there = make_pair()
    receiver, sender, got = there.receiver(1), here.sender(1), []

    async def receive():
        while (message := await receiver.recv_async()) != b"over":
            got.append(int(message.decode()))

    loops = [threading.Thread(target=lambda: asyncio.run(receive())) for _ in range(2)]
    for loop in loops:
        loop.start()
    for number in range(1000):
        sender.send(str(number))
        if number % 20 == 0:
            time.sleep(0.001)
    for _ in loops:
        sender.send("over")
    for loop in loops:
        loop.join(LONG)
        assert not loop.is_alive()
    assert sorted(got) == list(range(1000))


def test_a_thousand_waits_need_no_thread():
    async def main():
        pairs = [make_pair() for _ in range(100)]
        before = threads()
        receivers = [there.receiver(*range(1, 11)) for _, there in pairs]
        waits = [asyncio.create_task(receiver.recv_async()) for receiver in receivers]
        waits += [asyncio.create_task(there.events().recv_async()) for _, there in pairs]
        await asyncio.sleep(0.05)
        assert threads() <= before
        for here, _ in pairs:
            here.interrupt()
            here.sender(3).send("x")
        assert len(await asyncio.wait_for(asyncio.gather(*waits), LONG)) == 200
        # Let go of in the background, so that a hundred farewells are not waited for one by one.
        for here, there in pairs:
            here.abandon()
            there.abandon()

    asyncio.run(main())


def test_connections_go_on_while_the_loop_is_busy_and_awaits_are_pending():
    ended = run(
        """
        from conftest import *
        import asyncio, ctypes

        async def main():
            key = Key.generate()
            config = Config(key, heartbeat=(0.1, 0.5), resume_grace=0)
            with Listener("127.0.0.1:0", config) as listener:
                client = await Connection.connect_async(listener.local_addr, config)
                server = await listener.accept_async()
                waits = [asyncio.create_task(server.receiver(n).recv_async()) for n in range(1, 20)]
                await asyncio.sleep(0.05)
                for n in range(1, 19):
                    client.sender(n).send("x")
                # An extension holds the GIL, with wakes that come meanwhile.
                ctypes.PyDLL(None).usleep(900_000)
                ctypes.PyDLL(None).usleep(900_000)
                assert client.close_reason is None and server.close_reason is None
                client.sender(19).send("last")
                print(bytes((await asyncio.gather(*waits))[-1]).decode())

        asyncio.run(main())
        """
    )
    assert (ended.status, ended.out, ended.err) == (0, "last\n", "")


def test_what_comes_late_to_a_closed_loop_is_quiet():
    ended = run(
        """
        from conftest import *
        import asyncio, gc, time
        for round in range(20):
            here, there = make_pair()
            receiver, events = there.receiver(1), there.events()
            async def main():
                for _ in range(3):
                    asyncio.create_task(receiver.recv_async())
                    asyncio.create_task(events.recv_async())
                await asyncio.sleep(0.001)
            loop = asyncio.new_event_loop()
            # Closed with waits that nothing has cancelled.
            loop.run_until_complete(main())
            pending = asyncio.all_tasks(loop)
            if round % 2:
                for task in pending:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            loop.close()
            for task in pending:
                task._log_destroy_pending = False
            here.sender(1).send("late")
            here.interrupt()
            here.flush(LONG)
            del pending, loop
            gc.collect()
            assert receiver.recv(LONG) == b"late"
        print("over")
        """,
        options=("-X", "dev"),
    )
    assert (ended.status, ended.out) == (0, "over\n")
    assert "late" not in ended.err and "trunkline" not in ended.err, ended.err


def test_a_loop_that_is_gone_leaves_no_descriptor():
    import os

    here, there = make_pair()
    sender, receiver = here.sender(1), there.receiver(1)

    async def once():
        sender.send("x")
        await receiver.recv_async()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receiver.recv_async(), 0.001)

    def rounds(count):
        for _ in range(count):
            asyncio.run(once())
        gc.collect()

    rounds(3)
    before = len(os.listdir("/proc/self/fd"))
    rounds(20)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_an_attempt_to_connect_is_given_up_with_its_task():
    import socket

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(Connection.connect_async(silent.getsockname(), Key.generate()), 0.1)
            assert time.monotonic() - begin < 3
        with pytest.raises(trunkline.ConnectError):
            await Connection.connect_async("127.0.0.1:1", Key.generate())

    asyncio.run(main())


def test_a_block_that_raises_tells_the_peer():
    async def main():
        here, there = make_pair()
        with pytest.raises(ZeroDivisionError):
            async with here:
                1 / 0
        with pytest.raises(trunkline.ClosedByPeer) as over:
            await there.receiver(1).recv_async()
        assert over.value.code == trunkline.CloseCode.PANICKED

    asyncio.run(asyncio.wait_for(main(), LONG))
