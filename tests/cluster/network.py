"""A network of the nodes' own: each node in a namespace of its own, all on one bridge, which clients use too.

A link is cut in one direction by a wrong hardware address: what one node sends to another goes to no one, without an error.
Needs root.
"""

import os
import subprocess

NOWHERE = "02:00:00:00:00:fe"
CLIENTS = 0
"""In a cut: this side of the bridge, where the clients are."""


class CannotMake(Exception):
    """This machine makes no network namespaces."""


def ip(*arguments):
    ran = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise CannotMake(f"ip {' '.join(arguments)}: {ran.stderr.strip()}")


class Network:
    """The nodes are numbered from 1."""

    def __init__(self, count):
        tag = os.getpid()
        self.nodes = range(1, count + 1)
        self.bridge = f"ob{tag}"
        # 10.64.0.0/10 by the process, so that runs do not meet.
        self.subnet = f"10.{64 + (tag >> 8) % 64}.{tag % 256}"
        self.cuts = set()
        self.space = {node: f"ottla-{tag}-{node}" for node in self.nodes}
        self.port = {node: f"ob{tag}p{node}" for node in self.nodes}

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        commands = [["netns", "del", space] for space in self.space.values()]
        # A namespace stays while a process in it is ending, but its link goes now.
        commands += [["link", "del", link] for link in [*self.port.values(), self.bridge]]
        for command in commands:
            subprocess.run(["ip", *command], capture_output=True, check=False)

    def address(self, end):
        return f"{self.subnet}.{end or 254}"

    @staticmethod
    def hardware(end):
        return f"02:00:00:00:01:{end:02x}"

    def make(self):
        ip("link", "add", self.bridge, "address", self.hardware(CLIENTS), "type", "bridge")
        ip("addr", "add", f"{self.address(CLIENTS)}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for node in self.nodes:
            space, port = self.space[node], self.port[node]
            ip("netns", "add", space)
            ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", port, "master", self.bridge, "up")
            ip("-n", space, "link", "set", "eth0", "address", self.hardware(node), "up")
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        ends = [CLIENTS, *self.nodes]
        for source in ends:
            for target in ends:
                if source != target:
                    self.direct(source, target, self.hardware(target))

    def direct(self, source, target, hardware):
        """What `source` sends to `target` goes to this hardware address."""
        device = ["dev", self.bridge if source == CLIENTS else "eth0"]
        space = [] if source == CLIENTS else ["-n", self.space[source]]
        ip(*space, "neigh", "replace", self.address(target), "lladdr", hardware, "nud", "permanent", *device)

    def cut(self, source, target):
        """Drops all that `source` sends to `target`."""
        self.direct(source, target, NOWHERE)
        self.cuts.add((source, target))

    def cut_off(self, node):
        """Drops all packets from and to a node, those of clients too."""
        for other in {CLIENTS, *self.nodes} - {node}:
            self.cut(node, other)
            self.cut(other, node)

    def heal(self):
        for source, target in self.cuts:
            self.direct(source, target, self.hardware(target))
        self.cuts.clear()

    def inside(self, node):
        """The beginning of a command that runs in the namespace of a node."""
        return ["nsenter", f"--net=/run/netns/{self.space[node]}"]
