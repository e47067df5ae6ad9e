"""Many connections at one client to a server that sends everything back: time to connect, memory each at the client,
time for one round to all.

python benches/connections.py [N]  (10,000 unless told)
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time

from trunkline import Config, Connection, ConnectionLost, Key, Listener

AT_ONCE = 100
SPARE = 200
"""Descriptors of a process for other things."""


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def echo(connection: Connection) -> None:
    receiver, sender = connection.receiver(1), connection.sender(2)
    try:
        async for message in receiver:
            await sender.send_async(message)
    except ConnectionLost:
        pass


async def serve(count: int) -> None:
    key = Key(sys.stdin.readline())
    config = Config(key, max_connections=count, pending_handshakes=4 * AT_ONCE)
    with Listener("127.0.0.1:0", config) as listener:
        print(listener.local_addr[1], flush=True)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(echo(await listener.accept_async()))


async def attend(count: int, port: int, key: Key) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def connect() -> Connection:
        async with gate:
            return await Connection.connect_async(("127.0.0.1", port), key)

    # What the first one brings in is not the others'.
    connections = [await connect()]
    before, begin = resident(), time.monotonic()
    connections += await asyncio.gather(*(connect() for _ in range(count - 1)))
    connected = time.monotonic() - begin
    lines = [(connection.sender(1), connection.receiver(2)) for connection in connections]

    async def ask(at: int, text: bytes) -> bool:
        sender, receiver = lines[at]
        await sender.send_async(text)
        return bytes(await receiver.recv_async()) == text

    rounds = []
    for i in range(6):
        begin = time.monotonic()
        right = await asyncio.gather(*(ask(at, f"{i} {at}".encode()) for at in range(count)))
        rounds.append(time.monotonic() - begin)
        if not all(right):
            raise SystemExit("wrong answers")
        if i == 0:
            # When each has talked.
            memory = (resident() - before) / max(count - 1, 1)
    print(f"{count} connections, sealed: {connected:.2f} s to connect, {1e6 * connected / count:.0f} µs each")
    print(f"memory at the client: {memory / 1024:.1f} KiB each")
    print(f"one round to all: {1000 * sorted(rounds[1:])[2]:.0f} ms (median of 5)")
    begin = time.monotonic()
    await asyncio.gather(*(connection.close_async() for connection in connections))
    print(f"{time.monotonic() - begin:.2f} s to close")


def main() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2])))
        return 0
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if most < count + SPARE:
        print(f"{count} connections need {count + SPARE} descriptors, and `ulimit -Hn` is {most}", file=sys.stderr)
        return 2
    key = Key.generate()
    command = [sys.executable, __file__, "serve", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        print(key.expose_hex(), file=server.stdin, flush=True)
        try:
            asyncio.run(attend(count, int(server.stdout.readline()), key))
        except BaseException:
            server.kill()
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
