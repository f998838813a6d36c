"""Runs a command at a terminal of its own, and types an answer when it shows a prompt.

Arguments: prompt answer command... Prints what the command shows, and exits as it does.
"""

import os
import pty
import sys

prompt, answer, *command = sys.argv[1:]
shown = b""


def read(terminal):
    """Types the answer after each prompt."""
    global shown
    data = os.read(terminal, 4096)
    before = shown.count(prompt.encode())
    shown += data
    for _ in range(shown.count(prompt.encode()) - before):
        os.write(terminal, answer.encode() + b"\n")
    return data


sys.stdin = open(os.devnull)
status = pty.spawn(command, read, lambda stdin: b"")
sys.exit(os.waitstatus_to_exitcode(status))
