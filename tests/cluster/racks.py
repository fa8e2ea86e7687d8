"""Consumers with a rack read from the replica in their rack (KIP-392): three nodes, each in a rack of its own.

The Java client and librdkafka must read from the follower in their rack, from the leader when it dies, from it again when it is back, and
miss or repeat no record. The Java client tells by a metric where it reads, librdkafka by its statistics.

The exit status is 0 for passed, 1 for a finding.
"""

import json
import signal
import subprocess
import sys
import threading

import room
from broker import free_port
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from nodes import Process, kill_all, wait_for

NODES = [1, 2, 3]
RACKS = {1: "a", 2: "b", 3: "c"}
LEADER, NEAR = 1, 2
TOPIC = "racks"
PATIENCE = 60
MORE = 20
"""Records that a reader must get from a replica before that counts."""


def keys(number, ports):
    return {
        "process.roles": "broker,controller",
        "broker.rack": RACKS[number],
        "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        "controller.quorum.voters": ",".join(f"{voter}@127.0.0.1:{ports[voter, 'CONTROLLER']}" for voter in NODES),
        "listeners": ",".join(f"{name}://127.0.0.1:{ports[number, name]}" for name in ("PLAINTEXT", "CONTROLLER")),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
    }


class JavaReader:
    """The next offset, the replica that is read from, and what is wrong. It ends when a record is missed or repeated."""

    def __init__(self, load, bootstrap, log):
        command = load.split()
        assert command[-1] == "Load"
        command[-1] = "RackReader"
        self.process = subprocess.Popen([*command, bootstrap, TOPIC, RACKS[NEAR]], stdout=subprocess.PIPE, stderr=log, text=True)
        self.at = (0, None)
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            offset, replica = map(int, line.split())
            self.at = (offset, LEADER if replica == -1 else replica)

    @property
    def fault(self):
        status = self.process.poll()
        return None if status is None else f"ended with status {status}, after {self.at}"

    def end(self):
        self.process.kill()
        self.process.wait()


class LibrdkafkaReader:
    """The same."""

    def __init__(self, bootstrap):
        self.at = (0, None)
        self.replica = None
        self.fault = None
        self.ended = False
        settings = {"bootstrap.servers": bootstrap, "group.id": "racks", "client.rack": RACKS[NEAR], "enable.auto.commit": False}
        quiet = {"log_level": 0, "error_cb": lambda _: None, "statistics.interval.ms": 200, "stats_cb": self.note}
        self.consumer = Consumer(settings | quiet | {"auto.offset.reset": "error"})
        self.consumer.assign([TopicPartition(TOPIC, 0, 0)])
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def note(self, statistics):
        partitions = json.loads(statistics)["topics"].get(TOPIC, {}).get("partitions", {})
        self.replica = partitions.get("0", {}).get("broker")

    def follow(self):
        offset = 0
        while not self.ended:
            message = self.consumer.poll(0.1)
            if message and not message.error():
                if message.offset() != offset:
                    self.fault = f"got offset {message.offset()} after {offset - 1}"
                    return
                offset += 1
            self.at = (offset, self.replica)

    def end(self):
        self.ended = True
        self.thread.join()
        self.consumer.close()


class Writer:
    """Writes records until it is ended."""

    def __init__(self, bootstrap):
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0, "error_cb": lambda _: None})
        self.ended = False
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    def write(self):
        while not self.ended:
            self.producer.produce(TOPIC, b"x" * 50, partition=0)
            self.producer.poll(0.02)

    def end(self):
        self.ended = True
        self.thread.join()
        self.producer.flush(PATIENCE)


def create(bootstrap):
    """The topic, whose partition the leader leads."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": lambda _: None})

    def is_there():
        try:
            if len(admin.list_topics(timeout=5).brokers) < len(NODES):
                return False
            admin.create_topics([NewTopic(TOPIC, 1, replica_assignment=[NODES])])[TOPIC].result(PATIENCE)
            return True
        except KafkaException:
            return False

    return wait_for(is_there, PATIENCE)


def must_read_from(readers, replica, when):
    """Each reader must get records from the replica, and each of them once."""
    for name, reader in readers.items():
        finding = reads_elsewhere(reader, replica)
        # A reader with a fault does not go on: that is only what follows from it.
        finding = reader.fault or finding
        if finding:
            return f"{name} {finding}, {when}"
        print(f"{name} reads from node {replica} {when}", flush=True)
    return None


def reads_elsewhere(reader, replica):
    """What the reader does instead of reading from the replica, or None."""

    def reaches(condition):
        return wait_for(lambda: reader.fault or condition(*reader.at), PATIENCE)

    if not reaches(lambda _, source: source == replica):
        return f"reads at {reader.at}, and not from node {replica}"
    enough = reader.at[0] + MORE
    if not reaches(lambda offset, _: offset >= enough):
        return f"stops at {reader.at}"
    return f"leaves node {replica}" if reader.at[1] != replica else None


def judge(options, directory, all_nodes, bootstrap):
    for node in all_nodes.values():
        node.start()
    if not create(bootstrap):
        return "the nodes do not become a cluster"
    java = next(load.split("=", 1)[1] for load in options.load if load.startswith("java="))
    writer = Writer(bootstrap)
    with open(directory / "java.log", "wb") as log:
        readers = {"librdkafka": LibrdkafkaReader(bootstrap), "java": JavaReader(java, bootstrap, log)}
    try:
        finding = must_read_from(readers, NEAR, "at first")
        if finding is None:
            all_nodes[NEAR].kill()
            finding = must_read_from(readers, LEADER, "when the follower is dead")
        if finding is None:
            all_nodes[NEAR].start()
            finding = must_read_from(readers, NEAR, "when the follower is back")
        faults = [f"{name} {reader.fault}, at the end" for name, reader in readers.items() if reader.fault]
        return finding or ", ".join(faults)
    finally:
        for reader in readers.values():
            reader.end()
        writer.end()


def main():
    parser = room.parser(__doc__)
    parser.add_argument("--system", choices=["ottla"], required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    ports = {(number, listener): free_port() for number in NODES for listener in ("PLAINTEXT", "CONTROLLER")}
    system = room.make_system(options, options.system, options.directory)
    all_nodes = {number: Process(number, system, options.directory) for number in NODES}
    for number, node in all_nodes.items():
        node.configure(keys(number, ports))
    bootstrap = ",".join(f"127.0.0.1:{ports[number, 'PLAINTEXT']}" for number in NODES)
    try:
        finding = judge(options, options.directory, all_nodes, bootstrap)
    finally:
        kill_all(all_nodes.values())
    print(finding or "passed")
    sys.exit(1 if finding else 0)


if __name__ == "__main__":
    main()
