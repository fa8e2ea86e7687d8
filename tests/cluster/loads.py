"""The clients under whose load the nodes are judged: each family is one process, with a ledger of its own."""

import shlex
import signal
import subprocess

from cluster import PATIENCE, Unable
from ledger import Ledger
from nodes import wait_for

RATE = 120
"""Records per second of each producer."""
DUMP_SECONDS = 3
"""In which a client writes where its threads are."""


def commands(options):
    """The command of each family, from NAME=COMMAND."""
    named = (load.split("=", 1) for load in options)
    return {name: shlex.split(command) for name, command in named}


class Loads:
    """The processes of the clients."""

    def __init__(self, families, bootstrap, topic, directory, seed, rate=RATE):
        """`topic` is its name and the number of its partitions."""
        self.partitions = topic[1]
        self.ledgers = {name: directory / f"{name}.ledger" for name in families}
        self.read = dict.fromkeys(families, 0)
        self.acked = dict.fromkeys(families, 0)
        self.latest = {}  # (client, partition) -> when a record was acknowledged last
        self.processes = {}
        for name, command in families.items():
            arguments = [bootstrap, *topic, self.ledgers[name], rate, seed]
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
        return len(self.latest) == self.partitions * len(self.ledgers) and min(self.latest.values()) > since

    def wait_until_served(self, since, when):
        if not wait_for(lambda: self.are_served_since(since), PATIENCE):
            raise Unable(f"{when}: not every client is served in {PATIENCE} s: {self.acknowledged()}")

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
        stuck = self.stuck()
        if stuck:
            raise Unable(f"{stuck} do not end: a call of them has not returned for {PATIENCE} s")

    def stuck(self):
        """Tells the clients to end; returns those that do not. Where they hang is then in their logs."""
        self.say("end")
        stuck = [name for name, process in self.processes.items() if not ends(process, PATIENCE)]
        for name in stuck:
            self.processes[name].send_signal(signal.SIGQUIT)
            ends(self.processes[name], DUMP_SECONDS)
        return stuck

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


def ends(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
