"""librdkafka by its Python binding, confluent-kafka."""

import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from claims import BOOTSTRAP, CODECS, DEADLINE_SECONDS, PREFIX, claim, expect, expect_error, expect_same, records, run, wait_until

BASE = {"bootstrap.servers": BOOTSTRAP, "client.id": "confluent"}


ADMIN = AdminClient(BASE)


def settle(futures):
    """Waits for every future of an admin call and returns the results by key."""
    return {key: future.result(DEADLINE_SECONDS) for key, future in futures.items()}


def create(topic, partitions=3, **config):
    settle(ADMIN.create_topics([NewTopic(topic, partitions, 1, config=config)]))


def produce(topic, sent, **config):
    """Produces every record and fails unless each one is acknowledged."""
    failures = []
    acknowledged = []

    def delivered(error, message):
        failures.append(error) if error else acknowledged.append(message.offset())

    producer = Producer({**BASE, **config})
    for record in sent:
        producer.produce(
            topic,
            partition=record["partition"],
            key=record["key"],
            value=record["value"],
            headers=record["headers"],
            timestamp=record["timestamp"],
            on_delivery=delivered,
        )
    left = producer.flush(DEADLINE_SECONDS)
    expect(not failures and left == 0, f"{failures[:2]} and {left} in the queue")
    expect(len(acknowledged) == len(sent), f"{len(acknowledged)} acknowledged")


def consumer(group, **config):
    return Consumer(
        {
            **BASE,
            "group.id": f"{PREFIX}-{group}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 10000,
            **config,
        }
    )


def take(reader, count):
    """Consumes exactly `count` records."""
    received = []

    def enough():
        message = reader.poll(0.2)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            received.append(
                {
                    "partition": message.partition(),
                    "key": message.key(),
                    "value": message.value(),
                    "headers": message.headers(),
                    "timestamp": message.timestamp()[1],
                }
            )
        return len(received) >= count

    wait_until(enough, f"consuming {count} records")
    expect(reader.poll(0.2) is None, "more records than were sent")
    return received


@claim
def admin_creates_and_describes_a_topic():
    create(f"{PREFIX}-admin", 3, **{"retention.ms": "3600000"})
    metadata = ADMIN.list_topics(timeout=DEADLINE_SECONDS)
    expect(len(metadata.topics[f"{PREFIX}-admin"].partitions) == 3, "not three partitions")
    expect(metadata.cluster_id, "no cluster id")


@claim
def admin_refuses_a_topic_that_exists():
    expect_error(lambda: create(f"{PREFIX}-admin"), "TOPIC_ALREADY_EXISTS")
    expect_error(lambda: create("not a name"), "TOPIC_EXCEPTION")


@claim
def admin_describes_and_alters_configs():
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{PREFIX}-admin")
    before = next(iter(settle(ADMIN.describe_configs([resource])).values()))
    expect(before["retention.ms"].value == "3600000", "retention.ms was not created")
    expect(before["cleanup.policy"].is_default, "cleanup.policy is not a default")
    change = ConfigResource(
        ConfigResource.Type.TOPIC,
        f"{PREFIX}-admin",
        incremental_configs=[
            ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
            ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
        ],
    )
    settle(ADMIN.incremental_alter_configs([change]))

    def visible():
        after = next(iter(settle(ADMIN.describe_configs([resource])).values()))
        return (
            after["max.message.bytes"].value == "2000"
            and after["retention.ms"].is_default
            and after["cleanup.policy"].value == "delete,compact"
        )

    wait_until(visible, "the altered config", 10)


@claim
def producer_is_refused_a_record_too_large():
    topic = f"{PREFIX}-small"
    create(topic, 3, **{"max.message.bytes": "2000"})
    large = [{**records(1)[0], "value": b"x" * 5000}]
    try:
        produce(topic, large, acks="all")
    except AssertionError as error:
        expect("MSG_SIZE_TOO_LARGE" in str(error), f"not MSG_SIZE_TOO_LARGE: {error}")
    else:
        raise AssertionError("a record larger than max.message.bytes was accepted")


@claim
def admin_adds_partitions():
    settle(ADMIN.create_partitions([NewPartitions(f"{PREFIX}-admin", 5)]))
    wait_until(
        lambda: len(ADMIN.list_topics(f"{PREFIX}-admin", DEADLINE_SECONDS).topics[f"{PREFIX}-admin"].partitions) == 5,
        "five partitions",
        10,
    )


@claim
def admin_describes_the_cluster():
    cluster = ADMIN.describe_cluster().result(DEADLINE_SECONDS)
    expect(len(cluster.nodes) == 1, f"{len(cluster.nodes)} nodes")
    expect(cluster.controller is not None and cluster.cluster_id, "no controller or cluster id")


@claim
def every_codec_comes_back_as_it_was_sent():
    for codec in CODECS:
        topic = f"{PREFIX}-codec-{codec}"
        create(topic)
        produce(topic, records(), **{"compression.type": codec, "linger.ms": 50, "acks": "all"})
        reader = consumer(f"codec-{codec}")
        reader.subscribe([topic])
        expect_same(records(), take(reader, 30))
        reader.close()


@claim
def every_acks_is_answered():
    topic = f"{PREFIX}-acks"
    create(topic)
    for acks in ("all", "1", "0"):
        produce(topic, records(), acks=acks)
    reader = consumer("acks")
    reader.subscribe([topic])
    take(reader, 90)
    reader.close()


@claim
def idempotent_producer_keeps_order():
    topic = f"{PREFIX}-idempotent"
    create(topic)
    sent = records(300)
    produce(topic, sent, **{"enable.idempotence": True, "batch.num.messages": 7, "linger.ms": 5})
    reader = consumer("idempotent")
    reader.subscribe([topic])
    expect_same(sent, take(reader, 300))
    reader.close()


@claim
def producing_creates_the_topic():
    produce(f"{PREFIX}-automatic", [{**records(1)[0]}], acks="all")


@claim
def group_resumes_from_its_commit():
    topic = f"{PREFIX}-commit"
    create(topic)
    produce(topic, records())
    first = consumer("commit")
    first.subscribe([topic])
    take(first, 30)
    partitions = [TopicPartition(topic, 0, 4, metadata="four"), TopicPartition(topic, 1, 10), TopicPartition(topic, 2, 7)]
    for answer in first.commit(offsets=partitions, asynchronous=False):
        expect(answer.error is None, f"{answer.error}")
    first.close()
    second = consumer("commit")
    second.subscribe([topic])
    received = take(second, 9)
    counts = [len([record for record in received if record["partition"] == partition]) for partition in range(3)]
    expect(counts == [6, 0, 3], f"resumed with {counts}")
    committed = {answer.partition: answer.offset for answer in second.committed(partitions, DEADLINE_SECONDS)}
    expect(committed == {0: 4, 1: 10, 2: 7}, f"committed {committed}")
    second.close()


def rebalance(strategy):
    """A second member joins, shares the partitions, and leaves them behind again."""
    topic = f"{PREFIX}-rebalance-{strategy}"
    create(topic, 4)
    first = consumer(f"rebalance-{strategy}", **{"partition.assignment.strategy": strategy, "heartbeat.interval.ms": 500})
    second = consumer(f"rebalance-{strategy}", **{"partition.assignment.strategy": strategy, "heartbeat.interval.ms": 500})

    def owned(*members):
        for member in members:
            member.poll(0.1)
        return [len(member.assignment()) for member in members]

    first.subscribe([topic])
    wait_until(lambda: owned(first) == [4], "the first member owning all")
    second.subscribe([topic])
    wait_until(lambda: owned(first, second) == [2, 2], "sharing the partitions")
    second.close()
    wait_until(lambda: owned(first) == [4], "the first member owning all again")
    first.close()


@claim
def eager_group_rebalances():
    rebalance("range")


@claim
def cooperative_group_rebalances():
    rebalance("cooperative-sticky")


@claim
def static_member_returns_without_a_rebalance():
    topic = f"{PREFIX}-static"
    create(topic)
    member_ids = []
    for _ in range(2):
        member = consumer("static", **{"group.instance.id": "one"})
        member.subscribe([topic])
        wait_until(lambda: member.poll(0.1) is None and len(member.assignment()) == 3, "the static member's partitions")
        member_ids.append(member.memberid())
        member.close()
    expect(member_ids[0] != member_ids[1], "the member id of a static member was not replaced")


@claim
def admin_lists_describes_and_deletes_groups():
    group = f"{PREFIX}-commit"
    listed = ADMIN.list_consumer_groups().result(DEADLINE_SECONDS)
    expect(group in [entry.group_id for entry in listed.valid], "the group is not listed")
    described = settle(ADMIN.describe_consumer_groups([group]))[group]
    expect(described.state.name == "EMPTY", f"state {described.state}")
    offsets = settle(ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    found = {entry.partition: (entry.offset, entry.metadata) for entry in offsets.topic_partitions}
    expect(found[0] == (4, "four"), f"offsets {found}")
    changed = ConsumerGroupTopicPartitions(group, [TopicPartition(f"{PREFIX}-commit", 0, 2)])
    settle(ADMIN.alter_consumer_group_offsets([changed]))
    offsets = settle(ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    expect({entry.partition: entry.offset for entry in offsets.topic_partitions}[0] == 2, "the offset was not altered")
    settle(ADMIN.delete_consumer_groups([group]))
    listed = ADMIN.list_consumer_groups().result(DEADLINE_SECONDS)
    expect(group not in [entry.group_id for entry in listed.valid], "the deleted group is listed")


@claim
def offsets_are_found_by_time():
    topic = f"{PREFIX}-codec-none"
    asked = {
        TopicPartition(topic, 0): OffsetSpec.earliest(),
        TopicPartition(topic, 1): OffsetSpec.latest(),
        TopicPartition(topic, 2): OffsetSpec.for_timestamp(records(30)[14]["timestamp"]),
    }
    answers = {partition.partition: answer.offset for partition, answer in settle(ADMIN.list_offsets(asked)).items()}
    expect(answers == {0: 0, 1: 10, 2: 4}, f"offsets {answers}")
    newest = {TopicPartition(topic, 0): OffsetSpec.max_timestamp()}
    answer = next(iter(settle(ADMIN.list_offsets(newest)).values()))
    expect((answer.offset, answer.timestamp) == (9, records(30)[27]["timestamp"]), f"maximum {answer}")


@claim
def records_are_deleted_up_to_an_offset():
    topic = f"{PREFIX}-codec-gzip"
    settle(ADMIN.delete_records([TopicPartition(topic, 0, 6)]))
    reader = consumer("deleted")
    expect(reader.get_watermark_offsets(TopicPartition(topic, 0), DEADLINE_SECONDS) == (6, 10), "watermarks did not move")
    reader.assign([TopicPartition(topic, 0, 0)])
    received = take(reader, 4)
    expect(received[0]["headers"][0] == ("index", b"18"), f"first left is {received[0]['headers'][0]}")
    reader.close()


@claim
def a_fetch_at_the_end_waits_for_the_next_record():
    topic = f"{PREFIX}-tail"
    create(topic)
    reader = consumer("tail", **{"fetch.wait.max.ms": 5000})
    reader.assign([TopicPartition(topic, 0, 0)])
    reader.poll(0.5)
    start = time.monotonic()
    produce(topic, records(1), **{"acks": "all", "linger.ms": 0})
    take_one = []
    wait_until(lambda: take_one.append(reader.poll(1)) or take_one[-1] is not None, "the record")
    expect(time.monotonic() - start < 3, "the record came only when the fetch ran out")
    reader.close()


@claim
def records_acknowledged_with_acks_1_are_readable():
    topic = f"{PREFIX}-acks-1"
    create(topic, 1)
    partition = TopicPartition(topic, 0)
    reader = consumer("acks-1")
    for end in range(1, 21):
        produce(topic, records(1), **{"acks": "1", "linger.ms": 0})
        seen = reader.get_watermark_offsets(partition, DEADLINE_SECONDS)
        expect(seen[1] == end, f"the end is {seen[1]}, not {end}")
    answer = settle(ADMIN.delete_records([TopicPartition(topic, 0, 20)]))
    expect(list(answer.values())[0].low_watermark == 20, f"deleted up to {answer}")
    produce(topic, records(1), **{"acks": "1", "linger.ms": 0})
    answer = settle(ADMIN.delete_records([TopicPartition(topic, 0, -1)]))
    expect(list(answer.values())[0].low_watermark == 21, f"deleted up to {answer}")
    reader.close()


@claim
def a_reader_at_the_end_has_what_comes_with_any_acks():
    topic = f"{PREFIX}-tail-acks"
    create(topic, 1)
    reader = consumer("tail-acks")
    reader.assign([TopicPartition(topic, 0, 0)])
    for acks in ("1", "0", "all") * 5:
        produce(topic, records(1), **{"acks": acks, "linger.ms": 0})
        received = take(reader, 1)
        expect(received[0]["headers"][0] == ("index", b"0"), f"received {received}")
    reader.close()


@claim
def transactions_work_or_are_refused_with_the_reason():
    producer = Producer({**BASE, "transactional.id": f"{PREFIX}-transaction"})
    try:
        producer.init_transactions(DEADLINE_SECONDS)
    except KafkaException as error:
        reason = error.args[0]
        expect(reason.fatal() and "transactions are not served" in reason.str(), f"failed with {reason}")


@claim
def the_consumer_protocol_works_or_is_refused():
    topic = f"{PREFIX}-consumer-protocol"
    create(topic)
    produce(topic, records(3))
    member = Consumer(
        {**BASE, "group.id": topic, "group.protocol": "consumer", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    member.subscribe([topic])
    try:
        take(member, 3)
    except KafkaException as error:
        expect("API version not supported" in error.args[0].str(), f"failed with {error}")
    member.close()


@claim
def admin_deletes_topics():
    settle(ADMIN.delete_topics([f"{PREFIX}-admin"]))
    wait_until(lambda: f"{PREFIX}-admin" not in ADMIN.list_topics(timeout=DEADLINE_SECONDS).topics, "the deletion", 10)
    expect_error(lambda: settle(ADMIN.delete_topics([f"{PREFIX}-admin"])), "UNKNOWN_TOPIC_OR_PART")


run(sys.modules[__name__])
