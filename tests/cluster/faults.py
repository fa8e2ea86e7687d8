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
POWER_CUTS = [("cut power", 8, 0.1, 4), ("cut all power", 8, 0.1, 2)]
"""Kinds that a schedule has only if power cuts are asked for."""
ROLES = [(LEADER, 4), (CONTROLLER, 3), (ANY, 2)]


def schedule(seed, count, with_power_cuts=False):
    """The faults of a seed. A longer schedule begins like a shorter one."""
    chance = random.Random(f"faults {seed}")
    kinds = KINDS + POWER_CUTS if with_power_cuts else KINDS
    return [one(chance, kinds) for _ in range(count)]


def one(chance, kinds):
    kind, _, shortest, longest = chance.choices(kinds, [weight for _, weight, _, _ in kinds])[0]
    role = chance.choices(ROLES, [weight for _, weight in ROLES])[0][0]
    # Short ones are more frequent.
    seconds = shortest + (longest - shortest) * chance.random() ** 2
    return Fault(kind, role, chance.randrange(1000), seconds, chance.uniform(0.5, 3), chance.random() < 0.7)


def begin(fault, cluster, target, others):
    """Does it; returns what it did, and what ends it."""
    node = cluster.nodes[target]
    named = f"node {target}"
    if fault.kind in VICTIMS:
        return kill(fault.kind, cluster, [target, *others])
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


VICTIMS = {"kill": 1, "kill two": 2, "kill all": 3, "cut power": 1, "cut all power": 3}


def kill(kind, cluster, nodes):
    victims = [cluster.nodes[number] for number in nodes[: VICTIMS[kind]]]
    for victim in victims:
        victim.kill()
    if "power" in kind:
        for victim in victims:
            victim.disk.cut_power()
    what = "power cut" if "power" in kind else "kill -9"
    return f"{what} of {listed([victim.number for victim in victims])}", lambda: [victim.start() for victim in victims]


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
