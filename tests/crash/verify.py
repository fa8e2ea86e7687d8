"""Compares a broker's data after a crash with the ledger of what it acknowledged before."""

import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from load import COMPACTED, GROUP, KEPT, PARTITIONS, TRIMMED, Load


def read_all(address, topic, partition):
    """(log start, log end, {offset: value}) of a partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "crash-verify"})
    place = TopicPartition(topic, partition)
    start, end = consumer.get_watermark_offsets(place, timeout=30)
    consumer.assign([TopicPartition(topic, partition, start)])
    records = {}
    position = start
    deadline = time.monotonic() + 60
    while position < end:
        if time.monotonic() > deadline:
            raise SystemExit(f"{topic}-{partition} cannot be read from {position} to {end}")
        for message in consumer.consume(1000, 0.2):
            if message.error():
                raise SystemExit(f"cannot read {topic}-{partition}: {message.error()}")
            records[message.offset()] = message.value()
            position = message.offset() + 1
    consumer.close()
    return start, end, records


def lost_and_wrong(address, ledger):
    """Returns (acknowledged or read records that are missing, all other faults)."""
    lost, wrong = [], []
    for topic in (KEPT, TRIMMED):
        for partition in range(PARTITIONS):
            start, end, records = read_all(address, topic, partition)
            if topic == KEPT and start != 0:
                wrong.append(f"{topic}-{partition} starts at {start}")
            if sorted(records) != list(range(start, end)):
                wrong.append(f"{topic}-{partition} has gaps between {start} and {end}")
            for what, entries in (("acknowledged", ledger.acked), ("read", ledger.read)):
                for entry in entries:
                    if entry[:2] != (topic, partition) or entry[2] < start:
                        continue
                    if records.get(entry[2]) != entry[3]:
                        lost.append(f"{what}: {topic}-{partition} offset {entry[2]}")
            wrong += out_of_order(topic, partition, records)
    for partition in range(PARTITIONS):
        start, end, records = read_all(address, COMPACTED, partition)
        if start != 0:
            wrong.append(f"{COMPACTED}-{partition} starts at {start}")
        wrong += out_of_order(COMPACTED, partition, records)
        lost += keys_gone(partition, records, ledger.acked)
        ledger.compacted += end - len(records)
    return lost, wrong


def keys_gone(partition, records, acked):
    """Finds keys whose newest record is older than an acknowledged one."""
    newest = {}
    for offset in sorted(records):
        _, sequence, key = records[offset].split(b":")[:3]
        newest[key] = int(sequence)
    gone = []
    for topic, index, offset, value in acked:
        _, sequence, key = value.split(b":")[:3]
        if (topic, index) == (COMPACTED, partition) and newest.get(key, 0) < int(sequence):
            gone.append(f"acknowledged: {topic}-{index} offset {offset}, key {key.decode()}")
    return gone


def out_of_order(topic, partition, records):
    """Checks that each producer's records are there once and in the order of sending."""
    last, wrong = {}, []
    for offset in sorted(records):
        producer, sequence = records[offset].split(b":")[:2]
        if int(sequence) <= last.get(producer, 0):
            wrong.append(f"{topic}-{partition} offset {offset}: producer {producer} repeats {sequence}")
        last[producer] = int(sequence)
    return wrong


def metadata_faults(address, ledger):
    """Finds topics, configs, commits and producer ids that differ from what was acknowledged."""
    faults = []
    admin = AdminClient({"bootstrap.servers": address})
    topics = set(admin.list_topics(timeout=30).topics)
    faults += [f"topic {name} is gone" for name in ledger.created if name not in topics]
    faults += [f"topic {name} is back" for name in ledger.deleted if name in topics]
    for name, value in ledger.created.items():
        if value in (None, "unset") or name not in topics:
            continue
        resource = ConfigResource(ResourceType.TOPIC, name)
        found = admin.describe_configs([resource])[resource].result(30)["retention.ms"].value
        if found != value:
            faults.append(f"topic {name}: retention.ms is {found}, acknowledged was {value}")
    repeated = len(ledger.producer_ids) - len(set(ledger.producer_ids))
    if repeated:
        faults.append(f"{repeated} producer ids were handed out twice")
    acknowledged, attempted = ledger.committed.get(0, (0, 0))
    consumer = Consumer({"bootstrap.servers": address, "group.id": GROUP})
    found = consumer.committed([TopicPartition(KEPT, 0)], timeout=30)[0].offset
    consumer.close()
    if acknowledged and not acknowledged <= found <= attempted:
        faults.append(f"committed offset is {found}, not in {acknowledged} to {attempted}")
    return faults


__all__ = ["Load", "lost_and_wrong", "metadata_faults"]
