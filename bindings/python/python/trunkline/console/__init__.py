"""A console for a kernel: `python -m trunkline.console`. Without an address it starts a kernel of its own.

A script on standard input is run line by line; for a person at a terminal there is completion, history and
highlighting, if `prompt_toolkit` is installed (`pip install trunkline[console]`).
"""
