"""One class for each error of the library, with the same text, below `Error` and the built-in that fits."""

import builtins
import copy
import pickle
import re
from pathlib import Path

import pytest
import trunkline
from trunkline import _errors
from trunkline._trunkline import _every_error

EVERY = {name: (text, error) for name, text, error in _every_error()}

# `Type::Variant` of the library, its class here, and the built-in that it is one of.
CLASSES = {
    "AcceptError::Closed": ("ListenerClosed", ConnectionError),
    "AcceptError::Empty": ("AcceptTimedOut", TimeoutError),
    "BindError::Config": ("DuplicateKeyError", ValueError),
    "BindError::Io": ("BindError", OSError),
    "BindError::SocketFile": ("SocketInUse", OSError),
    "ChannelError::ConnectionLost": ("PeerGone", ConnectionError),
    "ChannelError::InUse": ("InUse", RuntimeError),
    "ChannelError::InterruptNotPermitted": ("InterruptNotPermitted", PermissionError),
    "ChannelError::NoChannel": ("NoChannel", ValueError),
    "ChannelError::NotPermitted": ("NotPermitted", PermissionError),
    "ChannelError::PriorityInUse": ("PriorityInUse", RuntimeError),
    "ConfigError::CannotSeal": ("CannotSealError", ValueError),
    "ConfigError::DuplicateKey": ("DuplicateKeyError", ValueError),
    "ConfigError::Heartbeat": ("HeartbeatError", ValueError),
    "ConfigError::OutOfRange": ("OutOfRangeError", ValueError),
    "ConfigError::Plaintext": ("PlaintextError", ValueError),
    "ConnectError::Config": ("DuplicateKeyError", ValueError),
    "ConnectError::Handshake": ("TooBusy", ConnectionError),
    "ConnectError::Io": ("ConnectError", ConnectionError),
    "ConnectionError::Closed": ("ConnectionClosed", ConnectionError),
    "ConnectionError::ClosedByPeer": ("ClosedByPeer", ConnectionError),
    "ConnectionError::Forked": ("Forked", ConnectionError),
    "ConnectionError::HeartbeatLost": ("HeartbeatLost", ConnectionError),
    "ConnectionError::IoThreadStopped": ("IoThreadStopped", ConnectionError),
    "ConnectionError::Lost": ("SocketLost", ConnectionResetError),
    "ConnectionError::PeerGone": ("PeerGone", ConnectionError),
    "ConnectionError::PeerUnreachable": ("PeerUnreachable", ConnectionError),
    "ConnectionError::ProtocolViolation": ("ProtocolViolation", ConnectionError),
    "ConnectionError::Refused": ("Refused", ConnectionRefusedError),
    "ConnectionError::SessionExpired": ("SessionExpired", ConnectionError),
    "ConnectionError::SessionUnknown": ("SessionUnknown", ConnectionError),
    "ConnectionError::Tampered": ("Tampered", ConnectionError),
    "Disconnect::ConnectionLost": ("PeerGone", ConnectionError),
    "Disconnect::Stopped": ("Stopped", BrokenPipeError),
    "EventError::Empty": ("EventTimedOut", TimeoutError),
    "EventError::Over": ("EventsOver", EOFError),
    "FlushError::ConnectionLost": ("PeerGone", ConnectionError),
    "FlushError::Suspended": ("Suspended", TimeoutError),
    "FlushError::TimedOut": ("FlushTimedOut", TimeoutError),
    "HandshakeError::BadProof": ("BadProof", PermissionError),
    "HandshakeError::Disconnected": ("HandshakeDisconnected", ConnectionError),
    "HandshakeError::ForeignUser": ("ForeignUser", PermissionError),
    "HandshakeError::Malformed": ("Malformed", ConnectionError),
    "HandshakeError::MessageTooLarge": ("HandshakeMessageTooLarge", ConnectionError),
    "HandshakeError::NoCommonVersion": ("NoCommonVersion", ConnectionError),
    "HandshakeError::NotAuthorised": ("NotAuthorised", PermissionError),
    "HandshakeError::NotPermitted": ("HandshakeNotPermitted", PermissionError),
    "HandshakeError::NotTrunkline": ("NotTrunkline", ConnectionError),
    "HandshakeError::PlainOnly": ("PlainOnly", ConnectionError),
    "HandshakeError::SealedOnly": ("SealedOnly", ConnectionError),
    "HandshakeError::SessionExpired": ("HandshakeSessionExpired", ConnectionError),
    "HandshakeError::SessionUnknown": ("HandshakeSessionUnknown", ConnectionError),
    "HandshakeError::TermsChanged": ("TermsChanged", ConnectionError),
    "HandshakeError::TimedOut": ("HandshakeTimedOut", TimeoutError),
    "HandshakeError::TooBusy": ("TooBusy", ConnectionError),
    "KeyError::Exposed": ("KeyExposed", PermissionError),
    "KeyError::File": ("KeyFileError", OSError),
    "KeyError::NotHex": ("KeyNotHex", ValueError),
    "KeyError::NotSet": ("KeyNotSet", LookupError),
    "RecvError::ConnectionLost": ("PeerGone", ConnectionError),
    "RecvError::Finished": ("Finished", EOFError),
    "RecvError::Gap": ("Gap", Exception),
    "RecvError::Interrupted": ("Interrupted", Exception),
    "RecvError::Reset": ("Reset", ConnectionResetError),
    "RecvTimeoutError::Timeout": ("RecvTimedOut", TimeoutError),
    "SendError::Disconnected": ("Stopped", BrokenPipeError),
    "SendError::Interrupted": ("Interrupted", Exception),
    "SendError::TooLarge": ("TooLarge", ValueError),
    "SendTimeoutError::Timeout": ("SendTimedOut", TimeoutError),
    "SocketFileError::Exposed": ("SocketExposed", PermissionError),
    "SocketFileError::ForeignDirectory": ("ForeignDirectory", PermissionError),
    "SocketFileError::InUse": ("SocketInUse", OSError),
    "SocketFileError::Io": ("SocketFileError", OSError),
    "SocketFileError::NotASocket": ("NotASocket", OSError),
    "TrySendError::Disconnected": ("Stopped", BrokenPipeError),
    "TrySendError::Full": ("Full", BlockingIOError),
    "TrySendError::TooLarge": ("TooLarge", ValueError),
}

# What is here in another form.
OTHERWISE = {
    "RecvTimeoutError::Disconnected": "RecvError",
    "TryRecvError::Disconnected": "RecvError",
    "TryRecvError::Empty": "try_recv returns None",
    "SendTimeoutError::Disconnected": "SendError",
    "SendTimeoutError::Interrupted": "SendError",
    "SendTimeoutError::TooLarge": "SendError",
}

API = Path(__file__).resolve().parents[3] / "public-api.txt"


def test_every_error_of_the_library_is_known_here():
    variants = set(re.findall(r"^pub trunkline::(\w+Error::\w+|Disconnect::\w+)(?!:)\b(?!::)", API.read_text(), re.M))
    variants = {name for name in variants if name.split("::")[1][0].isupper()}
    assert len(variants) > 60
    assert variants - set(CLASSES) == set(OTHERWISE)
    assert set(EVERY) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_has_its_class_text_and_built_in(name):
    text, error = EVERY[name]
    class_name, built_in = CLASSES[name]
    assert type(error) is getattr(trunkline, class_name)
    assert isinstance(error, trunkline.Error) and isinstance(error, built_in)
    assert str(error) == text
    assert type(error).__doc__


def test_a_lost_connection_is_never_a_timeout():
    # A loop that goes on after a TimeoutError would go on for ever.
    for text, error in EVERY.values():
        if isinstance(error, trunkline.ConnectionLost):
            assert not isinstance(error, TimeoutError), text


def test_every_class_of_the_package_is_raised_or_has_others_below_it():
    raised = {name for name, _ in CLASSES.values()} | {"ConnectTimedOut", "ChannelIdError", "CloseError"}
    for name, kind in vars(_errors).items():
        if isinstance(kind, type) and not hasattr(builtins, name):
            assert name in raised or kind.__subclasses__(), name


def test_attributes_say_what_the_text_says():
    peer = EVERY["ConnectionError::ClosedByPeer"][1]
    assert (peer.code, peer.reason, peer.fault) == (259, "done", None)
    assert EVERY["ConnectionError::PeerGone"][1].fault == "network"
    assert EVERY["ConnectionError::ProtocolViolation"][1].fault == "peer"
    assert EVERY["ConnectionError::HeartbeatLost"][1].silence == 30.0
    assert isinstance(EVERY["ConnectionError::Refused"][1].handshake, trunkline.NotAuthorised)
    assert EVERY["KeyError::Exposed"][1].mode == 0o644
    assert EVERY["KeyError::File"][1].errno == EVERY["BindError::Io"][1].errno == 13
    assert EVERY["KeyError::NotSet"][1].variable == "TRUNKLINE_KEY"
    assert EVERY["HandshakeError::NotPermitted"][1].sending is False


@pytest.mark.parametrize("name", EVERY)
def test_an_error_survives_a_pickle_and_a_copy(name):
    text, error = EVERY[name]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error) and str(again) == text
        assert again.__dict__.keys() == error.__dict__.keys()


def test_keys(tmp_path, monkeypatch):
    key = trunkline.Key.generate()
    assert repr(key) == "Key(..)" and str(key) == "Key(..)"
    path = tmp_path / "kernel.key"
    key.write_new_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert trunkline.Key.from_file(path).expose_hex() == key.expose_hex()
    assert trunkline.Key.from_file_or_new(str(path)).expose_hex() == key.expose_hex()
    assert trunkline.Key.from_file_or_new(tmp_path / "new.key").expose_hex() != key.expose_hex()
    with pytest.raises(trunkline.KeyFileError):
        key.write_new_file(path)
    path.chmod(0o644)
    with pytest.raises(trunkline.KeyExposed, match="chmod 600") as exposed:
        trunkline.Key.from_file(path)
    assert (exposed.value.mode, exposed.value.path) == (0o644, str(path))
    with pytest.raises(trunkline.KeyFileError) as missing:
        trunkline.Key.from_file(tmp_path / "none.key")
    assert missing.value.errno == 2
    monkeypatch.setenv("A_KEY", key.expose_hex())
    assert trunkline.Key.from_env("A_KEY").expose_hex() == key.expose_hex()
    monkeypatch.delenv("A_KEY")
    with pytest.raises(trunkline.KeyNotSet, match="A_KEY"):
        trunkline.Key.from_env("A_KEY")
    with pytest.raises(trunkline.KeyNotHex):
        trunkline.Key("too short")
