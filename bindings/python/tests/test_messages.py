"""Messages: objects like bytes that are not copied."""

import array
import gc
import sys

import pytest
from conftest import make_pair
from trunkline import Message


def received(data, **settings) -> Message:
    here, there = make_pair(**settings)
    here.sender(1).send(data)
    return there.receiver(1).recv(10)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"bytes", b"bytes"),
        (b"", b""),
        ("text: ─", "text: ─".encode()),
        (bytearray(b"array"), b"array"),
        (memoryview(b"0123456789")[2:5], b"234"),
        (memoryview(b"0123456789")[::2], b"02468"),
        (array.array("i", [1, 2, 3]), array.array("i", [1, 2, 3]).tobytes()),
        (b"x" * 31, b"x" * 31),
        (b"x" * 33, b"x" * 33),
        (b"\xff" * 100_000, b"\xff" * 100_000),
        (bytearray(300_000), bytes(300_000)),
    ],
)
def test_whatever_has_a_buffer_is_sent_and_comes_as_bytes(data, expected):
    message = received(data)
    assert message == expected
    assert bytes(message) == expected
    assert len(message) == len(expected)
    assert hash(message) == hash(expected)
    assert message.channel == 1


@pytest.mark.parametrize("data", [7, None, [1, 2], object()])
def test_what_is_no_message_is_refused_with_its_type(data, pair):
    with pytest.raises(TypeError, match=type(data).__name__):
        pair[0].sender(1).send(data)


def test_a_lone_surrogate_is_refused(pair):
    with pytest.raises(UnicodeEncodeError):
        pair[0].sender(1).send("\udcc3")


@pytest.mark.parametrize("size", [5, 100_000])
def test_a_memoryview_sees_the_message_itself_and_cannot_write(size):
    message = received(b"a" * size)
    view, other = memoryview(message), memoryview(message)
    assert view.readonly
    assert view.format == "B"
    assert view.obj is message
    with pytest.raises(TypeError):
        view[0] = 1
    # The same memory, not a copy of it.
    import ctypes

    class Buffer(ctypes.Structure):
        _fields_ = [("buf", ctypes.c_void_p), ("rest", ctypes.c_byte * 256)]

    def address(of):
        buffer = Buffer()
        get = ctypes.pythonapi.PyObject_GetBuffer
        get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
        assert get(of, ctypes.byref(buffer), 0) == 0
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
        return buffer.buf

    assert address(view) == address(other) == address(message)
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
    with pytest.raises(BufferError):
        # A consumer that wants to write is refused.
        get(message, ctypes.byref(Buffer()), 1)


def test_a_view_is_kept_when_message_and_connection_are_gone():
    here, there = make_pair()
    sender, receiver = here.sender(1), there.receiver(1)
    views = []
    for number in range(200):
        sender.send(bytes([number]) * (number * 50))
        message = receiver.recv(10)
        views.append(memoryview(message)[len(message) // 2 :])
        del message
    here.close()
    del here, there, sender, receiver
    gc.collect()
    # Whatever is allocated now must not come to lie there.
    rubbish = [b"\xee" * 5000 for _ in range(2000)]
    for number, view in enumerate(views):
        assert view == bytes([number]) * (number * 50 - number * 50 // 2)
    assert rubbish


def test_a_view_holds_its_message_and_lets_go_of_it():
    message = received(b"held" * 100)
    before = sys.getrefcount(message)
    view = memoryview(message)
    assert sys.getrefcount(message) > before
    view.release()
    assert sys.getrefcount(message) == before


def test_messages_compare_with_bytes_and_each_other_by_their_bytes():
    message = received(b"same")
    assert message == b"same" == message
    assert message == bytearray(b"same")
    assert message == received("same")
    assert message != b"other" and message != "same" and message != 4
    assert {message: 1}[b"same"] == 1


def test_a_message_is_indexed_sliced_searched_and_iterated():
    message = received(b"0123456789")
    assert message[0] == 48 and message[-1] == 57
    assert isinstance(message[2:4], memoryview) and message[2:4] == b"23"
    assert b"345" in message and b"x" not in message
    assert list(message)[:2] == [48, 49]
    assert message.decode() == "0123456789"
    assert int(message.decode("ascii")) == 123456789
    with pytest.raises(IndexError):
        message[10]


def test_a_message_decodes_with_errors_as_bytes_do():
    message = received(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        message.decode()
    assert message.decode(errors="replace") == "�"
    assert message.decode("latin-1") == "ÿ"


def test_the_repr_is_short():
    message = received(bytes(1 << 20))
    assert len(repr(message)) < 250
    assert "channel 1" in repr(message) and "1048576 bytes" in repr(message)


def test_a_message_is_passed_on_without_a_copy_and_arrives():
    message = received(b"relay" * 20_000)
    here, there = make_pair()
    here.sender(2).send(message)
    assert there.receiver(2).recv(10) == b"relay" * 20_000


def test_bytes_that_were_sent_are_given_free():
    here, there = make_pair()
    sender, receiver = here.sender(1), there.receiver(1)
    data = bytes(200_000)
    before = sys.getrefcount(data)
    for _ in range(20):
        sender.send(data)
        receiver.recv(10)
    here.flush(10)
    here.close()
    del here, sender
    # Whatever the I/O thread held is let go of by the next call into the package.
    there.receiver(3)
    assert sys.getrefcount(data) == before


def test_a_buffer_that_changes_after_the_send_changes_nothing():
    here, there = make_pair()
    data = bytearray(b"before" * 20_000)
    here.sender(1).send(data)
    data[:] = b"behind" * 20_000
    assert there.receiver(1).recv(10) == b"before" * 20_000
