"""A full disk: records of clients are refused with the reason, everything else works, and free space restores produce.

The data is on a small ext4 image. A producer fills it up to `ottla.disk.reserve`. Then another file fills the rest, and the
broker is killed and starts without a free byte. When there is space again, produce works again without a restart.

usage and exit status: image.py
"""

import os
import time

from broker import Broker
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from image import Failed, demand, in_rounds

TOPIC = "full"
RECORD_BYTES = 100_000
SETTINGS = {"log.segment.bytes": str(4 << 20), "log.segment.delete.delay.ms": "60000"}
PATIENCE = 30


def fill(address, chance, topic=TOPIC):
    """Produces until the broker refuses. Returns the acknowledged records, by offset, and the refusal."""
    # Without retries the client shows the broker's error.
    producer = Producer({"bootstrap.servers": address, "acks": "all", "retries": 0, "linger.ms": 5})
    acknowledged, refusals = {}, []

    def delivered(error, message):
        if error is None:
            acknowledged[message.offset()] = message.value()
        else:
            refusals.append(error)

    while not refusals:
        for _ in range(10):
            producer.produce(topic, chance.randbytes(RECORD_BYTES), partition=0, on_delivery=delivered)
        producer.flush(PATIENCE)
        demand(len(acknowledged) * RECORD_BYTES < (1 << 30), "a disk of 512 MiB took a gigabyte")
    return acknowledged, refusals[0]


def read(address, first, count):
    """`count` records from `first` on, by offset."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, 0, first)])
    records, deadline = {}, time.monotonic() + PATIENCE
    while len(records) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            records[message.offset()] = message.value()
    consumer.close()
    return records


def commit(address, offset):
    consumer = Consumer({"bootstrap.servers": address, "group.id": "full-disk"})
    consumer.commit(offsets=[TopicPartition(TOPIC, 0, offset)], asynchronous=False)
    kept = consumer.committed([TopicPartition(TOPIC, 0)], PATIENCE)[0].offset
    consumer.close()
    demand(kept == offset, f"offset {offset} was committed, {kept} is there")


def create(address, name):
    admin = AdminClient({"bootstrap.servers": address})
    try:
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(PATIENCE)
    except KafkaException as error:
        raise Failed(f"a topic cannot be created on a disk below its reserve: {error}") from error
    return admin


def take_what_is_left(at):
    """Fills the rest of the disk with another file."""
    path = at / "somebody-elses-file"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break
        os.fsync(file.fileno()) if file.tell() else None
    return path


def produce_again(address, deadline):
    producer = Producer({"bootstrap.servers": address, "acks": "all", "message.timeout.ms": PATIENCE * 1000})
    outcome = []
    producer.produce(TOPIC, b"again", partition=0, on_delivery=lambda error, message: outcome.append((error, message)))
    producer.flush(deadline)
    demand(outcome and outcome[0][0] is None, f"there is space again, but produce is refused: {outcome}")
    return outcome[0][1].offset()


def delete(address, name):
    """Below the reserve the files go at once: PATIENCE is less than `log.segment.delete.delay.ms`."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.delete_topics([name])[name].result(PATIENCE)


def round_of(binary, directory, at, chance):
    broker = Broker(binary, at / "data", directory / "broker.log", SETTINGS)
    broker.start()
    acknowledged, refusal = fill(broker.address, chance)
    demand(refusal.code() == KafkaError.NOT_ENOUGH_REPLICAS, f"a full disk answers {refusal}")
    said = broker.log.read_text(errors="replace")
    demand("ottla.disk.reserve" in said, "the log does not name ottla.disk.reserve")
    demand(read(broker.address, 0, len(acknowledged)) == acknowledged, "not all that was acknowledged is read")
    commit(broker.address, len(acknowledged) // 2)
    create(broker.address, "while-full")

    taken = take_what_is_left(at)
    broker.kill()
    broker.start()
    demand(read(broker.address, 0, len(acknowledged)) == acknowledged, "records are gone after a start on a full disk")
    demand(broker.stop() == 0, "a clean stop on a full disk fails")
    broker.start()
    demand(read(broker.address, 0, len(acknowledged)) == acknowledged, "records are gone after a stop on a full disk")

    taken.unlink()
    half = len(acknowledged) // 2
    admin = AdminClient({"bootstrap.servers": broker.address})
    futures = admin.delete_records([TopicPartition(TOPIC, 0, half)])
    for future in futures.values():
        future.result(PATIENCE)
    offset = produce_again(broker.address, PATIENCE)
    expected = {at: value for at, value in acknowledged.items() if at >= half}
    expected[offset] = b"again"
    demand(read(broker.address, half, len(expected)) == expected, "what was not deleted is not all there")

    fill(broker.address, chance, "short-lived")
    delete(broker.address, "short-lived")
    expected[produce_again(broker.address, PATIENCE)] = b"again"
    demand(read(broker.address, half, len(expected)) == expected, "not all is there after a topic was deleted")
    demand(broker.stop() == 0, "the last stop fails")
    return len(acknowledged)


def summary(rounds, outcomes):
    return f"the disk was filled {rounds} times, {sum(outcomes)} records acknowledged"


if __name__ == "__main__":
    in_rounds(round_of, summary)
