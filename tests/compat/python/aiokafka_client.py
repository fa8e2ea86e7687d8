"""aiokafka: the asyncio client."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import MessageSizeTooLargeError, for_code
from aiokafka.structs import OffsetAndMetadata

from claims import BOOTSTRAP, CODECS, DEADLINE_SECONDS, PREFIX, claim, expect, expect_same, records, run

BASE = {"bootstrap_servers": BOOTSTRAP, "client_id": "aiokafka"}


def asynchronous(function):
    """A claim whose body is a coroutine, bounded as a whole."""

    def check():
        asyncio.run(asyncio.wait_for(function(), 2 * DEADLINE_SECONDS))

    check.__name__ = function.__name__
    return claim(check)


async def with_admin(call):
    admin = AIOKafkaAdminClient(**BASE)
    await admin.start()
    try:
        return await call(admin)
    finally:
        await admin.close()


def refuse(errors):
    """Fails on the first error code that is not zero."""
    for code in errors:
        if code:
            raise for_code(code)()


async def create(topic, partitions=3, **configs):
    answer = await with_admin(lambda admin: admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))
    refuse(entry[1] for entry in answer.topic_errors)


async def produce(topic, sent, **config):
    producer = AIOKafkaProducer(**BASE, **config)
    await producer.start()
    try:
        waiting = [
            await producer.send(
                topic,
                partition=record["partition"],
                key=record["key"],
                value=record["value"],
                headers=record["headers"],
                timestamp_ms=record["timestamp"],
            )
            for record in sent
        ]
        return await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE_SECONDS)
    finally:
        await producer.stop()


async def consumer(group, *topics, **config):
    reader = AIOKafkaConsumer(
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
    await reader.start()
    return reader


async def take(reader, count):
    received = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(received) < count:
            message = await reader.getone()
            received.append(
                {
                    "partition": message.partition,
                    "key": message.key,
                    "value": message.value,
                    "headers": list(message.headers),
                    "timestamp": message.timestamp,
                }
            )
    expect(not await reader.getmany(timeout_ms=200), "more records than were sent")
    return received


async def until(holds, what):
    """Waits, letting the event loop run, until `holds`."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen") from None


@asynchronous
async def admin_creates_alters_and_describes_a_topic():
    topic = f"{PREFIX}-admin"
    await create(topic, 3, **{"retention.ms": "3600000"})

    async def calls(admin):
        described = await admin.describe_topics([topic])
        expect(len(described[0]["partitions"]) == 3, f"described as {described}")
        await admin.create_partitions({topic: NewPartitions(5)})
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "2000"})])
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        found = {entry[0]: entry[1] for entry in answers[0].resources[0][4]}
        expect(found["max.message.bytes"] == "2000", "the config was not altered")
        expect(found["retention.ms"] == "604800000", "AlterConfigs did not replace the configs")
        expect(len((await admin.describe_topics([topic]))[0]["partitions"]) == 5, "not five partitions")
        expect(topic in await admin.list_topics(), "the topic is not listed")
        expect((await admin.describe_cluster())["cluster_id"], "no cluster id")

    await with_admin(calls)


@asynchronous
async def every_codec_comes_back_as_it_was_sent():
    for codec in CODECS:
        topic = f"{PREFIX}-codec-{codec}"
        await create(topic)
        await produce(topic, records(), compression_type=None if codec == "none" else codec, linger_ms=50, acks="all")
        reader = await consumer(f"codec-{codec}", topic)
        received = await take(reader, 30)
        await reader.stop()
        expect_same(records(), received)


@asynchronous
async def every_acks_is_answered():
    topic = f"{PREFIX}-acks"
    await create(topic)
    for acks in ("all", 1, 0):
        await produce(topic, records(), acks=acks)
    reader = await consumer("acks", topic)
    await take(reader, 90)
    await reader.stop()


@asynchronous
async def idempotent_producer_keeps_order():
    topic = f"{PREFIX}-idempotent"
    await create(topic)
    sent = records(300)
    answers = await produce(topic, sent, enable_idempotence=True, max_batch_size=2000, linger_ms=5)
    offsets = [answer.offset for answer in answers if answer.partition == 0]
    expect(offsets == list(range(100)), f"offsets {offsets}")
    reader = await consumer("idempotent", topic, isolation_level="read_committed")
    expect_same(sent, await take(reader, 300))
    await reader.stop()


@asynchronous
async def producer_is_refused_a_record_too_large():
    topic = f"{PREFIX}-small"
    await create(topic, 3, **{"max.message.bytes": "2000"})
    try:
        await produce(topic, [{**records(1)[0], "value": b"x" * 5000}])
    except MessageSizeTooLargeError:
        return
    raise AssertionError("a record larger than max.message.bytes was accepted")


@asynchronous
async def group_resumes_from_its_commit():
    topic = f"{PREFIX}-commit"
    await create(topic)
    await produce(topic, records())
    first = await consumer("commit", topic)
    await take(first, 30)
    offsets = {0: (4, "four"), 1: (10, ""), 2: (7, "")}
    await first.commit({TopicPartition(topic, partition): commit for partition, commit in offsets.items()})
    await first.stop()
    second = await consumer("commit", topic)
    received = await take(second, 9)
    counts = [len([record for record in received if record["partition"] == partition]) for partition in range(3)]
    expect(counts == [6, 0, 3], f"resumed with {counts}")
    expect(await second.committed(TopicPartition(topic, 2)) == 7, "another offset was committed")
    await second.stop()


async def rebalance(**config):
    """A second member joins, shares the partitions, and leaves them behind again."""
    topic = f"{PREFIX}-rebalance"
    first = await consumer("rebalance", topic, **config)
    await until(lambda: len(first.assignment()) == 4, "the first member owning all")
    second = await consumer("rebalance", topic, **config)
    await until(lambda: [len(first.assignment()), len(second.assignment())] == [2, 2], "sharing the partitions")
    await second.stop()
    await until(lambda: len(first.assignment()) == 4, "the first member owning all again")
    await first.stop()


@asynchronous
async def group_rebalances():
    await create(f"{PREFIX}-rebalance", 4)
    await rebalance(partition_assignment_strategy=[RoundRobinPartitionAssignor])


@asynchronous
async def static_member_joins():
    reader = await consumer("static", f"{PREFIX}-rebalance", group_instance_id="one")
    await until(lambda: len(reader.assignment()) == 4, "the static member owning all")
    await reader.stop()


@asynchronous
async def admin_lists_and_describes_groups():
    group = f"{PREFIX}-commit"

    async def calls(admin):
        listed = await admin.list_consumer_groups()
        expect(group in [entry[0] for entry in listed], "the group is not listed")
        described = (await admin.describe_consumer_groups([group]))[0].groups[0]
        expect(described[1] == group and described[2] == "Empty", f"described as {described}")
        offsets = await admin.list_consumer_group_offsets(group)
        expect(offsets[TopicPartition(f"{PREFIX}-commit", 0)] == OffsetAndMetadata(4, "four"), f"offsets {offsets}")

    await with_admin(calls)


@asynchronous
async def offsets_are_found_by_time():
    partitions = [TopicPartition(f"{PREFIX}-codec-none", partition) for partition in range(3)]
    reader = await consumer(None)
    expect(list((await reader.beginning_offsets(partitions)).values()) == [0, 0, 0], "beginnings")
    expect(list((await reader.end_offsets(partitions)).values()) == [10, 10, 10], "ends")
    found = await reader.offsets_for_times({partitions[2]: records(30)[14]["timestamp"]})
    expect(found[partitions[2]].offset == 4, f"found {found}")
    await reader.stop()


@asynchronous
async def records_are_deleted_up_to_an_offset():
    partition = TopicPartition(f"{PREFIX}-codec-gzip", 0)
    await with_admin(lambda admin: admin.delete_records({partition: RecordsToDelete(6)}))
    reader = await consumer(None)
    reader.assign([partition])
    await reader.seek_to_beginning(partition)
    expect((await take(reader, 4))[0]["headers"][0] == ("index", b"18"), "another record is first")
    await reader.stop()


@asynchronous
async def admin_deletes_topics():
    topic = f"{PREFIX}-admin"

    async def calls(admin):
        refuse(entry[1] for entry in (await admin.delete_topics([topic])).topic_error_codes)
        answer = await admin.delete_topics([topic])
        expect(answer.topic_error_codes[0][1] == 3, f"deleted again: {answer}")

    await with_admin(calls)


run(sys.modules[__name__])
