"""No healthy node is fenced: three nodes under load, both cores and more kept busy, one disk after the other standing still for a while.

Whether a node was fenced is in the logs of the nodes. All clients must be served at the end.

The exit status is 0 for passed, 1 for a finding, or that of room.py.
"""

import contextlib
import os
import re
import subprocess
import sys
import time

import room
from cluster import PARTITIONS, TOPIC, Unable
from confluent_kafka import KafkaException
from loads import Loads, commands

RATE = 300
"""Records per second of each producer."""
STANDS_STILL = 5
"""Seconds for which a disk stands still."""
BETWEEN = 25
"""Seconds from the end of one standstill to the next."""
FENCED = re.compile(r"fencing a broker|has fenced this broker")
ELECTED = "this controller is active"


@contextlib.contextmanager
def busy_cores():
    """As many processes as there are cores, which only compute."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def lines(node):
    return node.log.read_text(errors="replace").splitlines()


def fenced(cluster):
    """What the logs say of nodes that were fenced."""
    return [f"node {node.number}: {line}" for node in cluster.nodes.values() for line in lines(node) if FENCED.search(line)]


def elections(cluster):
    return sum(ELECTED in line for node in cluster.nodes.values() for line in lines(node))


def stand_still(disk):
    disk.freeze()
    try:
        time.sleep(STANDS_STILL)
    finally:
        disk.thaw()


def load(options, cluster):
    """Returns how often a disk stood still, and how many records were acknowledged."""
    cluster.create_topic()
    loads = Loads(commands(options.load), cluster.bootstrap, (TOPIC, PARTITIONS), cluster.directory, 1, RATE)
    nodes = list(cluster.nodes.values())
    stood = 0
    try:
        loads.wait_until_served(0, "at the beginning")
        with busy_cores():
            end = time.monotonic() + options.minutes * 60
            while time.monotonic() < end and not fenced(cluster):
                stand_still(nodes[stood % len(nodes)].disk)
                stood += 1
                time.sleep(BETWEEN)
        loads.wait_until_served(time.time() * 1000, "at the end")
        loads.stop_producing()
        loads.end()
    finally:
        loads.kill()
    return stood, sum(loads.acknowledged().values())


def main():
    parser = room.parser("Looks for healthy nodes that are fenced.")
    parser.add_argument("--system", choices=["ottla"], required=True)
    parser.add_argument("--minutes", type=float, required=True)
    options = parser.parse_args()
    with room.three_nodes(options, options.system) as cluster:
        try:
            cluster.start()
            stood, acknowledged = load(options, cluster)
            findings = fenced(cluster)
        except (Unable, KafkaException) as error:
            findings = [str(error)]
        else:
            print(f"{stood} times a disk stood still for {STANDS_STILL} s, {acknowledged} records, {elections(cluster)} elections of a controller")
    for finding in findings:
        print(f"FINDING {finding}")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
