"""kafka-python: the pure Python client."""

import sys
import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, OffsetSpec
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from claims import BOOTSTRAP, CODECS, DEADLINE_SECONDS, PREFIX, claim, expect, expect_error, expect_same, records, run, wait_until

BASE = {"bootstrap_servers": BOOTSTRAP, "client_id": "kafka-python"}
ADMIN = KafkaAdminClient(**BASE)


def create(topic, partitions=3, **configs):
    ADMIN.create_topics(
        {topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
    )


def produce(topic, sent, **config):
    """Produces every record and fails unless each one is acknowledged."""
    producer = KafkaProducer(**BASE, **config)
    futures = [
        producer.send(
            topic,
            partition=record["partition"],
            key=record["key"],
            value=record["value"],
            headers=record["headers"],
            timestamp_ms=record["timestamp"],
        )
        for record in sent
    ]
    producer.flush(DEADLINE_SECONDS)
    answers = [future.get(DEADLINE_SECONDS) for future in futures]
    producer.close()
    return answers


def consumer(group, *topics, **config):
    return KafkaConsumer(
        *topics,
        **{
            **BASE,
            "group_id": f"{PREFIX}-{group}" if group else None,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 10000,
            "heartbeat_interval_ms": 500,
            **config,
        },
    )


def take(reader, count):
    """Consumes exactly `count` records."""
    received = []

    def enough():
        for messages in reader.poll(timeout_ms=200).values():
            for message in messages:
                received.append(
                    {
                        "partition": message.partition,
                        "key": message.key,
                        "value": message.value,
                        "headers": list(message.headers),
                        "timestamp": message.timestamp,
                    }
                )
        return len(received) >= count

    wait_until(enough, f"consuming {count} records")
    expect(len(received) == count and not reader.poll(timeout_ms=200), "more records than were sent")
    return received


@claim
def admin_creates_and_describes_a_topic():
    topic = f"{PREFIX}-admin"
    create(topic, 3, **{"retention.ms": "3600000"})
    described = ADMIN.describe_topics([topic])[0]
    expect(len(described["partitions"]) == 3, f"described as {described}")
    expect(topic in ADMIN.list_topics(), "the topic is not listed")
    expect_error(lambda: create(topic), "TopicAlreadyExistsError")


@claim
def admin_describes_and_alters_configs():
    topic = f"{PREFIX}-admin"
    ADMIN.alter_configs(
        [
            ConfigResource(
                ConfigResourceType.TOPIC,
                topic,
                configs={
                    "max.message.bytes": "2000",
                    "retention.ms": (AlterConfigOp.DELETE, None),
                    "cleanup.policy": (AlterConfigOp.APPEND, "compact"),
                },
            )
        ]
    )

    def visible():
        answer = ADMIN.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        found = {name: entry["value"] for name, entry in next(iter(answer.values()))[topic].items()}
        return (found["max.message.bytes"], found["retention.ms"], found["cleanup.policy"]) == (
            "2000",
            "604800000",
            "delete,compact",
        )

    wait_until(visible, "the altered config", 10)


@claim
def admin_adds_partitions():
    ADMIN.create_partitions({f"{PREFIX}-admin": 5})
    wait_until(lambda: len(ADMIN.describe_topics([f"{PREFIX}-admin"])[0]["partitions"]) == 5, "five partitions", 10)


@claim
def admin_describes_the_cluster_and_its_disks():
    cluster = ADMIN.describe_cluster()
    expect(len(cluster["brokers"]) == 1 and cluster["cluster_id"], f"described as {cluster}")
    expect(ADMIN.describe_log_dirs(), "no log directory")
    expect(ADMIN.describe_metadata_quorum(), "no quorum")


@claim
def every_codec_comes_back_as_it_was_sent():
    for codec in CODECS:
        topic = f"{PREFIX}-codec-{codec}"
        create(topic)
        produce(topic, records(), compression_type=None if codec == "none" else codec, linger_ms=50, acks="all")
        reader = consumer(f"codec-{codec}", topic)
        expect_same(records(), take(reader, 30))
        reader.close()


@claim
def every_acks_is_answered():
    topic = f"{PREFIX}-acks"
    create(topic)
    for acks in ("all", 1, 0):
        produce(topic, records(), acks=acks, enable_idempotence=False)
    reader = consumer("acks", topic)
    take(reader, 90)
    reader.close()


@claim
def idempotent_producer_keeps_order():
    topic = f"{PREFIX}-idempotent"
    create(topic)
    sent = records(300)
    answers = produce(topic, sent, enable_idempotence=True, batch_size=2000, linger_ms=5)
    offsets = [answer.offset for answer in answers if answer.partition == 0]
    expect(offsets == list(range(100)), f"offsets {offsets}")
    reader = consumer("idempotent", topic)
    expect_same(sent, take(reader, 300))
    reader.close()
    described = ADMIN.describe_producers([TopicPartition(topic, 0)])
    expect(described, "no producer is described")


@claim
def producer_is_refused_a_record_too_large():
    topic = f"{PREFIX}-small"
    create(topic, 3, **{"max.message.bytes": "2000"})
    large = [{**records(1)[0], "value": b"x" * 5000}]
    expect_error(lambda: produce(topic, large, retries=0, enable_idempotence=False), "MessageSizeTooLargeError")


@claim
def group_resumes_from_its_commit():
    topic = f"{PREFIX}-commit"
    create(topic)
    produce(topic, records())
    first = consumer("commit", topic)
    take(first, 30)
    first.commit(
        {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, -1)
            for partition, offset, metadata in [(0, 4, "four"), (1, 10, ""), (2, 7, "")]
        }
    )
    first.close()
    second = consumer("commit", topic)
    received = take(second, 9)
    counts = [len([record for record in received if record["partition"] == partition]) for partition in range(3)]
    expect(counts == [6, 0, 3], f"resumed with {counts}")
    expect(second.committed(TopicPartition(topic, 2)) == 7, "another offset was committed")
    second.close()


class Member(threading.Thread):
    """A group member that polls in its own thread, like an application, until it must leave."""

    def __init__(self, group, topic, **config):
        super().__init__(daemon=True)
        self.arguments = (group, topic, config)
        self.leaving = threading.Event()
        self.owned = 0
        self.start()

    def run(self):
        group, topic, config = self.arguments
        reader = consumer(group, topic, **config)
        while not self.leaving.is_set():
            reader.poll(timeout_ms=100)
            self.owned = len(reader.assignment())
        reader.close()

    def leave(self):
        self.leaving.set()
        self.join(DEADLINE_SECONDS)
        expect(not self.is_alive(), "the member did not leave")


def owned_by(members, counts, what):
    def holds():
        time.sleep(0.05)
        return [member.owned for member in members] == counts

    wait_until(holds, what)


@claim
def group_rebalances():
    topic = f"{PREFIX}-rebalance"
    create(topic, 4)
    first = Member("rebalance", topic, partition_assignment_strategy=[RangePartitionAssignor])
    owned_by([first], [4], "the first member owning all")
    second = Member("rebalance", topic, partition_assignment_strategy=[RangePartitionAssignor])
    owned_by([first, second], [2, 2], "sharing the partitions")
    second.leave()
    owned_by([first], [4], "the first member owning all again")
    first.leave()


@claim
def admin_lists_describes_and_deletes_groups():
    group = f"{PREFIX}-commit"
    expect(group in [entry["group_id"] for entry in ADMIN.list_groups()], "the group is not listed")
    described = ADMIN.describe_groups([group])[group]
    expect(described["group_state"] == "Empty", f"described as {described}")
    offsets = ADMIN.list_group_offsets([group])[group]
    found = offsets[TopicPartition(f"{PREFIX}-commit", 0)]
    expect((found.offset, found.metadata) == (4, "four"), f"offsets {offsets}")
    ADMIN.alter_group_offsets(group, {TopicPartition(f"{PREFIX}-commit", 0): OffsetAndMetadata(2, "", -1)})
    offsets = ADMIN.list_group_offsets([group])[group]
    expect(offsets[TopicPartition(f"{PREFIX}-commit", 0)].offset == 2, "the offset was not altered")
    ADMIN.delete_group_offsets(group, [TopicPartition(f"{PREFIX}-commit", 1)])
    offsets = ADMIN.list_group_offsets([group])[group]
    expect(TopicPartition(f"{PREFIX}-commit", 1) not in offsets, "the offset was not deleted")
    ADMIN.delete_groups([group])
    expect(group not in [entry["group_id"] for entry in ADMIN.list_groups()], "the deleted group is listed")


@claim
def offsets_are_found_by_time():
    topic = f"{PREFIX}-codec-none"
    reader = consumer(None)
    partitions = [TopicPartition(topic, partition) for partition in range(3)]
    expect(list(reader.beginning_offsets(partitions).values()) == [0, 0, 0], "beginnings")
    expect(list(reader.end_offsets(partitions).values()) == [10, 10, 10], "ends")
    found = reader.offsets_for_times({partitions[2]: records(30)[14]["timestamp"]})
    expect(found[partitions[2]].offset == 4, f"found {found}")
    reader.close()
    answers = ADMIN.list_partition_offsets({partitions[0]: OffsetSpec.MAX_TIMESTAMP})
    expect(answers[partitions[0]].offset == 9, f"maximum {answers}")


@claim
def records_are_deleted_up_to_an_offset():
    partition = TopicPartition(f"{PREFIX}-codec-gzip", 0)
    ADMIN.delete_records({partition: 6})
    reader = consumer(None)
    expect(reader.beginning_offsets([partition])[partition] == 6, "the beginning did not move")
    reader.assign([partition])
    reader.seek_to_beginning(partition)
    expect(take(reader, 4)[0]["headers"][0] == ("index", b"18"), "another record is first")
    reader.close()


@claim
def records_acknowledged_with_acks_1_are_readable():
    topic = f"{PREFIX}-acks-1"
    create(topic, 1)
    partition = TopicPartition(topic, 0)
    reader = consumer(None)
    for end in range(1, 21):
        produce(topic, records(1), acks=1)
        seen = reader.end_offsets([partition])[partition]
        expect(seen == end, f"the end is {seen}, not {end}")
    ADMIN.delete_records({partition: 20})
    expect(reader.beginning_offsets([partition])[partition] == 20, "not deleted up to 20")
    produce(topic, records(1), acks=1)
    ADMIN.delete_records({partition: -1})
    expect(reader.beginning_offsets([partition])[partition] == 21, "not deleted up to the end")
    reader.close()


@claim
def a_reader_at_the_end_has_what_comes_with_any_acks():
    topic = f"{PREFIX}-tail-acks"
    create(topic, 1)
    reader = consumer(None)
    reader.assign([TopicPartition(topic, 0)])
    for acks in (1, 0, "all") * 5:
        produce(topic, records(1), acks=acks)
        received = take(reader, 1)
        expect(received[0]["headers"][0] == ("index", b"0"), f"received {received}")
    reader.close()


@claim
def admin_deletes_topics():
    topic = f"{PREFIX}-admin"
    ADMIN.delete_topics([topic])
    wait_until(lambda: topic not in ADMIN.list_topics(), "the deletion", 10)
    expect_error(lambda: ADMIN.delete_topics([topic]), "UnknownTopicOrPartitionError")


run(sys.modules[__name__])
