"""The load of Load.java with librdkafka: a producer, a member of a group, and a reader without a group.

usage: librdkafka_load.py BOOTSTRAP TOPIC PARTITIONS LEDGER RATE SEED
"""

import faulthandler
import random
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from ledger import record_in, value_of

NAME = "librdkafka"
KEYS = 12
QUEUED = 10_000
"""More records than this wait in the producer's queue only while nothing is acknowledged."""


def now():
    return int(time.time() * 1000)


def ignore(*_):
    """Broken connections, which the faults cause."""


class Load:
    def __init__(self, bootstrap, topic, partitions, ledger, rate, seed):
        self.common = {"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": ignore}
        self.topic = topic
        self.partitions = int(partitions)
        # Line by line, so that what counts is in the file.
        self.ledger = open(ledger, "w", buffering=1, encoding="utf-8")
        self.rate = float(rate)
        self.chance = random.Random(seed)
        self.stopping = threading.Event()
        self.ending = threading.Event()

    def write(self, kind, at, *fields):
        self.ledger.write(f"{kind} {at} {' '.join(map(str, fields))}\n")

    def failed(self, client, error):
        self.write("failed", now(), client, " ".join(str(error).split()))

    def run(self):
        producer = threading.Thread(target=self.produce)
        readers = [threading.Thread(target=work) for work in (self.member, self.read_all)]
        for thread in (producer, *readers):
            thread.start()
        until("stop")
        self.stopping.set()
        producer.join()
        print("stopped", flush=True)
        until("end")
        self.ending.set()
        for reader in readers:
            reader.join()

    def produce(self):
        life = 0
        while not self.stopping.is_set():
            life += 1
            try:
                self.produce_as(f"{NAME}-{life}")
            except KafkaException as error:
                # A fatal error ends a producer; what it has not delivered is not acknowledged.
                self.failed(f"{NAME}-producer", error)

    def produce_as(self, name):
        producer = Producer({**self.common, "enable.idempotence": True, "linger.ms": 2})
        sequences = [0] * KEYS
        fatal = threading.Event()

        def delivered(record):
            def call(error, message):
                if error is None:
                    self.write("acked", now(), message.partition(), message.offset(), *record)
                else:
                    self.failed(f"{NAME}-producer", error)
                    if error.fatal():
                        fatal.set()

            return call

        while not self.stopping.is_set() and not fatal.is_set():
            key = self.chance.randrange(KEYS)
            sequences[key] += 1
            record = (name, f"k{key}", sequences[key])
            value = value_of(record, self.chance.randrange(300))
            while len(producer) > QUEUED:
                producer.poll(0.1)
            producer.produce(self.topic, value, f"k{key}", key % self.partitions, on_delivery=delivered(record))
            producer.poll(1 / self.rate)
        producer.flush(120)

    def consumer(self, reset):
        return Consumer({**self.common, "group.id": NAME, "enable.auto.commit": False, "auto.offset.reset": reset})

    def read(self, consumer, reader):
        """Reads for a moment; returns the next offset of each partition."""
        positions = {}
        for message in consumer.consume(500, 0.2):
            if message.error():
                self.failed(reader, message.error())
                continue
            self.write("read", now(), reader, message.partition(), message.offset(), *record_in(message.value()))
            positions[message.partition()] = message.offset() + 1
        return positions

    def member(self):
        while not self.ending.is_set():
            consumer = self.consumer("earliest")
            try:
                consumer.subscribe([self.topic], on_assign=self.assigned)
                while not self.ending.is_set():
                    self.commit(consumer, self.read(consumer, f"{NAME}/0"))
            except KafkaException as error:
                self.failed(f"{NAME}-member", error)
            consumer.close()

    def assigned(self, consumer, places):
        asked = now()
        found = consumer.committed(places, 60)
        for place in found:
            self.write("committed", asked, NAME, place.partition, max(place.offset, -1))
            place.offset = max(place.offset, 0)
            self.write("assigned", now(), f"{NAME}/0", place.partition, place.offset)
        consumer.assign(found)

    def commit(self, consumer, positions):
        places = [TopicPartition(self.topic, partition, offset) for partition, offset in positions.items()]
        if not places:
            return
        try:
            answered = consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            # What was read stays uncommitted; a later commit has it.
            self.failed(f"{NAME}-commit", error)
            return
        for place in answered:
            if place.error is None:
                self.write("commit", now(), NAME, place.partition, place.offset)

    def read_all(self):
        positions = dict.fromkeys(range(self.partitions), 0)
        for partition in positions:
            self.write("assigned", now(), f"{NAME}-reader", partition, 0)
        while not self.ending.is_set():
            consumer = self.consumer("error")
            try:
                consumer.assign([TopicPartition(self.topic, partition, offset) for partition, offset in positions.items()])
                while not self.ending.is_set():
                    positions |= self.read(consumer, f"{NAME}-reader")
            except KafkaException as error:
                self.failed(f"{NAME}-reader", error)
            consumer.close()


def until(wanted):
    """Waits for this line, or the end of the driver."""
    for line in sys.stdin:
        if line.strip() == wanted:
            return


if __name__ == "__main__":
    # As Java and Go do.
    faulthandler.register(signal.SIGQUIT)
    Load(*sys.argv[1:]).run()
