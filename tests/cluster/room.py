"""A room for three nodes: their network, their disks, and the end of all that was started in it.

The exit status is 77 if this machine cannot make networks or disks for the nodes.
"""

import argparse
import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys

from cluster import Cluster
from disk import Disk
from network import CannotMake, Network
from nodes import Kafka, Ottla, kill_all

CANNOT = 77
NODES = 3


def parser(description):
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--kafka", help="the class path of Apache Kafka")
    made.add_argument("--ottla", help="the program")
    made.add_argument("--directory", type=pathlib.Path, required=True)
    made.add_argument("--durability", choices=["fsync", "page-cache"], help="by default as each system comes")
    made.add_argument("--controllers", type=int, default=NODES)
    made.add_argument("--load", action="append", default=[], metavar="NAME=COMMAND")
    return made


def make_system(options, name, directory):
    """What runs as a node. Ottla's program is copied to the directory: a build during the run does not change what runs."""
    if name == "kafka":
        return Kafka(options.kafka, options.durability)
    return Ottla(shutil.copy(options.ottla, directory / "ottla"), options.durability)


@contextlib.contextmanager
def three_nodes(options, system):
    """A Cluster that is not started."""
    # So that all that was made is removed then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    directory = options.directory / system
    directory.mkdir(parents=True)
    made = make_system(options, system, directory)
    with contextlib.ExitStack() as ends:
        try:
            network = ends.enter_context(Network(NODES))
            disks = {}
            for number in range(1, NODES + 1):
                disks[number] = Disk(directory / f"node-{number}")
                ends.callback(disks[number].unmount)
        except (CannotMake, subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"not run: this machine cannot make networks or disks for the nodes: {getattr(error, 'stderr', '') or error}")
            sys.exit(CANNOT)
        cluster = Cluster(made, network, disks, directory, options.controllers)
        ends.callback(kill_all, cluster.nodes.values())
        yield cluster
