"""What clients see of damaged and of repaired partitions: BOOTSTRAP TOPIC PHASE HURT, offsets with commas."""

import sys
import time

import kafka
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from claims import BOOTSTRAP, DEADLINE_SECONDS, PREFIX, expect, report, wait_until

TOPIC = PREFIX
RECORDS = 200
HURT = [int(offset) for offset in sys.argv[4].split(",")]
LEFT = [offset for offset in range(RECORDS) if offset not in HURT]


def value(offset):
    """One batch per record, several segments per partition."""
    return f"{offset} ".encode() * (20_000 // len(f"{offset} "))


def fill():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    topic = NewTopic(TOPIC, 1, 1, config={"segment.bytes": str(1 << 20)})
    for made in admin.create_topics([topic]).values():
        made.result(DEADLINE_SECONDS)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 0, "acks": "all"})
    for offset in range(RECORDS):
        producer.produce(TOPIC, value(offset), partition=0)
        expect(producer.flush(DEADLINE_SECONDS) == 0, f"{offset} was not acknowledged")


def librdkafka_consumer():
    return Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": f"{TOPIC}-unused",
            "enable.auto.commit": False,
            "check.crcs": True,
            # So that each refusal arrives soon.
            "fetch.error.backoff.ms": 50,
        }
    )


def read_on(poll, seek):
    """Reads the partition from its beginning; continues after each refused record."""
    got, refused, position = [], [], 0
    end = time.monotonic() + DEADLINE_SECONDS
    while position < RECORDS:
        expect(time.monotonic() < end, f"nothing more comes from {position}")
        error, records = poll()
        for offset, content in records:
            expect(content == value(offset), f"{offset} has another value")
            got.append(offset)
            position = offset + 1
        if error and position < RECORDS and position not in refused:
            refused.append(position)
            position += 1
            seek(position)
    return got, refused


def librdkafka_is_refused_what_is_damaged_and_reads_on_behind_it():
    consumer = librdkafka_consumer()
    consumer.assign([TopicPartition(TOPIC, 0, 0)])

    def poll():
        message = consumer.poll(1)
        if message is None:
            return None, []
        if message.error():
            expect(message.error().code() in (KafkaError._BAD_MSG, KafkaError.INVALID_MSG),
                   f"refused with {message.error()}")
            return True, []
        return None, [(message.offset(), message.value())]

    got, refused = read_on(poll, lambda offset: consumer.seek(TopicPartition(TOPIC, 0, offset)))
    consumer.close()
    expect_offsets(got, refused)


def kafka_python_is_refused_what_is_damaged_and_reads_on_behind_it():
    consumer = kafka.KafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, max_poll_records=1)
    partition = kafka.TopicPartition(TOPIC, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)

    def poll():
        try:
            polled = consumer.poll(timeout_ms=500)
        except kafka.errors.KafkaError as error:
            expect("orrupt" in f"{type(error).__name__} {error}", f"refused with {error!r}")
            return error, []
        records = [record for records in polled.values() for record in records]
        return None, [(record.offset, record.value) for record in records]

    got, refused = read_on(poll, lambda offset: consumer.seek(partition, offset))
    consumer.close()
    expect_offsets(got, refused)


def expect_offsets(got, refused):
    expect(refused == HURT, f"refused were {refused}, not {HURT}")
    expect(got == LEFT, f"{len(got)} of {len(LEFT)} records came")


def librdkafka_reads_all_that_is_left():
    consumer = librdkafka_consumer()
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    got = []

    def has_all():
        message = consumer.poll(1)
        if message is not None:
            expect(not message.error(), str(message.error()))
            expect(message.value() == value(message.offset()), f"{message.offset()} has another value")
            got.append(message.offset())
        return len(got) == len(LEFT)

    wait_until(has_all, "the last record")
    low, high = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=DEADLINE_SECONDS)
    consumer.close()
    expect(got == LEFT, f"{got} came")
    expect((low, high) == (0, RECORDS), f"the log goes from {low} to {high}")


PHASES = {
    "fill": [fill],
    "damaged": [
        librdkafka_is_refused_what_is_damaged_and_reads_on_behind_it,
        kafka_python_is_refused_what_is_damaged_and_reads_on_behind_it,
    ],
    "repaired": [librdkafka_reads_all_that_is_left],
}

for check in PHASES[sys.argv[3]]:
    try:
        check()
        report(check.__name__, None)
    except Exception as error:  # noqa: BLE001
        report(check.__name__, error)
print("done", flush=True)
