"""Load on a broker that may be killed at any moment, and a ledger of everything that it acknowledged.

The clients are librdkafka's: its idempotent producer, its consumer and its admin client. Producer ids, which no client shows,
are requested by a hand-made request.
"""

import random
import socket
import struct
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

KEPT = "crash-kept"
TRIMMED = "crash-trimmed"
COMPACTED = "crash-compacted"
PARTITIONS = 3
KEYS = 10
SEGMENT_BYTES = 60_000
GROUP = "crash-group"


def quiet(*_):
    """Ignores broken connections, which this test causes."""


def create_topics(address):
    """The topics under load, with small segments, so that kills hit the rolling of segments."""
    small = {"internal.segment.bytes": str(SEGMENT_BYTES)}
    trimmed = {**small, "retention.bytes": str(3 * SEGMENT_BYTES)}
    compacted = {**small, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
    admin = AdminClient({"bootstrap.servers": address})
    wanted = [
        NewTopic(KEPT, PARTITIONS, 1, config=small),
        NewTopic(TRIMMED, PARTITIONS, 1, config=trimmed),
        NewTopic(COMPACTED, PARTITIONS, 1, config=compacted),
    ]
    for future in admin.create_topics(wanted).values():
        future.result(30)


class Ledger:
    """Everything that was acknowledged. Each list is written by one thread."""

    def __init__(self):
        self.acked = []  # (topic, partition, offset, value)
        self.read = []  # (topic, partition, offset, value) seen by a consumer
        self.committed = {}  # partition -> (acknowledged, attempted)
        self.created = {}  # topic -> last config value that was acknowledged, None if uncertain
        self.deleted = set()
        self.producer_ids = []
        self.compacted = 0  # records that were compacted away, as found by the check
        self.failures = []


class Load:
    """Threads that run until they must stop."""

    def __init__(self, address, seed, producers=3):
        self.address = address
        self.seed = seed
        self.ledger = Ledger()
        self.stopping = threading.Event()
        self.abandoned = False
        self.served = [threading.Event() for _ in range(producers)]
        works = [(self.produce, number) for number in range(producers)]
        works += [(self.tail,), (self.commit,), (self.administer,), (self.take_producer_ids,)]
        self.threads = [
            threading.Thread(target=self.guard, args=work, daemon=True) for work in works
        ]

    def start(self):
        for thread in self.threads:
            thread.start()

    def wait_until_served(self):
        """Waits until each producer had a first record acknowledged.

        librdkafka requests a producer id every half second. A broker that runs for a shorter time may never get the request.
        """
        for number, served in enumerate(self.served):
            if not served.wait(60):
                self.ledger.failures.append(f"producer {number}: nothing was acknowledged in 60 s")

    def stop(self):
        """Waits until everything in flight has been answered."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(180)
            if thread.is_alive():
                self.ledger.failures.append("a thread of the load does not end")

    def abandon(self):
        """Ends without waiting for open requests."""
        self.abandoned = True
        self.stopping.set()

    def guard(self, work, *args):
        try:
            work(*args)
        except Exception as error:  # pylint: disable=broad-except
            self.ledger.failures.append(f"{work.__name__}: {error!r}")

    def produce(self, number):
        rng = random.Random(f"{self.seed}-producer-{number}")
        fatal = []
        producer = Producer(
            {
                "bootstrap.servers": self.address,
                "enable.idempotence": True,
                "linger.ms": 2,
                "batch.num.messages": 50,
                "message.timeout.ms": 170_000,
                "socket.timeout.ms": 10_000,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "log_level": 0,
                "error_cb": lambda error: fatal.append(error) if error.fatal() else None,
            }
        )

        def delivered(error, message):
            if error is None:
                place = (message.topic(), message.partition(), message.offset())
                self.ledger.acked.append((*place, message.value()))
                self.served[number].set()
            elif not self.stopping.is_set():
                self.ledger.failures.append(f"producer {number}: {error}")

        sequence = {}
        while not self.stopping.is_set() and not fatal:
            place = (rng.choice([KEPT, TRIMMED, COMPACTED]), rng.randrange(PARTITIONS))
            sequence[place] = sequence.get(place, 0) + 1
            # Only a compacted topic needs a key; each producer has its own.
            key = f"{number}-{rng.randrange(KEYS)}"
            value = f"{number}:{sequence[place]}:{key}:".encode() + b"x" * rng.randrange(300)
            try:
                producer.produce(place[0], value, key, partition=place[1], on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
            producer.poll(0)
            if len(producer) > 500:
                producer.poll(0.02)
        if fatal:
            self.ledger.failures.append(f"producer {number}: {fatal[0]}")
        if self.abandoned:
            producer.purge()
        producer.flush(170)

    def tail(self):
        consumer = self.consumer("crash-tail")
        places = [TopicPartition(KEPT, index, 0) for index in range(PARTITIONS)]
        consumer.assign(places)
        while not self.stopping.is_set():
            for message in consumer.consume(500, 0.1):
                if message.error() is None:
                    place = (message.topic(), message.partition(), message.offset())
                    self.ledger.read.append((*place, message.value()))
        consumer.close()

    def consumer(self, group):
        return Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 100,
                "fetch.wait.max.ms": 50,
            },
            logger=_Silent(),
        )

    def commit(self):
        consumer = self.consumer(GROUP)
        acknowledged, attempted = 0, 0
        while not self.stopping.is_set():
            attempted += 1
            self.ledger.committed = {0: (acknowledged, attempted)}
            try:
                offsets = [TopicPartition(KEPT, 0, attempted)]
                consumer.commit(offsets=offsets, asynchronous=False)
                acknowledged = attempted
            except KafkaException:
                time.sleep(0.02)
            self.ledger.committed = {0: (acknowledged, attempted)}
        consumer.close()

    def administer(self):
        rng = random.Random(f"{self.seed}-admin")
        admin = AdminClient(
            {"bootstrap.servers": self.address, "reconnect.backoff.max.ms": 100}, logger=_Silent()
        )
        number = 0
        while not self.stopping.is_set():
            living = sorted(self.ledger.created)
            try:
                if len(living) < 5 or rng.random() < 0.3:
                    number += 1
                    self.create(admin, f"crash-made-{number}")
                elif rng.random() < 0.5:
                    self.alter(admin, rng.choice(living), rng.randrange(1, 10**6))
                else:
                    self.delete(admin, rng.choice(living))
                if rng.random() < 0.2:
                    self.trim(admin)
            except KafkaException:
                time.sleep(0.02)

    def create(self, admin, name):
        admin.create_topics([NewTopic(name, 2, 1)], request_timeout=2)[name].result(10)
        self.ledger.created[name] = "unset"

    def alter(self, admin, name, value):
        self.ledger.created[name] = None
        entry = ConfigEntry(
            "retention.ms", str(value), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        futures = admin.incremental_alter_configs([resource], request_timeout=2)
        next(iter(futures.values())).result(10)
        self.ledger.created[name] = str(value)

    def delete(self, admin, name):
        # Until the acknowledgement the topic may or may not exist.
        del self.ledger.created[name]
        admin.delete_topics([name], request_timeout=2)[name].result(10)
        self.ledger.deleted.add(name)

    def trim(self, admin):
        place = TopicPartition(TRIMMED, 0)
        latest = admin.list_offsets({place: OffsetSpec.latest()}, request_timeout=2)[place]
        end = latest.result(10).offset
        before = TopicPartition(TRIMMED, 0, max(0, end - 20))
        admin.delete_records([before], request_timeout=2)[before].result(10)

    def take_producer_ids(self):
        while not self.stopping.is_set():
            try:
                self.ledger.producer_ids.append(init_producer_id(self.address))
            except OSError:
                pass
            time.sleep(0.01)


class _Silent:
    """A logger that drops everything, because this test breaks connections."""

    def __getattr__(self, _):
        return quiet


def init_producer_id(address):
    """One InitProducerId request, version 1, without a transactional id."""
    host, port = address.split(":")
    body = struct.pack(">hi", -1, 60_000)
    client = b"crash"
    header = struct.pack(">hhih", 22, 1, 7, len(client)) + client
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
            more = connection.recv(4096)
            if not more:
                raise OSError("closed")
            answer += more
    _, _, code, producer_id, _ = struct.unpack(">iihqh", answer[4:24])
    if code != 0:
        raise OSError(f"error {code}")
    return producer_id
