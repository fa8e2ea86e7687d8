"""Runs a client's checks in order and prints one line for each.

`ok NAME` or `not ok NAME: reason`, then `done` when every check has been tried: `cargo xtask compat`
counts the lines, and a program that ends without `done` has failed whatever it printed before.
"""

import inspect
import sys
import time
import traceback

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
"""Every compression of the record batch format, by the name that `compression.type` gives it."""

START = int(time.time()) * 1000 - 3_600_000
"""The first record's timestamp: an hour ago, so that neither retention nor the limit on early records applies."""

DEADLINE_SECONDS = 40
"""The timeout of each wait, so that a hanging client fails a named check."""


def records(count=30):
    """The records of all producing checks: keys, a null key, a null value, headers, own timestamps."""
    made = []
    for index in range(count):
        made.append(
            {
                "partition": index % 3,
                "key": None if index % 10 == 9 else f"key-{index % 7}".encode(),
                "value": None if index % 10 == 8 else (f"value-{index}-" + "x" * 200).encode(),
                "headers": [("index", str(index).encode()), ("same", b"1"), ("same", b"2"), ("empty", b"")],
                "timestamp": START + index * 1000,
            }
        )
    return made


def expect_same(sent, received):
    """Compares what came back with what was sent, partition by partition and in order."""
    for partition in range(3):
        want = [record for record in sent if record["partition"] == partition]
        got = [record for record in received if record["partition"] == partition]
        expect(len(got) == len(want), f"partition {partition}: {len(got)} records, not {len(want)}")
        for wanted, found in zip(want, got):
            expect(found == wanted, f"partition {partition}: {found!r} came back for {wanted!r}")


def expect(holds, otherwise):
    """Fails the running check unless `holds`."""
    if not holds:
        raise AssertionError(otherwise)


def expect_error(action, *names):
    """Runs `action`, which must fail with one of the errors of these class or code names."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - every client has its own base class
        seen = error_name(error)
        expect(seen in names, f"failed with {seen} ({error}), not {' or '.join(names)}")
        return
    raise AssertionError(f"did not fail with {' or '.join(names)}")


def error_name(error):
    """The protocol's name for an error, however the client wraps it."""
    inner = error.args[0] if error.args else None
    if hasattr(inner, "name") and callable(inner.name):
        return inner.name()
    return type(error).__name__


def wait_until(holds, what, seconds=DEADLINE_SECONDS):
    """Calls `holds`, in which the client waits, until it returns true."""
    end = time.monotonic() + seconds
    while not holds():
        expect(time.monotonic() < end, f"{what} did not happen in {seconds} s")


def describe(error):
    """One line that says what failed and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if "/tests/compat/" in frame.filename), frames[-1])
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {text} (line {place.lineno})"


def report(name, error):
    """Prints the outcome of one check."""
    if error is None:
        print(f"ok {name}", flush=True)
    else:
        print(f"not ok {name}: {describe(error)}", flush=True)


def run(module):
    """Runs every function of `module` whose first line of doc names a claim, in the order written."""
    for name, check in list(vars(module).items()):
        if not (inspect.isfunction(check) and getattr(check, "is_claim", False)):
            continue
        try:
            check()
            report(name, None)
        except Exception as error:  # noqa: BLE001
            report(name, error)
    print("done", flush=True)


def claim(function):
    """Marks a function as a check."""
    function.is_claim = True
    return function


BOOTSTRAP = sys.argv[1] if len(sys.argv) > 2 else ""
PREFIX = sys.argv[2] if len(sys.argv) > 2 else ""
