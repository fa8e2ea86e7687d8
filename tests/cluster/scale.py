"""Many partitions with replication 3 on three controllers and five brokers, each a process of its own: a table for each system.

What is measured:

- create: from the first CreateTopics to the time when every partition has a leader and all replicas in sync.
- first records: one record to each partition, acks=all, until the last acknowledgement.
- one record after the other: processor time of all brokers for a record that is replicated alone, each to another partition.
- processor when idle: of one process of each role, in percent of one core, the busiest and all together.
- memory: resident, the largest process of each role. files: open descriptors of the broker with most.
- kill a broker: until no partition has it as leader, until one record to each partition that it led is acknowledged, and after its
  restart until all replicas are in sync again.
- kill the active controller: until a new topic is created.

The exit status is 0 for passed, 1 for a step that did not end in time.
"""

import os
import pathlib
import shutil
import signal
import sys
import time

import room
from broker import free_port
from cluster import Unable, ask_for_controller
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from nodes import Process, kill_all, wait_for

CONTROLLERS = [1, 2, 3]
BROKERS = [11, 12, 13, 14, 15]
TOPICS = 5
REPLICAS = 3
PATIENCE = 600
SETTLE_SECONDS = 15
ALONE = 2000
IDLE_SECONDS = 20
SHORT = 20
TICKS = os.sysconf("SC_CLK_TCK")


def keys(number, ports):
    is_controller = number in CONTROLLERS
    listener = "CONTROLLER" if is_controller else "PLAINTEXT"
    made = {
        "process.roles": "controller" if is_controller else "broker",
        "controller.quorum.voters": ",".join(f"{voter}@127.0.0.1:{ports[voter]}" for voter in CONTROLLERS),
        "listeners": f"{listener}://127.0.0.1:{ports[number]}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "offsets.topic.num.partitions": 5,
    }
    if not is_controller:
        made["inter.broker.listener.name"] = "PLAINTEXT"
    return made


class Measured(Process):
    """What the system tells of a process."""

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Cluster:
    """The processes, and what an administrator sees of them."""

    def __init__(self, system, directory):
        self.ports = {number: free_port() for number in CONTROLLERS + BROKERS}
        self.all = {number: Measured(number, system, directory) for number in self.ports}
        for number, node in self.all.items():
            node.configure(keys(number, self.ports))

    def address(self, number):
        return f"127.0.0.1:{self.ports[number]}"

    def bootstrap(self):
        return ",".join(self.address(number) for number in BROKERS if self.all[number].runs())

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap(), "log_level": 0, "error_cb": lambda _: None})

    def start(self):
        for node in self.all.values():
            node.start()
        self.reach(lambda: len(self.admin().list_topics(timeout=SHORT).brokers) == len(BROKERS), "all brokers registered")

    def reach(self, condition, what):
        """The seconds until the condition holds."""
        begun = time.monotonic()

        def holds():
            try:
                return condition()
            except (KafkaException, TimeoutError):
                return False

        if not wait_for(holds, PATIENCE, 0.05):
            raise Unable(f"not in {PATIENCE} s: {what}")
        return time.monotonic() - begun

    def partitions(self, admin):
        """[(topic, partition's metadata)]"""
        topics = admin.list_topics(timeout=SHORT).topics
        return [(name, found) for name, topic in topics.items() if name.startswith("scale-") for found in topic.partitions.values()]

    def create(self, partitions):
        admin = self.admin()
        begun = time.monotonic()
        for number in range(TOPICS):
            name = f"scale-{number}"
            admin.create_topics([NewTopic(name, partitions // TOPICS, REPLICAS)], request_timeout=PATIENCE)[name].result(PATIENCE)
        answered = time.monotonic() - begun
        self.reach(lambda: self.is_in_sync(admin, partitions), "all replicas in sync")
        return answered, time.monotonic() - begun

    def is_in_sync(self, admin, partitions):
        found = self.partitions(admin)
        return len(found) == partitions and all(one.leader >= 0 and len(one.isrs) == REPLICAS for _, one in found)

    def active_controller(self):
        # A broker answers with the leader of the quorum too.
        for number in BROKERS:
            try:
                found = ask_for_controller(self.address(number))
            except OSError:
                continue
            if found in CONTROLLERS:
                return found
        raise Unable("no active controller")

    def write(self, places):
        """The seconds until one record to each place is acknowledged by all replicas in sync."""
        producer = Producer({"bootstrap.servers": self.bootstrap(), "acks": "all", "linger.ms": 0, "log_level": 0, "error_cb": lambda _: None})
        failures = []
        begun = time.monotonic()
        for topic, partition in places:
            producer.produce(topic, b"x" * 100, partition=partition, on_delivery=lambda error, _: failures.append(error) if error else None)
        left = producer.flush(PATIENCE)
        if left or failures:
            raise Unable(f"{left} records are not acknowledged, {len(failures)} were refused: {failures[:1]}")
        return time.monotonic() - begun

    def alone(self, places):
        """The microseconds of processor time of all brokers for a record, when each is written after the one before is acknowledged."""
        producer = Producer({"bootstrap.servers": self.bootstrap(), "acks": "all", "linger.ms": 0, "log_level": 0, "error_cb": lambda _: None})
        chosen = places[:: max(1, len(places) // ALONE)][:ALONE]
        before = sum(self.all[number].cpu_seconds() for number in BROKERS)
        for topic, partition in chosen:
            producer.produce(topic, b"x" * 100, partition=partition)
            if producer.flush(PATIENCE):
                raise Unable("a record is not acknowledged")
        return 1e6 * (sum(self.all[number].cpu_seconds() for number in BROKERS) - before) / len(chosen)

    def idle(self):
        """Percent of a core, by node."""
        time.sleep(SETTLE_SECONDS)
        before = {number: node.cpu_seconds() for number, node in self.all.items()}
        time.sleep(IDLE_SECONDS)
        return {number: 100 * (node.cpu_seconds() - before[number]) / IDLE_SECONDS for number, node in self.all.items()}


def roles(figures):
    """The largest of the controllers and of the brokers."""
    return max(figures[number] for number in CONTROLLERS), max(figures[number] for number in BROKERS)


def measure(cluster, partitions, row):
    cluster.start()
    answered, in_sync = cluster.create(partitions)
    row("create: answered, s", answered)
    row("create: all in sync, s", in_sync)
    places = [(topic, found.id) for topic, found in cluster.partitions(cluster.admin())]
    row("first records, s", cluster.write(places))
    row("second records, s", cluster.write(places))
    row("one record after the other, all brokers, us of a core each", cluster.alone(places))
    idle = cluster.idle()
    for name, figure in zip(("controller", "broker"), roles(idle)):
        row(f"idle, busiest {name}, % of a core", figure)
    row("idle, all processes, % of a core", sum(idle.values()))
    for name, figure in zip(("controller", "broker"), roles({number: node.resident_mib() for number, node in cluster.all.items()})):
        row(f"resident memory, largest {name}, MiB", figure)
    row("open files, broker", max(cluster.all[number].open_files() for number in BROKERS))
    kill_broker(cluster, partitions, row)
    kill_controller(cluster, row)


def kill_broker(cluster, partitions, row):
    leaders = cluster.partitions(cluster.admin())
    count = {number: sum(found.leader == number for _, found in leaders) for number in BROKERS}
    victim = max(BROKERS, key=lambda number: count[number])
    led = [(topic, found.id) for topic, found in leaders if found.leader == victim]
    row("leaders of the killed broker", len(led))
    begun = time.monotonic()
    cluster.all[victim].kill()
    admin = cluster.admin()
    cluster.reach(lambda: all(found.leader not in (-1, victim) for _, found in cluster.partitions(admin)), "all leaders alive")
    row("kill a broker: all have a live leader, s", time.monotonic() - begun)
    cluster.write(led)
    row("kill a broker: all are written to, s", time.monotonic() - begun)
    cluster.all[victim].start()
    row("its restart: all in sync, s", cluster.reach(lambda: cluster.is_in_sync(admin, partitions), "all replicas in sync again"))


def kill_controller(cluster, row):
    victim = cluster.active_controller()
    admin = cluster.admin()
    begun = time.monotonic()
    cluster.all[victim].kill()

    def creates():
        name = f"after-{time.monotonic_ns()}"
        admin.create_topics([NewTopic(name, 1, REPLICAS)], request_timeout=PATIENCE)[name].result(PATIENCE)
        return True

    cluster.reach(creates, "a new topic")
    row("kill the active controller: a topic is created, s", time.monotonic() - begun)
    cluster.all[victim].start()


def run(options, name, partitions):
    """[(what, figure)]"""
    directory = options.directory / name
    directory.mkdir(parents=True)
    made = room.make_system(options, name, directory)
    if name == "kafka":
        made.keys |= {"offsets.topic.replication.factor": REPLICAS}
    cluster = Cluster(made, directory)
    rows = []

    def row(what, figure):
        rows.append((what, figure))
        print(f"{name}, {partitions} partitions: {what}: {figure:.2f}", flush=True)

    try:
        measure(cluster, partitions, row)
        return rows
    finally:
        kill_all(cluster.all.values())
        for data in directory.glob("data-*"):
            shutil.rmtree(data)


def main():
    parser = room.parser(__doc__)
    parser.add_argument("--system", action="append", required=True)
    parser.add_argument("--partitions", type=int, default=5000)
    parser.add_argument("--kafka-partitions", type=int, default=5000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    tables = {}
    for name in options.system:
        partitions = options.kafka_partitions if name == "kafka" else options.partitions
        try:
            tables[f"{name}, {partitions} partitions"] = dict(run(options, name, partitions))
        except Unable as error:
            print(f"{name}: {error}")
            sys.exit(1)
    print(f"\n| what | {' | '.join(tables)} |\n|---|{'---:|' * len(tables)}")
    for what in next(iter(tables.values())):
        print(f"| {what} | {' | '.join(f'{table[what]:.2f}' for table in tables.values())} |")


if __name__ == "__main__":
    main()
