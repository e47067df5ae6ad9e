"""What a typed program looks like: checked by mypy in `test_typing.py`, never run."""

import asyncio
import io
import sys
from typing import assert_never, assert_type

from trunkline import Access, Config, Connection, Event, Key, Listener, Message, Reader, Received


def serve(path: str) -> None:
    config = Config(Key.from_file(path), access=Access(send=[0], receive=range(3)), window=1 << 20, heartbeat=None)
    with Listener(("127.0.0.1", 0), config) as listener:
        for connection in listener:
            assert_type(connection, Connection)
            with connection, connection.sender(1) as stdout:
                stdin = connection.receiver(0).reader()
                assert_type(stdin, Reader)
                sys.stdin = io.TextIOWrapper(stdin)
                stdout.send("text")
                stdout.send(memoryview(b"bytes"), timeout=1)


def watch(connection: Connection) -> int:
    for event in connection.events():
        match event:
            case Event.Opened(channel):
                assert_type(channel, int)
            case Event.Closed(cause):
                return cause.code or 0
            case Event.Interrupt() | Event.Waiting() | Event.Stopped():
                pass
            case Event.Suspended() | Event.Resumed() | Event.Other():
                pass
            case _:
                assert_never(event)
    return 0


async def ask(connection: Connection) -> bytes:
    await connection.sender(1).send_async(b"question")
    async with asyncio.timeout(1):
        async for message in connection.receiver(2, 3):
            assert_type(message, Message)
            assert_type(message[0], int)
            return bytes(message)
    any_of_them = connection.receiver([4]).recv_any()
    assert_type(any_of_them, Message | Received.Finished | Received.Reset | Received.Gap)
    return b""
