"""A broker that a packaging test started, and checks of it with a client."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

RECORDS = 100
# Long enough for a busy machine; nothing is measured.
PATIENCE = 60


def told():
    """The input from `cargo xtask package`."""
    return json.loads(pathlib.Path(sys.argv[1]).read_text())


def claim(name, is_so, reason=""):
    print(f"ok {name}" if is_so else f"not ok {name}: {reason}", flush=True)


class Process:
    """A process as its service manager starts it: as another user, with NOTIFY_SOCKET for its notifications."""

    def __init__(self, command, environment, user, group, directory, before=None):
        self.path = f"/run/notify-{os.getpid()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)
        self.socket.settimeout(PATIENCE)
        environment = {**environment, "NOTIFY_SOCKET": self.path}
        self.child = subprocess.Popen(
            command,
            env=environment,
            user=user,
            group=group,
            extra_groups=[],
            cwd=directory,
            preexec_fn=before,
        )

    def said(self):
        """The next message; a text about the process when none comes."""
        try:
            return self.socket.recv(4096).decode()
        except TimeoutError:
            return f"nothing in {PATIENCE} s; exit status {self.child.poll()}"

    def end(self, name):
        """Sends a signal by its name; the exit status."""
        self.child.send_signal(getattr(signal, name))
        return self.child.wait(PATIENCE)


def advertised(bootstrap):
    """The addresses that the broker advertises."""
    brokers = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=PATIENCE).brokers
    return sorted(f"{broker.host}:{broker.port}" for broker in brokers.values())


def round_trip(bootstrap, topic):
    """Produces records; returns how many of them are read again."""
    failures = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for number in range(RECORDS):
        producer.produce(
            topic, str(number), on_delivery=lambda error, _: error and failures.append(str(error))
        )
    waiting = producer.flush(PATIENCE)
    assert not waiting and not failures, f"{waiting} waiting, {failures}"
    return consumed(bootstrap, topic)


def consumed(bootstrap, topic):
    """How many distinct records a new group reads from the start, until all produced records have arrived."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"packaging-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    values = set()
    while len(values) < RECORDS:
        message = consumer.poll(PATIENCE)
        if message is None:
            break
        assert message.error() is None, message.error()
        values.add(message.value())
    consumer.close()
    return len(values)


def forward(listen, target):
    """Forwards bytes from one port of this host to another, as `docker run --publish` does."""
    server = socket.create_server(("127.0.0.1", listen))

    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept():
        while True:
            client, _ = server.accept()
            broker = socket.create_connection(("127.0.0.1", target))
            for pair in ((client, broker), (broker, client)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
