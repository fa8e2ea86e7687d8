"""One broker process under test: started, killed and started again on the same port and data."""

import os
import pathlib
import signal
import socket
import subprocess
import time


HELD = []


def free_port():
    """A free port, chosen by the system, which no other socket gets until this process ends.

    It is bound, but nobody listens on it: a broker, which sets SO_REUSEADDR, can. Without that, a client that tries the address of
    a killed broker could be given the broker's port as its own.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    HELD.append(holder)
    return holder.getsockname()[1]


class DidNotStart(Exception):
    """A broker that ended, or was not ready in time; with what it said."""


class Broker:
    """A broker with its data in one directory."""

    SETTINGS = {
        "ottla.http.listen": "",
        # Small values, so that kills hit snapshots, retention, compaction and deletions.
        "metadata.log.max.record.bytes.between.snapshots": "4000",
        "log.retention.check.interval.ms": "200",
        "log.cleaner.backoff.ms": "50",
        "log.segment.delete.delay.ms": "100",
        "offsets.topic.num.partitions": "4",
    }

    def __init__(self, binary, data, log, settings=None):
        self.binary = binary
        self.data = pathlib.Path(data)
        self.log = pathlib.Path(log)
        self.port = free_port()
        self.settings = {**self.SETTINGS, **(settings or {})}
        self.process = None
        self.began = 0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts the broker; returns when it is ready."""
        listeners = f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:0"
        settings = {"listeners": listeners, "log.dirs": str(self.data), **self.settings}
        command = [self.binary, "serve"]
        for key, value in settings.items():
            command += ["--override", f"{key}={value}"]
        with open(self.log, "ab") as log:
            self.began = log.tell()
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        deadline = time.monotonic() + 60
        while b" is ready on " not in self.log.read_bytes()[self.began :]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DidNotStart(f"the broker did not start; it said:\n{self.said()[-3000:]}")
            time.sleep(0.005)

    def said(self):
        """Its log since it was started."""
        return self.log.read_bytes()[self.began :].decode(errors="replace")

    def kill(self):
        """Kills it with SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Stops it with SIGTERM."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(timeout=60)
