"""kill -9 at random moments under load: all acknowledged records must be there, once and in order.

usage: kill.py BROKER DIRECTORY ROUNDS SEED
"""

import pathlib
import random
import sys
import time

from broker import Broker
from load import Load, create_topics
from verify import lost_and_wrong, metadata_faults


def main():
    binary, directory, rounds, seed = sys.argv[1:]
    directory = pathlib.Path(directory)
    rng = random.Random(seed)
    broker = Broker(binary, directory / "data", directory / "broker.log")
    broker.start()
    create_topics(broker.address)
    load = Load(broker.address, seed)
    load.start()
    load.wait_until_served()
    for number in range(int(rounds)):
        time.sleep(rng.uniform(0.1, 0.7))  # how long this round's load runs
        broker.kill()
        broker.start()
        if load.ledger.failures:
            break
        if (number + 1) % 10 == 0:
            print(f"{number + 1} kills, {len(load.ledger.acked)} records acknowledged", flush=True)
    load.stop()
    broker.kill()
    broker.start()
    ledger = load.ledger
    lost, wrong = lost_and_wrong(broker.address, ledger)
    faults = ledger.failures + lost + wrong + metadata_faults(broker.address, ledger)
    stopped = broker.stop()
    if stopped != 0:
        faults.append(f"a clean stop ends with status {stopped}")
    for fault in faults[:20]:
        print(f"FAULT {fault}")
    print(
        f"seed {seed}: {rounds} kills, {len(ledger.acked)} records acknowledged, {len(ledger.read)} read, "
        f"{len(ledger.created) + len(ledger.deleted)} topics, {ledger.committed.get(0, (0, 0))[0]} commits, "
        f"{len(ledger.producer_ids)} producer ids, {ledger.compacted} compacted away, {len(faults)} faults"
    )
    enough = len(ledger.acked) > 100 * int(rounds) and ledger.producer_ids and ledger.deleted
    enough = enough and ledger.compacted > 10 * int(rounds)
    if not enough:
        print("FAULT the load did too little to show anything")
    sys.exit(1 if faults or not enough else 0)


if __name__ == "__main__":
    main()
