"""Nodes as processes on this machine."""

import subprocess


class Process:
    """A node; `keys` are those of its configuration beside its name and its disk."""

    def __init__(self, number, system, directory, keys):
        self.number = number
        self.system = system
        self.config = directory / f"node-{number}.properties"
        self.log = directory / f"node-{number}.log"
        self.process = None
        all_keys = {"node.id": number, "log.dirs": directory / f"data-{number}"} | keys | system.keys
        self.config.write_text("".join(f"{key}={value}\n" for key, value in all_keys.items()))
        system.format(self.config)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.system.command(self.config), stdout=log, stderr=log)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()
