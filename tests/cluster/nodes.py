"""Nodes of Apache Kafka or Ottla: their configuration, and the life of their processes."""

import signal
import subprocess
import time

CLUSTER_ID = "b3R0bGEtY2x1c3Rlci0wMQ"
SECONDS_TO_STOP = 60
KAFKA_FLAGS = ["-Xmx512m", "-Xms256m", "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


def properties(node, network, controllers):
    """The keys of a Node. The nodes up to number `controllers` are controllers too."""
    at = network.address
    is_controller = node <= controllers
    voters = ",".join(f"{voter}@{at(voter)}:9093" for voter in range(1, controllers + 1))
    listener = f",CONTROLLER://{at(node)}:9093" if is_controller else ""
    return {
        "process.roles": "broker,controller" if is_controller else "broker",
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{at(node)}:9092{listener}",
        "advertised.listeners": f"PLAINTEXT://{at(node)}:9092",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # Fewer than by default: each has a leader to move, and this machine is small.
        "offsets.topic.num.partitions": 4,
    }


class Kafka:
    """Apache Kafka."""

    def __init__(self, classes, durability):
        self.classes = classes
        # What Kafka has for `fsync`.
        self.keys = {"log.flush.interval.messages": 1} if durability == "fsync" else {}

    def format(self, config):
        command = ["java", "-cp", self.classes, "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", CLUSTER_ID, "--config", str(config)]
        subprocess.run(command, check=True, capture_output=True)

    def command(self, config):
        return ["java", *KAFKA_FLAGS, "-cp", self.classes, "kafka.Kafka", str(config)]

    # A JVM that ran its shutdown hooks still reports the signal.
    stopped = 128 + signal.SIGTERM


class Ottla:
    """The broker of this checkout; `binary` is its program."""

    def __init__(self, binary, durability):
        self.binary = binary
        self.keys = {"ottla.cluster.id": CLUSTER_ID, "ottla.http.listen": ""} | ({"ottla.ack.durability": durability} if durability else {})

    def format(self, config):
        """It formats at its first start."""

    def command(self, config):
        return [self.binary, "serve", "--config", str(config)]

    stopped = 0


class Process:
    """A node, which can be started again on the same data and address. Its command runs `inside` another one, if that is given."""

    def __init__(self, number, system, directory, inside=()):
        self.number = number
        self.system = system
        self.inside = inside
        self.config = directory / f"node-{number}.properties"
        self.log = directory / f"node-{number}.log"
        self.data = directory / f"data-{number}"
        self.process = None

    def configure(self, keys):
        """`keys` are those beside the number and the directory of the data."""
        all_keys = {"node.id": self.number, "log.dirs": self.data} | keys | self.system.keys
        self.config.write_text("".join(f"{key}={value}\n" for key, value in all_keys.items()))
        self.system.format(self.config)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.inside, *self.system.command(self.config)], stdout=log, stderr=log)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()


def kill_all(nodes):
    for node in nodes:
        if node.runs():
            node.kill()


class Node(Process):
    """One with a network and a disk of its own. It can stand still, and stop in order."""

    def __init__(self, number, system, network, disk, directory):
        super().__init__(number, system, directory, network.inside(number))
        self.disk = disk
        self.data = disk.path / "data"
        self.address = f"{network.address(number)}:9092"
        self.is_paused = False

    def kill(self):
        super().kill()
        self.is_paused = False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.is_paused = True

    def go_on(self):
        if self.is_paused:
            self.process.send_signal(signal.SIGCONT)
            self.is_paused = False

    def ask_to_stop(self):
        self.process.send_signal(signal.SIGTERM)

    def wait_for_stop(self):
        """Whether it stopped in order and in time."""
        try:
            status = self.process.wait(timeout=SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return status == self.system.stopped

    def stop(self):
        self.ask_to_stop()
        return self.wait_for_stop()


def wait_for(condition, seconds, between=0.1):
    """Whether the condition holds within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(between)
    return True
