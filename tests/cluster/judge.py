"""Three nodes under a seeded schedule of faults and the load of real clients; then everything is checked.

The exit status is 0 for passed, 1 for findings, and 77 if this machine cannot make networks or disks for the nodes.
"""

import argparse
import collections
import contextlib
import pathlib
import random
import shlex
import subprocess
import sys
import time

import image
from checker import judge
from cluster import PATIENCE, TOPIC, PARTITIONS, Cluster, Unable
from confluent_kafka import KafkaException
from disk import Disk
from faults import CONTROLLER, LEADER, begin, schedule
from ledger import Ledger
from network import CannotMake, Network
from nodes import Kafka, Ottla, wait_for

CANNOT = 77
NODES = 3
RATE = 120
"""Records per second of each producer."""
GROUPS = ("java", "librdkafka", "franz")
SHOWN = 12
"""Findings of one kind that are printed."""


class Loads:
    """The processes of the clients."""

    def __init__(self, commands, cluster, directory, seed):
        self.ledgers = {name: directory / f"{name}.ledger" for name in commands}
        self.read = dict.fromkeys(commands, 0)
        self.acked = dict.fromkeys(commands, 0)
        self.latest = {}  # (client, partition) -> when a record was acknowledged last
        self.processes = {}
        for name, command in commands.items():
            arguments = [cluster.bootstrap, TOPIC, PARTITIONS, self.ledgers[name], RATE, seed]
            with open(directory / f"{name}.log", "wb") as log:
                self.processes[name] = subprocess.Popen(
                    [*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )

    def acknowledged(self):
        """How many records are acknowledged up to now, by client."""
        for name, path in self.ledgers.items():
            if path.exists():
                with open(path, "rb") as file:
                    file.seek(self.read[name])
                    more = file.read()
                more = more[: more.rfind(b"\n") + 1]
                self.read[name] += len(more)
                for line in more.splitlines():
                    if line.startswith(b"acked "):
                        _, at, partition, _ = line.split(b" ", 3)
                        self.latest[name, int(partition)] = int(at)
                        self.acked[name] += 1
        return self.acked

    def are_served_since(self, since):
        """Whether each client has an acknowledgement from each partition since this time."""
        self.acknowledged()
        return len(self.latest) == PARTITIONS * len(self.ledgers) and min(self.latest.values()) > since

    def say(self, word):
        for process in self.processes.values():
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def stop_producing(self):
        self.say("stop")
        for name, process in self.processes.items():
            if process.stdout.readline() != "stopped\n":
                raise Unable(f"the client {name} has ended")

    def end(self):
        self.say("end")
        for process in self.processes.values():
            process.wait(PATIENCE)

    def kill(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def ledger(self):
        ledger = Ledger()
        for path in self.ledgers.values():
            ledger.add_file(path)
        return ledger


class Run:
    def __init__(self, options, cluster, loads):
        self.options = options
        self.cluster = cluster
        self.loads = loads
        self.faults = schedule(options.seed, options.faults)
        self.chance = random.Random(f"nodes {options.seed}")
        self.begun = []  # (time, fault)

    def run(self):
        """Returns the findings, as (kind, text)."""
        cluster, loads = self.cluster, self.loads
        cluster.start()
        loads = self.loads = loads(cluster)
        try:
            if not wait_for(lambda: loads.are_served_since(0), PATIENCE):
                raise Unable(f"not every client is served: {loads.acknowledged()}")
            for number, fault in enumerate(self.faults, 1):
                self.fault(number, fault)
            return self.verdict()
        finally:
            loads.kill()

    def fault(self, number, fault):
        target = self.target(fault)
        others = [node for node in self.cluster.nodes if node != target]
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
        return node if node in self.cluster.nodes else 1 + fault.number % NODES

    def verdict(self):
        cluster, loads = self.cluster, self.loads
        cluster.restart_ended()
        if not wait_for(cluster.is_healthy, PATIENCE):
            cluster.faults.append(f"the cluster does not heal: {cluster.ill()}")
        loads.stop_producing()
        ends = cluster.ends()
        if not wait_for(lambda: all(cluster.committed(group) == ends for group in GROUPS), PATIENCE, 1):
            behind = {group: cluster.committed(group) for group in GROUPS}
            cluster.faults.append(f"the logs end at {ends}, the groups have committed {behind}")
        loads.end()
        ledger = loads.ledger()
        committed = {(group, partition): offset for group in GROUPS for partition, offset in cluster.committed(group).items()}
        findings = judge(ledger, cluster.logs(), {place: offset for place, offset in committed.items() if offset >= 0})
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


def longest_gap(times, begin_at, end_at):
    """The longest gap between two times of a sorted list that begins in this span."""
    longest = 0
    for before, after in zip(times, times[1:]):
        if after >= begin_at and before <= end_at:
            longest = max(longest, after - max(before, begin_at))
    return longest


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


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--system", choices=["kafka", "ottla"], required=True)
    parser.add_argument("--program", required=True, help="the binary of Ottla, or the directory of Kafka's jars")
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--faults", type=int, required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--durability", choices=["fsync", "page-cache"], required=True)
    parser.add_argument("--controllers", type=int, required=True)
    parser.add_argument("--load", action="append", required=True, metavar="NAME=COMMAND")
    return parser.parse_args()


def main():
    chosen = options()
    named = (load.split("=", 1) for load in chosen.load)
    commands = {name: shlex.split(command) for name, command in named}
    system = {"kafka": Kafka, "ottla": Ottla}[chosen.system](chosen.program, chosen.durability)
    with contextlib.ExitStack() as made:
        try:
            network = made.enter_context(Network(NODES))
            disks = {}
            for number in range(1, NODES + 1):
                disks[number] = Disk(chosen.directory / f"node-{number}")
                made.callback(disks[number].unmount)
        except (CannotMake, subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"not run: this machine cannot make networks or disks for the nodes: {getattr(error, 'stderr', '') or error}")
            sys.exit(CANNOT)
        cluster = Cluster(system, network, disks, chosen.directory, chosen.controllers)
        made.callback(lambda: [node.kill() for node in cluster.nodes.values() if node.process])
        loads = lambda started: Loads(commands, started, chosen.directory, chosen.seed)
        try:
            findings = Run(chosen, cluster, loads).run()
        except (Unable, KafkaException) as error:
            print(f"FINDING cluster: {error}")
            findings = [error]
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
