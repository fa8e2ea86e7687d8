"""A stalled disk: only requests that need it wait, and nothing is lost.

One of two log directories is on an ext4 image, which is frozen under load: each write to it blocks. More clients than the
broker has threads wait for it. Metadata and its changes, groups, /live, and produce, fetch and compaction of the other
directory must still work. Then the disk is slow: it is frozen nine tenths of the time. Clients of both directories must get on;
their latencies are printed.

usage and exit status: image.py
"""

import contextlib
import json
import signal
import threading
import time
import urllib.request

from broker import Broker, free_port
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from image import demand, in_rounds, run

TOPIC = "stalled"
COMPACTED = "compacted"
PARTITIONS = 8
CLIENTS = 24
PATIENCE = 30
FROZEN = 0.09
SENT = 200


@contextlib.contextmanager
def frozen(at):
    run("fsfreeze", "--freeze", str(at))
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", str(at))


@contextlib.contextmanager
def slow(at):
    """A disk that answers a tenth of the time."""
    ended = threading.Event()

    def alternate():
        while not ended.is_set():
            with frozen(at):
                ended.wait(FROZEN)
            ended.wait(FROZEN / 9)

    alternating = threading.Thread(target=alternate)
    alternating.start()
    try:
        yield
    finally:
        ended.set()
        alternating.join()


def partitions_in(directory, topic=TOPIC):
    return sorted(int(path.name.rsplit("-", 1)[1]) for path in directory.glob(f"{topic}-*[0-9]"))


class Client:
    """A producer with its own connections and one record in flight."""

    def __init__(self, address, partition, value):
        settings = {"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "message.timeout.ms": 2 * PATIENCE * 1000}
        self.producer = Producer(settings)
        self.partition, self.value = partition, value
        self.outcome = None

    def send(self):
        self.producer.produce(TOPIC, self.value, partition=self.partition, on_delivery=self.delivered)

    def delivered(self, error, message):
        self.outcome = error or message.offset()

    def wait(self, patience):
        self.producer.flush(patience)
        return self.outcome


def latencies(address, partition, enough):
    """The milliseconds that each of a client's records takes, sorted; one is sent after the other until there are enough."""
    client = Client(address, partition, b"timed")
    client.producer.list_topics(timeout=PATIENCE)
    taken = []
    while not enough(taken):
        client.outcome, began = None, time.monotonic()
        client.send()
        demand(isinstance(client.wait(PATIENCE), int), f"a record is not acknowledged: {client.outcome}")
        taken.append(1000 * (time.monotonic() - began))
    return sorted(taken)


def read(address, partition):
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, partition, 0)])
    _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), PATIENCE)
    values, deadline = [], time.monotonic() + PATIENCE
    while len(values) < end and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()
    return values


def join(address, name):
    """A group with one member that has joined, synced, has its partitions, and sends heartbeats."""
    settings = {"bootstrap.servers": address, "group.id": name, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([TOPIC])
    deadline = time.monotonic() + PATIENCE
    while not consumer.assignment():
        demand(time.monotonic() < deadline, f"group {name} gets no assignment while another disk is stalled")
        consumer.poll(0.2)
    return consumer


def ask(http, path):
    with urllib.request.urlopen(f"http://{http}/{path}", timeout=PATIENCE) as answer:
        return answer.read().decode()


def within(seconds, holds):
    """Whether a condition holds before a timeout."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def is_said(http, path):
    """Whether /ready names the directory before a timeout."""
    return within(PATIENCE, lambda: f"degraded: log directory {path} is stalled" in ask(http, "ready"))


def why(http, partition):
    """The broker's answer to `/why/compaction` for a partition."""
    (report,) = json.loads(ask(http, f"why/compaction/{COMPACTED}/{partition}"))
    return report


def compacted_at(http, partition):
    return why(http, partition)["compacted_at_ms"] or 0


@contextlib.contextmanager
def overwritten(address, partitions):
    """Writes a few keys to each of these partitions again and again."""
    ended = threading.Event()

    def write(partition):
        producer = Producer({"bootstrap.servers": address, "queue.buffering.max.messages": 1000})
        while not ended.wait(0.02):
            with contextlib.suppress(BufferError):
                producer.produce(COMPACTED, b"value", key=b"key", partition=partition)
            producer.poll(0)
        producer.purge()

    writers = [threading.Thread(target=write, args=(partition,)) for partition in partitions]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        ended.set()
        for writer in writers:
            writer.join()


def others_are_served(broker, http, healthy, member):
    demand(ask(http, "live") == "live\n", "/live does not answer while a disk is stalled")
    demand("kafka_log_log_size" in ask(http, "metrics"), "/metrics has no logs while a disk is stalled")
    # A new client has nothing cached.
    admin = AdminClient({"bootstrap.servers": broker.address})
    topics = admin.list_topics(timeout=PATIENCE).topics
    demand(len(topics[TOPIC].partitions) == PARTITIONS, "metadata is incomplete while a disk is stalled")
    for partition in healthy:
        client = Client(broker.address, partition, b"meanwhile")
        client.send()
        demand(isinstance(client.wait(PATIENCE), int), f"produce to another disk waits for this one: {client.outcome}")
        demand(b"meanwhile" in read(broker.address, partition), "a fetch from another disk waits for this one")
    with contextlib.closing(join(broker.address, "joins-meanwhile")):
        pass
    for future in admin.delete_records([TopicPartition(TOPIC, healthy[0], 1)]).values():
        future.result(PATIENCE)
    committed = member.commit(offsets=[TopicPartition(TOPIC, healthy[0], 1)], asynchronous=False)
    demand(committed[0].error is None, f"a member from before has lost its group: {committed[0].error}")


def metadata_is_changed(broker, topic):
    """Creates a topic, and changes its configs and those of a topic on both disks. The new topic stays."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(PATIENCE)
    for name in (topic, TOPIC):
        retention = ConfigEntry("retention.ms", "86400000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[retention])
        admin.incremental_alter_configs([resource])[resource].result(PATIENCE)
        said = admin.describe_configs([resource])[resource].result(PATIENCE)
        demand(said["retention.ms"].value == "86400000", f"the configs of {name} are not changed")


def topics_are_deleted(broker, topics):
    admin = AdminClient({"bootstrap.servers": broker.address})
    for future in admin.delete_topics(topics).values():
        future.result(PATIENCE)
    left = set(topics) & set(admin.list_topics(timeout=PATIENCE).topics)
    demand(not left, f"{left} are deleted, and still there")


@contextlib.contextmanager
def running(broker):
    """Ends it in any case."""
    broker.start()
    try:
        yield broker
    finally:
        if broker.process.poll() is None:
            broker.kill()


def round_of(binary, directory, at, _chance):
    run("rm", "-rf", str(directory / "data"))
    with frozen(at):
        pass
    http = f"127.0.0.1:{free_port()}"
    first, second = directory / "data", at / "data"
    settings = {"log.dirs": f"{first},{second}", "ottla.http.listen": http, "offsets.topic.num.partitions": "1"}
    with running(Broker(binary, first, directory / "broker.log", settings)) as broker:
        stall(broker, http, (first, second), at)


def stall(broker, http, directories, at):
    first, second = directories
    admin = AdminClient({"bootstrap.servers": broker.address})
    # __consumer_offsets is created first, in the first directory, because groups need it.
    with contextlib.suppress(KafkaException):
        Consumer({"bootstrap.servers": broker.address, "group.id": "first"}).committed([TopicPartition("none", 0)], 5)
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(PATIENCE)
    healthy, stalled = partitions_in(first), partitions_in(second)
    demand(healthy and stalled, f"partitions lie in {healthy} and {stalled}")
    demand((first / "__consumer_offsets-0").exists(), "__consumer_offsets is on the disk that will be stalled")
    # The last records must become due for compaction soon after the disk has stalled.
    soon = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.ms": "1000", "min.compaction.lag.ms": "3000"}
    admin.create_topics([NewTopic(COMPACTED, 4, 1, config=soon)])[COMPACTED].result(PATIENCE)
    cleaned = partitions_in(first, COMPACTED)
    demand(len(cleaned) in range(1, 4), f"{cleaned} of the compacted partitions lie in the directory that answers")
    clients = [Client(broker.address, stalled[n % len(stalled)], b"record %d" % n) for n in range(CLIENTS)]
    for client in clients:
        client.producer.list_topics(timeout=PATIENCE)
    with contextlib.closing(join(broker.address, "from-before")) as member:
        with overwritten(broker.address, range(4)):
            demand(within(PATIENCE, lambda: all(compacted_at(http, n) for n in range(4))), "nothing is compacted")
        with overwritten(broker.address, cleaned), frozen(at):
            for client in clients:
                client.send()
            for client in clients:
                demand(client.wait(0.1) is None, "a write to a frozen disk was acknowledged")
            metadata_is_changed(broker, "early")
            others_are_served(broker, http, healthy, member)
            demand(is_said(http, second), "/ready does not name the stalled directory")
            demand("has not answered" in broker.said(), "the log does not say it")
            before = compacted_at(http, cleaned[0])
            is_compacted = within(PATIENCE, lambda: compacted_at(http, cleaned[0]) > before)
            demand(is_compacted, f"compaction of another disk waits for this one: {why(http, cleaned[0])}")
            metadata_is_changed(broker, "late")
            demand(partitions_in(first, "late") == [0, 1], "a new partition is created on the stalled disk")
            topics_are_deleted(broker, ["early", "late"])
            demand(not partitions_in(first, "late"), "the files of a deleted topic stay where they were")
            demand(all(client.wait(0) is None for client in clients), "a write to a frozen disk was acknowledged")
    for client in clients:
        demand(isinstance(client.wait(PATIENCE), int), f"the disk goes on, its records do not: {client.outcome}")
    written = {partition: read(broker.address, partition) for partition in stalled}
    for client in clients:
        demand(written[client.partition].count(client.value) == 1, "a record is not there once")
    a_slow_disk_is_waited_for_by_its_own_clients(broker, healthy[0], stalled[0], at)
    demand(broker.stop() == 0, "the stop fails")
    broker.start()
    stops_in_part(broker, directories, at, stalled[0])


def shown(taken):
    return f"{taken[len(taken) // 2]:.1f} ms, at most {taken[-1]:.0f} ms"


def a_slow_disk_is_waited_for_by_its_own_clients(broker, healthy, slow_partition, at):
    """Nothing is asserted of the latencies: how fast this machine is, is not known."""
    sent = lambda taken: len(taken) >= SENT
    alone = latencies(broker.address, healthy, sent)
    ended, of_slow = threading.Event(), []

    def write_to_the_slow_disk():
        of_slow.extend(latencies(broker.address, slow_partition, lambda taken: taken and ended.is_set()))

    writer = threading.Thread(target=write_to_the_slow_disk)
    with slow(at):
        writer.start()
        beside = latencies(broker.address, healthy, sent)
        ended.set()
        writer.join(PATIENCE)
    demand(of_slow, "no record got to the slow disk")
    print(f"median of a record alone {shown(alone)}; beside a slow disk {shown(beside)}; on the slow disk {shown(of_slow)}", flush=True)


def stops_in_part(broker, directories, at, partition):
    """A stop closes the other directory, and a second signal does not wait for the disk."""
    first, second = directories
    clients = [Client(broker.address, partition, b"never acknowledged") for _ in range(CLIENTS)]
    for client in clients:
        client.producer.list_topics(timeout=PATIENCE)
    with frozen(at):
        for client in clients:
            client.send()
        for client in clients:
            demand(client.wait(0.1) is None, "a write to a frozen disk was acknowledged")
        broker.process.send_signal(signal.SIGTERM)
        demand(within(2 * PATIENCE, lambda: "do not answer, and are not closed" in broker.said()), "a stop does not say what it waits for")
        demand((first / ".kafka_cleanshutdown").exists(), "a stop does not close the directory that answers")
        broker.process.send_signal(signal.SIGTERM)
        # The process ends only when its threads end, and threads blocked on a frozen file system continue only after it
        # thaws.
        demand(within(PATIENCE, lambda: "a second signal ends the process" in broker.said()), "a second signal is not heard")
    demand(broker.process.wait(timeout=PATIENCE) != 0, "a stop that was cut short counts as one")
    demand(not (second / ".kafka_cleanshutdown").exists(), "a directory that was not closed says that it was")
    broker.start()
    demand(broker.stop() == 0, "the stop fails")


def summary(rounds, _outcomes):
    return f"the disk stood still {rounds} times with {CLIENTS} clients on it"


def freeze_once(at):
    with frozen(at):
        pass


if __name__ == "__main__":
    in_rounds(round_of, summary, freeze_once)
