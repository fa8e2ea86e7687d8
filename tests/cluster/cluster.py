"""A cluster of three nodes: who leads, whether all is well, and what it has at the end."""

import socket
import struct

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from content import PATIENCE, Content, Unable
from nodes import Node, properties, wait_for

TOPIC = "judged"
OFFSETS = "__consumer_offsets"
PARTITIONS = 6
REPLICAS = 3
SHORT = 2
"""Seconds for a question to a node that may be down."""


class Cluster(Content):
    def __init__(self, system, network, disks, directory, controllers):
        self.network = network
        self.directory = directory
        self.nodes = {number: Node(number, system, network, disk, directory) for number, disk in disks.items()}
        super().__init__(",".join(node.address for node in self.nodes.values()), TOPIC, PARTITIONS)
        self.faults = []  # what the driver itself saw
        self.topics = [OFFSETS]
        for node in self.nodes.values():
            node.configure(properties(node.number, network, controllers))

    def start(self):
        for node in self.nodes.values():
            node.start()
        if not wait_for(lambda: self.has_ended() or self.is_complete(), PATIENCE) or self.has_ended():
            raise Unable("the nodes do not become a cluster")

    def has_ended(self):
        return not all(node.runs() for node in self.nodes.values())

    def is_complete(self):
        return self.serves(OFFSETS) is not None and len(self.metadata().brokers) == REPLICAS

    def create_topic(self, topic=TOPIC, places=None):
        """`places` has the replicas of each partition, the preferred leader first."""
        config = {"min.insync.replicas": "2"}
        placed = {"replica_assignment": places} if places else {"replication_factor": REPLICAS}
        wanted = NewTopic(topic, len(places) if places else PARTITIONS, config=config, **placed)
        admin = self.admin()
        admin.create_topics([wanted])[topic].result(PATIENCE)
        self.topics = [OFFSETS, topic]
        if not wait_for(self.is_healthy, PATIENCE):
            raise Unable(f"the cluster does not become healthy: {self.ill()}")

    def delete_topic(self, topic):
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(PATIENCE)
        self.topics.remove(topic)

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "error_cb": lambda _: None})

    def metadata(self):
        return self.admin().list_topics(timeout=SHORT)

    def serves(self, topic):
        """The partitions of a topic, or None while no node answers."""
        try:
            found = self.metadata().topics.get(topic)
        except KafkaException:
            return None
        return found.partitions if found else {}

    def ill(self):
        """What is not as it should be, or None."""
        down = [number for number, node in self.nodes.items() if not node.runs()]
        if down:
            return f"node {down[0]} is down"
        for topic in self.topics:
            partitions = self.serves(topic)
            if partitions is None:
                return "no node answers"
            for number, partition in sorted(partitions.items()):
                if partition.leader < 0 or len(partition.isrs) < len(partition.replicas):
                    return f"{topic}-{number} has leader {partition.leader}, ISR {partition.isrs}"
        return None if self.controller() else "no active controller"

    def is_healthy(self):
        return self.ill() is None

    def leader(self, partition, topic=TOPIC):
        partitions = self.serves(topic) or {}
        return partitions[partition].leader if partition in partitions else None

    def controller(self):
        """The number of the active controller, or None."""
        for node in self.nodes.values():
            try:
                leader = ask_for_controller(node.address)
            except OSError:
                continue
            if leader in self.nodes:
                return leader
        return None

    def others(self, node):
        """The numbers of the other nodes."""
        return [number for number in self.nodes if number != node]

    def restart_ended(self):
        """Starts the nodes that ended by themselves; returns their numbers."""
        ended = [number for number, node in self.nodes.items() if not node.runs()]
        for number in ended:
            self.nodes[number].start()
        return ended

    def stop(self):
        """Stops all nodes in order."""
        for node in self.nodes.values():
            node.ask_to_stop()
        return [f"node {node.number} does not stop in order" for node in self.nodes.values() if not node.wait_for_stop()]

    def differing_replicas(self):
        """The partitions whose bytes differ between the nodes, after a stop."""
        for partition in range(PARTITIONS):
            written = {number: bytes_of(node, partition) for number, node in self.nodes.items()}
            if len(set(written.values())) > 1:
                sizes = ", ".join(f"node {number} {len(found)} bytes" for number, found in written.items())
                yield f"the replicas of {TOPIC}-{partition} differ: {sizes}"


def bytes_of(node, partition):
    files = sorted((node.data / f"{TOPIC}-{partition}").glob("*.log"))
    return b"".join(file.read_bytes() for file in files)


def ask_for_controller(address):
    """The leader of the metadata quorum, by DescribeQuorum, which librdkafka does not have."""
    host, port = address.split(":")
    name = b"__cluster_metadata"
    # The header, version 0 of the request for partition 0 of that topic, each with empty tagged fields.
    header = struct.pack(">hhih", 55, 0, 1, -1) + b"\0"
    body = header + bytes([2, len(name) + 1]) + name + b"\2" + struct.pack(">i", 0) + b"\0\0\0"
    with socket.create_connection((host, int(port)), SHORT) as connection:
        connection.settimeout(SHORT)
        connection.sendall(struct.pack(">i", len(body)) + body)
        length = struct.unpack(">i", exactly(connection, 4))[0]
        answer = exactly(connection, length)
    # The correlation id and empty tagged fields, the error, then the one topic and its one partition.
    after_name = 4 + 1 + 2 + 1 + 1 + len(name)
    if answer[5:7] != b"\0\0" or len(answer) < after_name + 11:
        return None
    _, error, leader = struct.unpack(">ihi", answer[after_name + 1 : after_name + 11])
    return leader if error == 0 else None


def exactly(connection, count):
    got = b""
    while len(got) < count:
        more = connection.recv(count - len(got))
        if not more:
            raise OSError("the connection was closed")
        got += more
    return got
