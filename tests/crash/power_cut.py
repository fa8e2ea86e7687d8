"""Power cuts: the data is on an ext4 image, and whatever has not reached the image is lost.

After kill -9 the image file is copied without unmounting it, and the broker starts on the copy. With `fsync` no acknowledged or
read record may be missing. With `page-cache` some must be missing; otherwise the test could not find a missing sync.

usage: power_cut.py BROKER DIRECTORY CUTS SEED
exit status: 0 passed, 1 failed, 77 this machine cannot mount an image
"""

import pathlib
import random
import sys
import time

from broker import Broker
from image import demand_images, make_image, mounted, run
from load import Load, create_topics
from verify import lost_and_wrong, metadata_faults


def cut(binary, directory, seed, durability):
    """One cut; returns (lost, other faults, records acknowledged)."""
    image, copy = directory / "image", directory / "copy"
    copy.unlink(missing_ok=True)
    make_image(image)
    settings = {"ottla.ack.durability": durability}
    log = directory / "broker.log"
    with mounted(image, directory / "before") as before:
        broker = Broker(binary, before / "data", log, settings)
        broker.start()
        create_topics(broker.address)
        load = Load(broker.address, seed)
        load.start()
        time.sleep(random.Random(seed).uniform(0.4, 1.5))  # how long the load runs
        broker.kill()
        # The copy is the disk after the cut: it does not contain the kernel's memory.
        run("cp", "--sparse=always", str(image), str(copy))
        load.abandon()
    with mounted(copy, directory / "after") as after:
        survivor = Broker(binary, after / "data", log, settings)
        survivor.start()
        lost, wrong = lost_and_wrong(survivor.address, load.ledger)
        if durability == "fsync":
            wrong += metadata_faults(survivor.address, load.ledger)
        if survivor.stop() != 0:
            wrong.append("a clean stop fails")
    return lost, wrong, len(load.ledger.acked)


def main():
    binary, directory, cuts, seed = sys.argv[1:]
    directory = pathlib.Path(directory)
    demand_images(directory)
    faults, acknowledged = [], 0
    for number in range(int(cuts)):
        lost, wrong, acked = cut(binary, directory, f"{seed}-{number}", "fsync")
        faults += [f"cut {number}: {fault}" for fault in lost + wrong]
        acknowledged += acked
    seen = 0
    for number in range(3):
        lost, _, _ = cut(binary, directory, f"{seed}-page-cache-{number}", "page-cache")
        seen += len(lost)
    if seen == 0:
        faults.append("page-cache lost nothing: this test cannot see a missing sync")
    for fault in faults[:20]:
        print(f"FAULT {fault}")
    print(
        f"seed {seed}: {cuts} power cuts, {acknowledged} records acknowledged, {len(faults)} faults; "
        f"with page-cache {seen} acknowledged or read records were lost"
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
