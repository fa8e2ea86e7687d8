"""The faults, and the schedule of a seed. The schedule names roles; which node has a role is seen when the fault begins."""

import collections
import random

LEADER, CONTROLLER, ANY = "leader", "controller", "any"

Fault = collections.namedtuple("Fault", "kind role number seconds pause waits")
"""`number` chooses the partition of a leader, or the node; `waits` says whether the next fault waits for a healthy cluster."""

# (kind, weight, shortest and longest time in seconds)
KINDS = [
    ("kill", 6, 0.1, 4),
    ("stop", 3, 0.1, 2),
    ("freeze", 3, 1, 12),
    ("kill two", 1, 0.1, 4),
    ("kill all", 1, 0.1, 2),
    ("cut link", 2, 1, 12),
    ("cut one way", 3, 1, 12),
    ("cut off", 2, 1, 12),
    ("stall disk", 2, 1, 8),
    ("slow disk", 2, 2, 8),
    ("fill disk", 2, 1, 5),
]
ROLES = [(LEADER, 4), (CONTROLLER, 3), (ANY, 2)]


def schedule(seed, count):
    """The faults of a seed. A longer schedule begins like a shorter one."""
    chance = random.Random(f"faults {seed}")
    return [one(chance) for _ in range(count)]


def one(chance):
    kind, _, shortest, longest = chance.choices(KINDS, [weight for _, weight, _, _ in KINDS])[0]
    role = chance.choices(ROLES, [weight for _, weight in ROLES])[0][0]
    # Short ones are more frequent.
    seconds = shortest + (longest - shortest) * chance.random() ** 2
    return Fault(kind, role, chance.randrange(1000), seconds, chance.uniform(0.5, 3), chance.random() < 0.7)


def begin(fault, cluster, target, others):
    """Does it; returns what it did, and what ends it."""
    node = cluster.nodes[target]
    named = f"node {target}"
    if fault.kind in ("kill", "kill two", "kill all"):
        count = {"kill": 0, "kill two": 1, "kill all": len(others)}[fault.kind]
        victims = [target, *others[:count]]
        for victim in victims:
            cluster.nodes[victim].kill()
        return f"kill -9 of {listed(victims)}", lambda: [cluster.nodes[victim].start() for victim in victims]
    if fault.kind == "stop":
        return f"stop of {named}", lambda: restart(cluster, node)
    if fault.kind == "freeze":
        node.pause()
        return f"{named} stands still", node.go_on
    if fault.kind.startswith("cut"):
        return cut(fault.kind, cluster.network, target, others[0])
    if fault.kind == "stall disk":
        node.disk.freeze()
        return f"the disk of {named} stands still", node.disk.thaw
    if fault.kind == "slow disk":
        node.disk.slow_down()
        return f"the disk of {named} is slow", node.disk.speed_up
    node.disk.fill()
    return f"the disk of {named} is full", node.disk.empty


def listed(nodes):
    return f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(map(str, sorted(nodes)))}"


def restart(cluster, node):
    if not node.stop():
        cluster.faults.append(f"node {node.number} does not stop in order")
    node.start()


def cut(kind, network, target, other):
    if kind == "cut off":
        network.cut_off(target)
        return f"no packets from and to node {target}", network.heal
    network.cut(target, other)
    if kind == "cut one way":
        return f"no packets from node {target} to node {other}", network.heal
    network.cut(other, target)
    return f"no packets between node {target} and node {other}", network.heal
