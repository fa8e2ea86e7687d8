"""A file with an ext4 file system, which a test mounts as its disk, to fill it, freeze it, or cut its power.

A program that runs in rounds takes BROKER DIRECTORY ROUNDS SEED. Its exit status is 0 for passed, 1 for failed, or 77 if this
machine cannot use such an image.
"""

import contextlib
import pathlib
import random
import subprocess
import sys
import traceback

CANNOT_MOUNT = 77


class Failed(Exception):
    """A check that failed."""


def demand(holds, what):
    if not holds:
        raise Failed(what)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(image, at):
    at.mkdir(exist_ok=True)
    run("mount", "-o", "loop", str(image), str(at))
    try:
        yield at
    finally:
        run("umount", "--lazy", str(at))


def make_image(path):
    path.unlink(missing_ok=True)
    run("truncate", "-s", "512M", str(path))
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(path))


def demand_images(directory, attempt=lambda at: None):
    """Exits with 77 if an image cannot be mounted, or if `attempt` fails on it. Later failures are faults."""
    try:
        make_image(directory / "image")
        with mounted(directory / "image", directory / "disk") as at:
            attempt(at)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        said = getattr(error, "stderr", "") or error
        print(f"not run: this machine cannot do so with an ext4 image: {said}")
        sys.exit(CANNOT_MOUNT)


def in_rounds(round_of, summary, attempt=lambda at: None):
    """Runs `round_of(binary, directory, at, chance)` on a new image each time, and prints `summary(rounds, outcomes)`."""
    binary, directory, rounds, seed = sys.argv[1:]
    directory = pathlib.Path(directory)
    demand_images(directory, attempt)
    faults, outcomes = [], []
    for number in range(int(rounds)):
        try:
            make_image(directory / "image")
            with mounted(directory / "image", directory / "disk") as at:
                outcomes.append(round_of(binary, directory, at, random.Random(f"{seed}-{number}")))
        except Failed as fault:
            faults.append(f"round {number}: {fault}")
        except Exception as fault:
            traceback.print_exc()
            faults.append(f"round {number}: {fault!r} {getattr(fault, 'stderr', '') or ''}")
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"seed {seed}: {summary(rounds, outcomes)}, {len(faults)} faults")
    sys.exit(1 if faults else 0)
