"""Records before and after a tool.

create BOOTSTRAP TOPIC PARTITIONS, produce BOOTSTRAP TOPIC COUNT, read BOOTSTRAP TOPIC, ends BOOTSTRAP TOPIC,
commit BOOTSTRAP TOPIC GROUP (the ends, for a group without members), committed BOOTSTRAP TOPIC GROUP.
"""

import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ACTION, BOOTSTRAP, TOPIC = sys.argv[1:4]
SECONDS = 60


def create(partitions):
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(TOPIC, partitions, 1)])[TOPIC].result(SECONDS)


def produce(count):
    failures = []
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
    for number in range(count):
        producer.produce(
            TOPIC,
            key=f"key {number % 10}",
            value=f"record {number:06}",
            on_delivery=lambda error, _: error and failures.append(error),
        )
        producer.poll(0)
    left = producer.flush(SECONDS)
    if failures or left:
        sys.exit(f"{len(failures)} records refused, {left} unanswered: {failures[:1]}")


def reader_of(group):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "enable.auto.commit": False})


def ends_of(reader):
    """The end of each partition, in order."""
    partitions = sorted(reader.list_topics(TOPIC, SECONDS).topics[TOPIC].partitions)
    return [reader.get_watermark_offsets(TopicPartition(TOPIC, partition), SECONDS)[1] for partition in partitions]


def read():
    """Prints all values up to the current ends of the partitions."""
    reader = reader_of("unused")
    ends = ends_of(reader)
    reader.assign([TopicPartition(TOPIC, partition, 0) for partition in range(len(ends))])
    # Markers and compacted records have offsets but are not delivered. An empty partition has no position: -1001.
    while any(max(place.offset, 0) < end for place, end in zip(places(reader, len(ends)), ends)):
        for message in reader.consume(1000, 1):
            if message.error():
                sys.exit(str(message.error()))
            print(message.value().decode())
    reader.close()


def places(reader, partitions):
    return reader.position([TopicPartition(TOPIC, partition) for partition in range(partitions)])


def ends():
    reader = reader_of("unused")
    for end in ends_of(reader):
        print(end)
    reader.close()


def commit(group):
    reader = reader_of(group)
    offsets = [TopicPartition(TOPIC, partition, end) for partition, end in enumerate(ends_of(reader))]
    reader.commit(offsets=offsets, asynchronous=False)
    reader.close()


def committed(group):
    reader = reader_of(group)
    partitions = [TopicPartition(TOPIC, partition) for partition in range(len(ends_of(reader)))]
    for place in reader.committed(partitions, SECONDS):
        print(max(place.offset, 0))
    reader.close()


ACTIONS = {
    "create": lambda: create(int(sys.argv[4])),
    "produce": lambda: produce(int(sys.argv[4])),
    "read": read,
    "ends": ends,
    "commit": lambda: commit(sys.argv[4]),
    "committed": lambda: committed(sys.argv[4]),
}
ACTIONS[ACTION]()
