"""Three nodes under a seeded schedule of faults and the load of real clients; then everything is checked.

The exit status is 0 for passed, 1 for findings, or that of room.py.
"""

import collections
import random
import sys
import time

import room
from checker import judge
from cluster import PARTITIONS, PATIENCE, TOPIC, Unable
from confluent_kafka import KafkaException
from faults import CONTROLLER, LEADER, begin, schedule
from ledger import longest_gap
from loads import Loads, commands
from nodes import wait_for

SHOWN = 12
"""Findings of one kind that are printed."""


class Run:
    def __init__(self, options, cluster):
        self.options = options
        self.cluster = cluster
        self.loads = None
        self.faults = schedule(options.seed, options.faults, options.power_cuts)
        self.chance = random.Random(f"nodes {options.seed}")
        self.begun = []  # (time, fault)

    def run(self):
        """Returns the findings, as (kind, text)."""
        cluster, options = self.cluster, self.options
        cluster.start()
        cluster.create_topic()
        families = commands(options.load)
        loads = self.loads = Loads(families, cluster.bootstrap, (TOPIC, PARTITIONS), options.directory, options.seed)
        try:
            loads.wait_until_served(0, "before the first fault")
            for number, fault in enumerate(self.faults, 1):
                self.fault(number, fault)
            return self.verdict()
        finally:
            loads.kill()

    def fault(self, number, fault):
        target = self.target(fault)
        others = self.cluster.others(target)
        self.chance.shuffle(others)
        before = time.monotonic()
        self.begun.append((time.time() * 1000, fault))
        what, end = begin(fault, self.cluster, target, others)
        try:
            time.sleep(fault.seconds)
        finally:
            end()
        ended = self.cluster.restart_ended()
        since = time.time() * 1000
        healthy = "not waited for"
        if fault.waits:
            is_healthy = wait_for(lambda: self.loads.are_served_since(since) and self.cluster.is_healthy(), PATIENCE)
            healthy = f"healthy {time.monotonic() - before:.1f} s after its begin"
            if not is_healthy:
                healthy = f"NOT HEALTHY: {self.cluster.ill()}"
                self.cluster.faults.append(f"fault {number}, {what}: {self.cluster.ill()} after {PATIENCE} s")
        ended += self.cluster.restart_ended()
        if ended:
            healthy += f"; nodes {ended} ended by themselves"
            # Apache Kafka ends when its only disk fails.
            if not (self.options.system == "kafka" and "disk" in fault.kind):
                self.cluster.faults.append(f"fault {number}, {what}: nodes {ended} ended by themselves")
        acknowledged = sum(self.loads.acknowledged().values())
        role = "" if fault.role == "any" else f", the {fault.role}"
        did = f"fault {number} of {len(self.faults)}: {what}{role}, {fault.seconds:.1f} s"
        print(f"{did}; {healthy}; {acknowledged} acknowledged", flush=True)
        time.sleep(fault.pause)

    def target(self, fault):
        """The node with the role of the fault; any, if nobody has it now."""
        node = None
        if fault.role == LEADER:
            node = self.cluster.leader(fault.number % PARTITIONS)
        elif fault.role == CONTROLLER:
            node = self.cluster.controller()
        return node if node in self.cluster.nodes else 1 + fault.number % len(self.cluster.nodes)

    def verdict(self):
        cluster, loads = self.cluster, self.loads
        cluster.restart_ended()
        if not wait_for(cluster.is_healthy, PATIENCE):
            cluster.faults.append(f"the cluster does not heal: {cluster.ill()}")
        loads.stop_producing()
        ends = cluster.ends()
        if not wait_for(lambda: cluster.has_committed(ends), PATIENCE, 1):
            cluster.faults.append(f"the logs end at {ends}, the groups have committed {cluster.commits()}")
        for name in loads.stuck():
            cluster.faults.append(f"the client {name} does not end: a call of it has not returned for {PATIENCE} s")
        loads.kill()
        ledger = loads.ledger()
        findings = judge(ledger, cluster.logs(), cluster.commits())
        cluster.faults += cluster.stop()
        cluster.faults += cluster.differing_replicas()
        findings = [*findings, *(("cluster", fault) for fault in cluster.faults)]
        few = [name for name, count in loads.acknowledged().items() if count < 20 * len(self.faults)]
        if few:
            findings.append(("cluster", f"the load of {few} did too little to show anything"))
        self.report(ledger, findings)
        return findings

    def report(self, ledger, findings):
        print_gaps(self.begun, ledger)
        read = sum(1 for reading in ledger.readings.values() for _, record in reading if record)
        print(f"{len(ledger.acked)} records acknowledged, {read} read, {len(ledger.commits)} commits acknowledged")
        for client, count in collections.Counter(client for _, client, _ in ledger.failed).items():
            first = next(message for _, name, message in ledger.failed if name == client)
            print(f"{client} showed {count} errors, the first: {first[:150]}")
        print_findings(findings)


def print_gaps(begun, ledger):
    """For each kind of fault the longest time in which a partition acknowledged nothing."""
    times = collections.defaultdict(list)
    for at, partition, _, _ in ledger.acked:
        times[partition].append(at)
    gaps = collections.defaultdict(list)
    ends = [at for at, _ in begun[1:]] + [float("inf")]
    for partition in times.values():
        partition.sort()
    for (at, fault), end in zip(begun, ends):
        gaps[fault.kind].append(max(longest_gap(partition, at, end) for partition in times.values()))
    print(f"\n{'fault':<12} {'times':>5}   longest without an acknowledgement on a partition: median, worst")
    for kind, found in sorted(gaps.items()):
        found.sort()
        print(f"{kind:<12} {len(found):>5} {found[len(found) // 2] / 1000:>10.1f} s {found[-1] / 1000:>8.1f} s")


def print_findings(findings):
    kinds = collections.Counter(kind for kind, _ in findings)
    shown = collections.Counter()
    for kind, text in findings:
        shown[kind] += 1
        if shown[kind] <= SHOWN:
            print(f"FINDING {kind}: {text}")
    for kind, count in kinds.items():
        print(f"{count} findings: {kind}")
    print(f"{len(findings)} findings")


def main():
    parser = room.parser(__doc__)
    parser.add_argument("--system", choices=["kafka", "ottla"], required=True)
    parser.add_argument("--faults", type=int, required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--power-cuts", action="store_true")
    options = parser.parse_args()
    with room.three_nodes(options, options.system) as cluster:
        try:
            findings = Run(options, cluster).run()
        except (Unable, KafkaException) as error:
            print(f"FINDING cluster: {error}")
            findings = [error]
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
