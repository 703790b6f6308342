"""Runs the checks of one client and prints a line for each."""

import os
import queue
import sys
import time
import traceback

HOST = "127.0.0.1"
PORT = int(os.environ["FULMAR_PORT"])
# The longest wait for anything that must happen.
WAIT = 15.0
# Identifiers and topics of one run do not meet those of another at the same broker. Identifiers
# of 3.1 have at most 23 bytes.
RUN = f"{os.getpid() % 100000:05d}{int(time.time()) % 1000:03d}"

_names = 0


def unique(word):
    """A Client Identifier or topic that nobody else uses."""
    global _names
    _names += 1
    return f"{word}{RUN}x{_names}"


def equal(got, expected, what):
    """Fails the check unless both are equal."""
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {got!r}")


def take(source, what):
    """The next item of a queue, within WAIT seconds."""
    try:
        return source.get(timeout=WAIT)
    except queue.Empty:
        raise AssertionError(f"no {what} within {WAIT} s") from None


def run(client, versions, checks):
    """Calls each check `(name, function, versions)` with each of its versions.

    `versions` maps the name of a version to what the function is given. Ends the program with
    status 0, whether or not checks failed: the printed lines tell.
    """
    for name, value in versions.items():
        for what, function, only in checks:
            if only is not None and name not in only:
                continue
            try:
                function(value)
                print(f"ok - {client} {name}: {what}", flush=True)
            except Exception:
                print(f"not ok - {client} {name}: {what}", flush=True)
                traceback.print_exc(file=sys.stderr)
