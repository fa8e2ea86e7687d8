"""What the clients of a cluster were told. Each client process writes a ledger of its own, a line at a time.

    acked TIME PARTITION OFFSET PRODUCER KEY SEQUENCE   a record was acknowledged; the offset is -1 if the broker did not say it
    failed TIME CLIENT MESSAGE                          the client showed an error to its application
    assigned TIME READER PARTITION POSITION             a reader begins to read here
    read TIME READER PARTITION OFFSET PRODUCER KEY SEQUENCE
    commit TIME GROUP PARTITION OFFSET                  a commit was acknowledged at this time
    committed TIME GROUP PARTITION OFFSET               what the group was told, when it asked at this time; -1 for nothing

TIME is the wall clock in milliseconds. The name of a reader in a group is GROUP/MEMBER. Sequences of a producer and key begin
at 1 and rise by 1.
"""

import sys


class Ledger:
    """All ledgers of a run. Lines of one process keep their order."""

    def __init__(self):
        self.acked = []  # (time, partition, offset, record)
        self.failed = []  # (time, client, message)
        self.readings = {}  # (reader, partition) -> [(position, None) or (offset, record)]
        self.read_times = {}  # (reader, partition) -> [time]
        self.commits = []  # (time, group, partition, offset)
        self.committed = []  # (time, group, partition, offset)

    def add_file(self, path):
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                # A process that was ended may have left half a line.
                if line.endswith("\n"):
                    self.add(line.rstrip("\n"))

    def add(self, line):
        kind, time, rest = line.split(" ", 2)
        time = int(time)
        if kind == "acked":
            partition, offset, record = rest.split(" ", 2)
            self.acked.append((time, int(partition), int(offset), record_of(record)))
        elif kind == "read":
            reader, partition, offset, record = rest.split(" ", 3)
            self.reading(reader, partition).append((int(offset), record_of(record)))
            self.read_times.setdefault((reader, int(partition)), []).append(time)
        elif kind == "assigned":
            reader, partition, position = rest.split(" ")
            self.reading(reader, partition).append((int(position), None))
        elif kind == "failed":
            client, message = rest.split(" ", 1)
            self.failed.append((time, client, message))
        elif kind in ("commit", "committed"):
            group, partition, offset = rest.split(" ")
            kept = self.commits if kind == "commit" else self.committed
            kept.append((time, group, int(partition), int(offset)))
        else:
            raise ValueError(f"not a line of a ledger: {line}")

    def reading(self, reader, partition):
        return self.readings.setdefault((sys.intern(reader), int(partition)), [])


def record_of(text):
    """(producer, key, sequence)"""
    producer, key, sequence = text.split(" ")
    return sys.intern(producer), sys.intern(key), int(sequence)


def value_of(record, padding=0):
    """The bytes that a client writes for a record."""
    producer, key, sequence = record
    return f"{producer} {key} {sequence} {'x' * padding}".encode()


def record_in(value):
    """The record of a value."""
    return record_of(value.decode().rsplit(" ", 1)[0])


def longest_gap(times, begin_at, end_at):
    """The longest time in this span without one of these sorted times; what is before the first and after the last does not count."""
    longest = 0
    for before, after in zip(times, times[1:]):
        if after >= begin_at and before <= end_at:
            longest = max(longest, after - max(before, begin_at))
    return longest
