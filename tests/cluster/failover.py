"""How long clients wait when a node fails: three nodes with default settings, for each system in turn, a table at the end.

Each run has a new topic with leaders where the event wants them, and new clients. What is measured, by client:

- acknowledgement: from the event to the first acknowledgement after the longest pause, on the affected partition that waits longest.
- record: the same for the records that a reader without a group gets.
- fresh client, where a node vanishes (all its packets are dropped): from the event until a new leader has acknowledged one record of a
  client that starts after the event. Clients start one after the other, because one that has asked too early waits for the old leader, for
  as long as its own timeouts are; all of them are given the addresses of the nodes that are there.

The exit status is 0 for passed, 1 for a run that could not be measured, or that of room.py.
"""

import collections
import sys
import time

import room
from cluster import PATIENCE, Unable
from confluent_kafka import KafkaException, Producer
from ledger import longest_gap
from loads import Loads, commands
from nodes import wait_for

PARTITIONS = 3
STEADY_SECONDS = 6
AFTER_SECONDS = 1
"""Clients run so long before an event, and after they are served again. franz-go asks for metadata once in five seconds."""
RATE = 300
"""Records per second of each producer: a tenth of a second has ten for each partition."""
ROLLING_RUNS = 3
KILLS = ("kill the leader", "kill the active controller", "kill the node that is both")
VANISH = ("the leader vanishes", "the node that is both vanishes")
RESTART = "restart all in turn"
EVENTS = {"kill": KILLS, "vanish": VANISH, "restart": (RESTART,)}
FRESH_EVERY, FRESH_SOON = 0.5, 0.1
"""Seconds between the starts of fresh clients, the second one in the first FRESH_SECONDS."""
FRESH_SECONDS = 3


class Measured:
    """The times of all runs."""

    def __init__(self):
        self.times = collections.defaultdict(list)  # (event, what, system) -> seconds
        self.rows = []

    def add(self, event, what, system, seconds):
        if (event, what) not in self.rows:
            self.rows.append((event, what))
        self.times[event, what, system].append(seconds)

    def print(self, systems):
        heads = " | ".join(f"{system}: median | worst" for system in systems)
        print(f"\n| event | what | {heads} |\n|---|---|{'---:|' * 2 * len(systems)}")
        for event, what in self.rows:
            cells = " | ".join(self.cell(event, what, system) for system in systems)
            print(f"| {event} | {what} | {cells} |")

    def cell(self, event, what, system):
        found = sorted(self.times[event, what, system])
        return f"{found[len(found) // 2]:.2f} | {found[-1]:.2f}" if found else "- | -"


class Trial:
    """One event on one cluster."""

    def __init__(self, options, cluster, number, event):
        self.options = options
        self.cluster = cluster
        self.event = event
        self.topic = f"failover-{number}"
        directory = cluster.directory / self.topic
        directory.mkdir()
        controller = cluster.controller()
        self.victim = controller if "controller" in event or "both" in event else cluster.others(controller)[0]
        leaders = cluster.others(controller) if event == "kill the active controller" else [self.victim]
        places = [self.replicas(leaders[number % len(leaders)]) for number in range(PARTITIONS)]
        cluster.create_topic(self.topic, places)
        self.loads = Loads(commands(options.load), cluster.bootstrap, (self.topic, PARTITIONS), directory, number, RATE)

    def replicas(self, leader):
        return [leader, *self.cluster.others(leader)]

    def run(self):
        """Returns [(what, seconds)]."""
        try:
            self.loads.wait_until_served(0, f"before the event: {self.event}")
            time.sleep(STEADY_SECONDS)
            began = time.time()
            fresh = self.happen()
            self.loads.wait_until_served(time.time() * 1000, f"after the event: {self.event}")
            time.sleep(AFTER_SECONDS)
            ended = time.time()
            self.mend()
            self.loads.stop_producing()
            self.loads.end()
            self.cluster.delete_topic(self.topic)
        finally:
            self.loads.kill()
        ledger = self.loads.ledger()
        waits = [] if self.event in VANISH else self.waits(ledger, began * 1000, ended * 1000)
        return [*fresh, *waits, *self.errors(ledger)]

    def happen(self):
        node = self.cluster.nodes[self.victim]
        if self.event == RESTART:
            self.restart_all()
        elif self.event in VANISH:
            began = time.monotonic()
            self.cluster.network.cut_off(self.victim)
            served = self.fresh_client(began)
            # The other clients wait for their own timeouts, which is not measured.
            self.cluster.network.heal()
            return [("a fresh client of librdkafka", served)]
        else:
            node.kill()
        return []

    def restart_all(self):
        for node in self.cluster.nodes.values():
            if not node.stop():
                raise Unable(f"node {node.number} does not stop in order")
            node.start()
            if not wait_for(self.cluster.is_healthy, PATIENCE):
                raise Unable(f"after the restart of node {node.number}: {self.cluster.ill()}")

    def fresh_client(self, began):
        """The time from `began` until a client that started since then has an acknowledgement."""
        there = ",".join(self.cluster.nodes[number].address for number in self.cluster.others(self.victim))
        acknowledged = []
        producers = []
        due = began

        def start_one():
            settings = {"bootstrap.servers": there, "acks": "all", "log_level": 0, "error_cb": lambda _: None}
            producer = Producer(settings)
            on_delivery = lambda error, _: error or acknowledged.append(time.monotonic() - began)  # noqa: E731
            producer.produce(self.topic, b"fresh fresh 1 ", partition=0, on_delivery=on_delivery)
            producers.append(producer)

        def is_served():
            nonlocal due
            now = time.monotonic()
            if now >= due:
                start_one()
                due = now + (FRESH_SOON if now < began + FRESH_SECONDS else FRESH_EVERY)
            for producer in producers:
                producer.poll(0)
            return bool(acknowledged)

        if not wait_for(is_served, PATIENCE, FRESH_SOON / 4):
            raise Unable("no fresh client is served")
        for producer in producers:
            producer.purge()
            producer.flush(PATIENCE)
        return acknowledged[0]

    def mend(self):
        self.cluster.network.heal()
        self.cluster.restart_ended()
        if not wait_for(self.cluster.is_healthy, PATIENCE):
            raise Unable(f"after {self.event}: {self.cluster.ill()}")

    def waits(self, ledger, began, ended):
        acked, read = collections.defaultdict(list), collections.defaultdict(list)
        for at, partition, _, record in ledger.acked:
            acked[record[0].split("-")[0], partition].append(at)
        for (reader, partition), times in ledger.read_times.items():
            if reader.endswith("-reader"):
                read[reader.split("-")[0], partition].extend(times)
        for what, found in (("acknowledgement", acked), ("record", read)):
            for client in sorted({client for client, _ in found}):
                times = [sorted(moments) for (name, _), moments in found.items() if name == client]
                yield f"{client}: {what}", max(longest_gap(moments, began, ended) for moments in times) / 1000

    def errors(self, ledger):
        shown = [message for _, client, message in ledger.failed if client.endswith("-producer")]
        for message in shown[:3]:
            print(f"  a producer showed: {message[:160]}")
        yield "errors that producers showed", len(shown)


def measure(options, system, measured):
    with room.three_nodes(options, system) as cluster:
        cluster.start()
        number = 0
        for run in range(options.runs):
            for event in (event for kind in options.events.split(",") for event in EVENTS[kind]):
                if event == RESTART and run >= ROLLING_RUNS:
                    continue
                number += 1
                found = list(Trial(options, cluster, number, event).run())
                for what, seconds in found:
                    measured.add(event, what, system, seconds)
                shown = ", ".join(f"{what} {seconds:.2f}" for what, seconds in found)
                print(f"{system}, run {run + 1}, {event}: {shown}", flush=True)


def main():
    parser = room.parser("Measures fail-over.")
    parser.add_argument("--system", action="append", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--events", required=True, help="kinds of events, with commas")
    options = parser.parse_args()
    measured = Measured()
    failed = False
    for system in options.system:
        try:
            measure(options, system, measured)
        except (Unable, KafkaException) as error:
            print(f"FINDING {system}: {error}")
            failed = True
    measured.print(options.system)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
