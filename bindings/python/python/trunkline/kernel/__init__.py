"""A Python interpreter that consoles reach over one socket: `python -m trunkline.kernel --listen ADDR --key-file F`.

The command is a host process with the sockets, and a CPython interpreter as its child. Any console of trunkline
works with it: `python -m trunkline.console`, or those that are written in Rust.
"""
