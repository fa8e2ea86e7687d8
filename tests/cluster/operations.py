"""Runs the commands of a page as they stand there, in one shell, under the load of real clients.

The page has commands in blocks `sh`. A block `text` has what they print: lines, or parts of lines; such a block of commands only
looks, and is run again until it prints all of them. Comments say where the clients begin and end:

    <!-- clients begin: TOPIC, COUNT partitions, ADDRESS,ADDRESS -->
    <!-- clients end -->

At their end nothing may be lost, doubled, reordered or skipped, no producer may have shown an error, and none may have been
started again. Each port of 127.0.0.1 becomes one that is free; nothing else is changed.
"""

import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import room
from broker import free_port
from checker import judge
from confluent_kafka import KafkaException
from content import PATIENCE, Content, Unable
from loads import Loads, commands
from nodes import wait_for

PART = re.compile(r"^```(sh|text)\n(.*?)^```$|^<!-- clients begin: (\S+), (\d+) partitions, (\S+) -->$|^<!-- (clients end) -->$|^## ([^\n]*)$", re.M | re.S)
LOOK_FOR = 60
"""Seconds in which a block must print what the page says."""
BLOCK_TAKES = 300
"""Seconds after which a block of commands hangs."""
STEADY = 2
"""Seconds of load before the first event, and after each chapter."""
TOOLS = {
    "kafka-cluster": "ClusterTool",
    "kafka-features": "FeatureCommand",
    "kafka-leader-election": "LeaderElectionCommand",
    "kafka-log-dirs": "LogDirsCommand",
    "kafka-metadata-quorum": "MetadataQuorumCommand",
    "kafka-reassign-partitions": "reassign.ReassignPartitionsCommand",
    "kafka-topics": "TopicCommand",
}
"""The scripts of Apache Kafka, and the classes that they run."""
FLAGS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx128m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class Ports:
    """A free port for each port of the page."""

    def __init__(self):
        self.free = collections.defaultdict(free_port)

    def replace(self, text):
        return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{self.free[found[1]]}", text)


class Shell:
    """One shell for all commands, with `ottla` and the tools of Apache Kafka in its path."""

    def __init__(self, directory, program, kafka):
        bin = directory / "bin"
        bin.mkdir()
        shutil.copy(program, bin / "ottla")
        for name, tool in TOOLS.items():
            script = bin / f"{name}.sh"
            script.write_text(f"#!/bin/sh\nexec java {FLAGS} -cp '{kafka}' org.apache.kafka.tools.{tool} \"$@\"\n")
            script.chmod(0o755)
        environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
        self.output = directory / "output"
        self.sent = 0
        self.process = subprocess.Popen(
            ["bash", "-eu"], stdin=subprocess.PIPE, cwd=directory, env=environment, text=True, start_new_session=True
        )

    def run(self, commands):
        """Runs commands; returns what they print. A command that fails ends the shell."""
        self.sent += 1
        output, done = f"{self.output}-{self.sent}", pathlib.Path(f"{self.output}-{self.sent}.done")
        # In the shell itself, whose functions and variables the next commands need.
        self.process.stdin.write(f"{{\n{commands}\n}} >{output} 2>&1\n: >{done}\n")
        self.process.stdin.flush()
        wait_for(lambda: done.exists() or self.process.poll() is not None, BLOCK_TAKES, 0.02)
        printed = pathlib.Path(output).read_text(encoding="utf-8", errors="replace")
        if not done.exists():
            raise Unable(f"these commands fail:\n{commands}They print:\n{printed}")
        return printed

    def look(self, commands, wanted):
        """Runs commands until they print all that is wanted."""
        printed = ""

        def is_printed():
            nonlocal printed
            printed = self.run(f"( set +e; {commands}\n true )")
            return not missing(wanted, printed)

        if not wait_for(is_printed, LOOK_FOR, 0.3):
            raise Unable(f"{missing(wanted, printed)} is not printed by\n{commands}which prints\n{printed}")

    def end(self):
        self.process.stdin.close()
        try:
            # All that it has started is in its session.
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()


def missing(wanted, printed):
    """The wanted lines that are not printed. The width of a space does not count, and `…` stands for anything."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    return [want for want in filter(None, map(str.strip, wanted.splitlines())) if not any(has(line, want) for line in lines)]


def has(line, want):
    parts = (re.escape(" ".join(part.split())) for part in want.split("…"))
    return re.search(".*".join(parts), line)


class Run:
    def __init__(self, options):
        self.options = options
        self.ports = Ports()
        self.shell = Shell(options.directory, options.ottla, options.kafka)
        self.loads = None
        self.content = None
        self.count = 0

    def run(self, page):
        """Returns the findings."""
        parts = list(PART.finditer(page))
        findings, judged = [], 0
        for part, after in zip(parts, [*parts[1:], None]):
            kind, text, topic, partitions, bootstrap, ends, chapter = part.groups()
            if chapter:
                print(f"-- {chapter}", flush=True)
                self.steady()
            elif kind == "sh":
                wanted = after.group(2) if after and after.group(1) == "text" else None
                self.block(self.ports.replace(text), wanted and self.ports.replace(wanted))
            elif topic:
                self.begin(topic, int(partitions), self.ports.replace(bootstrap))
            elif ends:
                findings += self.verdict()
                judged += 1
        if not judged or self.loads:
            raise Unable("the page has no clients, or they have no end")
        return findings

    def block(self, commands, wanted):
        begun = time.monotonic()
        self.count += 1
        if wanted:
            self.shell.look(commands, wanted)
        else:
            self.shell.run(commands)
        first = commands.splitlines()[0]
        print(f"{time.monotonic() - begun:6.1f} s  {first}{' …' if commands.count(chr(10)) > 1 else ''}", flush=True)

    def begin(self, topic, partitions, bootstrap):
        self.content = Content(bootstrap, topic, partitions)
        directory = self.options.directory / f"clients-of-{topic}"
        directory.mkdir()
        self.loads = Loads(commands(self.options.load), bootstrap, (topic, partitions), directory, seed=1)
        self.steady()

    def steady(self):
        """Waits until each client is served again."""
        if self.loads:
            since = time.time() * 1000
            self.loads.wait_until_served(since, "under load")
            time.sleep(STEADY)

    def verdict(self):
        content, loads = self.content, self.loads
        self.steady()
        loads.stop_producing()
        ends = content.ends()
        if not wait_for(lambda: content.has_committed(ends), PATIENCE, 1):
            raise Unable(f"the logs end at {ends}, the groups have not committed all")
        loads.end()
        ledger = loads.ledger()
        findings = [f"{kind}: {text}" for kind, text in judge(ledger, content.logs(), content.commits())]
        producers = {record[0] for _, _, _, record in ledger.acked}
        findings += [f"a producer was started again: {name}" for name in sorted(producers) if not name.endswith("-1")]
        findings += [f"{client} showed an error: {text}" for _, client, text in ledger.failed if client.endswith("-producer")]
        print(f"{len(ledger.acked)} records acknowledged to {len(producers)} producers, {len(ledger.commits)} commits", flush=True)
        self.loads = None
        return findings

    def end(self):
        if self.loads:
            self.loads.kill()
        self.shell.end()


def main():
    parser = room.parser(__doc__)
    parser.add_argument("--system", action="append", help="both are needed")
    parser.add_argument("--page", type=pathlib.Path, required=True)
    options = parser.parse_args()
    run = Run(options)
    try:
        findings = run.run(options.page.read_text(encoding="utf-8"))
    except (Unable, KafkaException) as error:
        findings = [error]
    finally:
        run.end()
    for finding in findings:
        print(f"FINDING {finding}")
    print(f"{run.count} blocks of commands, {len(findings)} findings", flush=True)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
