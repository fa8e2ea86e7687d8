"""What a topic and the groups that read it have at the end, as fresh clients are told."""

from checker import Log
from confluent_kafka import Consumer, TopicPartition
from ledger import record_in
from nodes import wait_for

GROUPS = ("java", "librdkafka", "franz")
"""Those of the loads."""
PATIENCE = 120
"""Seconds in which a healed cluster must be healthy, and do what is asked."""


class Unable(Exception):
    """The cluster does not do what it must."""


class Content:
    def __init__(self, bootstrap, topic, partitions):
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions

    def logs(self):
        """A Log of each partition, read by a fresh client."""
        return [self.read(partition) for partition in range(self.partitions)]

    def consumer(self, group="fresh"):
        settings = {"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False}
        return Consumer({**settings, "auto.offset.reset": "error", "log_level": 0, "error_cb": lambda _: None})

    def read(self, partition):
        consumer = self.consumer()
        start, end = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=PATIENCE)
        if start != 0:
            raise Unable(f"{self.topic}-{partition} begins at {start}")
        consumer.assign([TopicPartition(self.topic, partition, 0)])
        entries = []
        position = 0

        def is_at_end():
            nonlocal position
            for message in consumer.consume(5000, 0.2):
                if message.error():
                    raise Unable(f"{self.topic}-{partition} cannot be read: {message.error()}")
                entries.append((message.offset(), record_in(message.value())))
            position = consumer.position([TopicPartition(self.topic, partition)])[0].offset
            return position >= end

        if not wait_for(is_at_end, PATIENCE, 0):
            raise Unable(f"{self.topic}-{partition} cannot be read from {position} to {end}")
        consumer.close()
        return Log(partition, entries, end)

    def committed(self, group):
        """{partition: offset}"""
        consumer = self.consumer(group)
        found = consumer.committed([TopicPartition(self.topic, number) for number in range(self.partitions)], PATIENCE)
        consumer.close()
        return {place.partition: place.offset for place in found}

    def commits(self):
        """{(group, partition): offset}, of those that have one"""
        found = {(group, partition): offset for group in GROUPS for partition, offset in self.committed(group).items()}
        return {place: offset for place, offset in found.items() if offset >= 0}

    def has_committed(self, ends):
        """Whether every group has committed these ends of the logs."""
        return all(self.committed(group) == ends for group in GROUPS)

    def ends(self):
        consumer = self.consumer()
        ends = [consumer.get_watermark_offsets(TopicPartition(self.topic, number), timeout=PATIENCE)[1] for number in range(self.partitions)]
        consumer.close()
        return dict(enumerate(ends))
