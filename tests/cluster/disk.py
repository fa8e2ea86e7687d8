"""The disk of a node: an ext4 image of its own, which can stand still, be slow, be full, or lose its power."""

import contextlib
import fcntl
import os
import struct
import threading

import image

FROZEN_SECONDS = 0.09
"""A slow disk stands still for this long, and then answers for a ninth of it."""
LEFT_BYTES = 256 << 10
"""What a full disk still has."""

SHUT_DOWN, WITHOUT_FLUSH = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN and its flag: nothing more is written, neither data nor journal."""


class Disk:
    def __init__(self, directory):
        directory.mkdir(parents=True)
        self.path = directory / "disk"
        self.image = directory / "image"
        image.make_image(self.image)
        self.mounted = contextlib.ExitStack()
        self.mounted.enter_context(image.mounted(self.image, self.path))
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

    def cut_power(self):
        """Loses all that has not reached the disk. Its node must be killed before."""
        directory = os.open(self.path, os.O_RDONLY)
        fcntl.ioctl(directory, SHUT_DOWN, struct.pack("I", WITHOUT_FLUSH))
        os.close(directory)
        # Not lazily: two mounts of one image would destroy it.
        image.run("umount", str(self.path))
        image.run("mount", "-o", "loop", str(self.image), str(self.path))
