"""Channels as Python's own streams: `input()`, `print()`, `pdb`, and nothing read ahead."""

import builtins
import io
import os
import pdb
import sys
import threading
import time

import pytest
import trunkline
from conftest import LONG, eventually, make_pair, program, run


@pytest.fixture
def stdin(pair):
    here, there = pair
    return here.sender(0), there.receiver(0).reader()


def test_a_read_gives_at_most_one_line(stdin):
    sender, reader = stdin
    sender.send("first\nsecond\nthird\n")
    assert reader.read(8192) == b"first\n"
    assert reader.read(3) == b"sec"
    assert reader.read(8192) == b"ond\n"
    buffer = bytearray(8192)
    assert reader.readinto(buffer) == 6 and buffer[:6] == b"third\n"
    assert reader.read(0) == b""
    assert not reader.pending()


def test_a_wrapper_around_it_never_reads_ahead(stdin):
    sender, reader = stdin
    text = io.TextIOWrapper(reader)
    sender.send("one\ntwo\n")
    assert text.readline() == "one\n"
    # The rest is where another reader would look for it.
    assert reader.pending()
    assert reader.try_readline() == b"two\n"


def test_an_unfinished_line_is_waited_for(stdin):
    sender, reader = stdin
    sender.send("hal")
    assert reader.try_readline() is None
    lines = []
    reads = threading.Thread(target=lambda: lines.append(reader.readline()))
    reads.start()
    reads.join(0.2)
    assert lines == []
    sender.send("f\n")
    reads.join(LONG)
    assert lines == [b"half\n"]


@pytest.mark.parametrize("wait", [0.01, 0.2])
def test_an_unfinished_line_survives_an_interrupt_of_the_wrapper(stdin, wait):
    sender, reader = stdin
    text = io.TextIOWrapper(reader)
    sender.send("hal")
    threading.Timer(wait, reader.interrupter().interrupt).start()
    with pytest.raises(trunkline.Interrupted):
        text.readline()
    sender.send("f\n")
    assert text.readline() == "half\n"


def test_the_end_of_a_run_is_the_end_of_a_file_once(stdin):
    sender, reader = stdin
    sender.send("no newline")
    sender.finish()
    text = io.TextIOWrapper(reader)
    assert text.readline() == "no newline"
    assert text.readline() == ""
    sender.send("the next run\n")
    assert text.readline() == "the next run\n"


def test_reading_all_is_reading_a_run(stdin):
    sender, reader = stdin
    for part in (b"a\nb", b"\xff\n", b"c"):
        sender.send(part)
    sender.finish()
    sender.send("next")
    sender.finish()
    assert reader.read() == b"a\nb\xff\nc"
    assert list(reader) == [b"next"]
    sender.send("third")
    sender.finish()
    sender.send("fourth")
    sender.finish()
    # What reads lines of text ends with the run, though its last line has no end.
    text = io.TextIOWrapper(reader)
    assert list(text) == ["third"]
    assert reader.try_readline() == b"fourth"
    assert reader.try_readline() == b""
    assert reader.try_readline() is None


def test_what_came_before_an_error_is_not_lost(stdin):
    sender, reader = stdin
    sender.send("half a")
    sender.reset(3)
    with pytest.raises(trunkline.Reset):
        reader.read()
    sender.send(" line\n")
    sender.finish()
    assert reader.read() == b"half a line\n"


def test_a_read_of_all_that_is_interrupted_has_taken_nothing(stdin):
    sender, reader = stdin
    sender.send("one\ntwo\n")
    threading.Timer(0.1, reader.interrupter().interrupt).start()
    with pytest.raises(trunkline.Interrupted):
        reader.read()
    assert reader.readline(3) == b"one"


def test_every_other_end_raises(stdin):
    sender, reader = stdin
    sender.send("whole\nhal")
    sender.reset(4)
    sender.send("again\n")
    sender.gap(1, 2)
    assert reader.readline() == b"whole\n"
    with pytest.raises(trunkline.Reset):
        reader.readline()
    assert reader.readline() == b"again\n"
    with pytest.raises(trunkline.Gap):
        reader.readline()


def test_a_lost_connection_is_no_end_of_a_file(pair):
    here, there = pair
    reader = there.receiver(0).reader()
    here.close()
    with pytest.raises(trunkline.ConnectionLost):
        reader.readline()


def test_a_line_longer_than_any_buffer_comes_whole(stdin):
    sender, reader = stdin
    line = b"x" * 300_000 + b"\n"
    threading.Thread(target=lambda: [sender.send(line[at : at + 50_000]) for at in range(0, len(line), 50_000)]).start()
    assert reader.readline() == line
    text = io.TextIOWrapper(reader, newline="\n")
    sender.send(line)
    assert text.readline() == line.decode()


def test_a_line_without_an_end_comes_in_pieces():
    here, there = make_pair()
    sender, reader = here.sender(0), there.receiver(0).reader()
    size = 20 << 20
    piece = b"y" * 65_000

    def send():
        left = size
        while left:
            sender.send(piece[: min(left, len(piece))], timeout=LONG)
            left -= min(left, len(piece))
        sender.finish()

    threading.Thread(target=send).start()
    got = 0
    while data := reader.read(1 << 20):
        assert data.count(b"y") == len(data)
        got += len(data)
    assert got == size


def test_data_without_lines_comes_as_it_is(pair):
    here, there = pair
    reader = there.receiver(0).reader(by_line=False)
    sender = here.sender(0)
    sender.send(b"\0\1\2")
    assert reader.read(8192) == b"\0\1\2"
    sender.send(b"a\nb")
    assert reader.read(8192) == b"a\nb"
    with io.BufferedReader(reader) as buffered:
        sender.send(b"0123456789")
        assert buffered.read1(4) == b"0123"
        assert buffered.peek() == b"456789"


def test_there_is_no_file_number_and_no_terminal(pair):
    here, there = pair
    reader, writer = there.receiver(0).reader(), here.sender(0).writer()
    for stream in (reader, writer):
        with pytest.raises(io.UnsupportedOperation):
            stream.fileno()
        assert not stream.isatty() and not stream.seekable()
        assert "channel 0" in stream.name
    assert (reader.readable(), reader.writable()) == (True, False)
    assert (writer.readable(), writer.writable()) == (False, True)


def redirected(monkeypatch, pair):
    kernel, console = pair
    stdin = io.TextIOWrapper(kernel.receiver(0).reader())
    stdout = io.TextIOWrapper(kernel.sender(1).writer(), write_through=True)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", stdout)
    return console.sender(0), console.receiver(1)


def test_input_works(pair, monkeypatch):
    typed, printed = redirected(monkeypatch, pair)
    typed.send("Ada\nnot read yet\n")
    assert input("name? ") == "Ada"
    assert printed.recv(LONG) == b"name? "
    assert input() == "not read yet"


def test_input_at_the_end_of_a_run_is_an_eoferror(pair, monkeypatch):
    typed, _ = redirected(monkeypatch, pair)
    typed.finish()
    with pytest.raises(EOFError):
        input()
    typed.send("after\n")
    assert input() == "after"


def test_a_debugger_works(pair, monkeypatch):
    typed, printed = redirected(monkeypatch, pair)
    typed.send("p answer\ncontinue\n")
    answer = 42
    pdb.Pdb(stdin=sys.stdin, stdout=sys.stdout, nosigint=True, readrc=False).set_trace()
    assert answer
    sys.stdout.flush()
    text = b"".join(bytes(message) for message in printed.recv_many())
    while b"(Pdb)" not in text:
        text += bytes(printed.recv(LONG))
    while b"42\n" not in text:
        text += bytes(printed.recv(LONG))


def test_print_makes_one_message_of_a_line(pair, monkeypatch):
    _, printed = redirected(monkeypatch, pair)
    builtins.print("one", 2, "drei", sep=", ")
    assert printed.recv(LONG) == b"one, 2, drei\n"
    builtins.print("a prompt", end="")
    assert printed.try_recv() is None
    sys.stdout.flush()
    assert printed.recv(LONG) == b"a prompt"


def test_text_is_never_cut_within_a_character(pair, monkeypatch):
    # A megabyte of a character of three bytes; and what is no character is said at once.
    _, printed = redirected(monkeypatch, pair)
    line = "─" * (1 << 20) + "\n"
    threading.Thread(target=lambda: sys.stdout.write(line)).start()
    data = b""
    while not data.endswith(b"\n"):
        data += bytes(printed.recv(LONG))
    assert data.decode() == line
    with pytest.raises(UnicodeEncodeError):
        print("\udcc3")


def test_lines_of_several_threads_are_not_mixed():
    here, there = make_pair(window=8192)
    writer = here.sender(1).writer()
    # Longer than a message of a writer, so each is written in pieces and waits in between.
    lines = [bytes([ord("a") + number]) * 150_000 + b"\n" for number in range(8)]
    for line in lines:
        threading.Thread(target=writer.write, args=(line,)).start()
    receiver = there.receiver(1)
    data = b""
    while len(data) < sum(map(len, lines)):
        data += bytes(receiver.recv(LONG))
    assert sorted(data.splitlines(keepends=True)) == lines


def test_a_raw_write_takes_everything(pair):
    here, there = pair
    writer = here.sender(1).writer()
    assert writer.write(b"x" * 200_000) == 200_000
    assert writer.write(memoryview(b"end\n")) == 4
    reader = there.receiver(1).reader()
    assert reader.readline() == b"x" * 200_000 + b"end\n"


def test_unbuffered_writes_are_messages(pair):
    here, there = pair
    writer = here.sender(1).writer(buffered=False)
    writer.write(b"your name? ")
    assert there.receiver(1).recv(LONG) == b"your name? "


def test_a_closed_stream_says_so(pair):
    here, there = pair
    writer, reader = here.sender(1).writer(), there.receiver(0).reader()
    writer.write(b"the last")
    writer.close()
    writer.close()
    reader.close()
    assert writer.closed and reader.closed
    receiver = there.receiver(1)
    assert receiver.recv(LONG) == b"the last"
    with pytest.raises(trunkline.Finished):
        receiver.recv(LONG)
    for use in (lambda: writer.write(b"x"), lambda: reader.read(1), reader.try_readline, reader.pending):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_closing_a_reader_ends_the_read_of_another_thread(pair):
    reader = pair[0].receiver(0).reader()
    lines = []
    reads = threading.Thread(target=lambda: lines.append(reader.readline()))
    reads.start()
    time.sleep(0.1)
    reader.close()
    reads.join(LONG)
    assert lines == [b""]


def test_a_receiver_that_became_a_reader_is_closed(pair):
    receiver = pair[0].receiver(0)
    receiver.reader()
    assert receiver.closed
    with pytest.raises(ValueError, match="is a reader now"):
        receiver.reader()


def test_a_writer_whose_connection_is_lost_goes_quietly():
    ended = run(
        """
        from conftest import *
        import io, sys, gc
        here, there = make_pair()
        out = io.TextIOWrapper(here.sender(1).writer())
        out.write("not flushed")
        here.abandon()
        del out
        gc.collect()
        print("over")
        """
    )
    assert (ended.status, ended.out) == (0, "over\n")
    # From 3.13 on Python says itself what a stream that it finalizes could not write.
    assert ended.err == "" or (sys.version_info >= (3, 13) and "ConnectionClosed" in ended.err)


def test_streams_of_an_interpreter_that_ends_deliver_their_last_line():
    key = trunkline.Key.generate()
    with trunkline.Listener("127.0.0.1:0", key) as listener:
        code = """
            import io, os, sys, trunkline
            port, key = int(sys.argv[1]), trunkline.Key(os.environ["TEST_KEY"])
            kernel = trunkline.Connection.connect(("127.0.0.1", port), key)
            sys.stdin = io.TextIOWrapper(kernel.receiver(0).reader(announce=True))
            sys.stdout = io.TextIOWrapper(kernel.sender(1).writer(), write_through=True)
            print("hello", input("who? "), end="")
        """
        os.environ["TEST_KEY"] = key.expose_hex()
        try:
            with program(code, str(listener.local_addr[1])) as process:
                console = listener.accept(LONG)
                typed = console.sender(0)
                eventually("the prompt", lambda: typed.peer_is_waiting)
                output = console.receiver(1).reader(by_line=False)
                assert output.read(100) == b"who? "
                typed.send("world\n")
                # The end of the process is no end that the program has told.
                with pytest.raises(trunkline.ClosedByPeer) as over:
                    output.read()
                assert over.value.code == trunkline.CloseCode.SHUTTING_DOWN
                assert output.read(100) == b"hello world"
                assert process.wait(LONG) == 0
                assert process.stderr.read() == ""
        finally:
            del os.environ["TEST_KEY"]
