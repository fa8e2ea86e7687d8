"""The disk of a node: an ext4 image of its own, which can stand still, be slow, or be full."""

import contextlib
import os
import threading

import image

FROZEN_SECONDS = 0.09
"""A slow disk stands still for this long, and then answers for a ninth of it."""
LEFT_BYTES = 256 << 10
"""What a full disk still has."""


class Disk:
    def __init__(self, directory):
        directory.mkdir(parents=True)
        self.path = directory / "disk"
        image.make_image(directory / "image")
        self.mounted = contextlib.ExitStack()
        self.mounted.enter_context(image.mounted(directory / "image", self.path))
        self.filler = self.path / "filler"
        self.healed = threading.Event()
        self.alternating = None

    def freeze(self):
        image.run("fsfreeze", "--freeze", str(self.path))

    def thaw(self):
        image.run("fsfreeze", "--unfreeze", str(self.path))

    def slow_down(self):
        self.healed.clear()
        self.alternating = threading.Thread(target=self.alternate)
        self.alternating.start()

    def alternate(self):
        while not self.healed.is_set():
            self.freeze()
            self.healed.wait(FROZEN_SECONDS)
            self.thaw()
            self.healed.wait(FROZEN_SECONDS / 9)

    def speed_up(self):
        self.healed.set()
        self.alternating.join()

    def fill(self):
        free = os.statvfs(self.path)
        taken = free.f_bavail * free.f_frsize - LEFT_BYTES
        with open(self.filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(taken, 1))

    def empty(self):
        self.filler.unlink()

    def unmount(self):
        self.mounted.close()
