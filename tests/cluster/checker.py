"""What a cluster did wrong, from what its clients were told and what its partitions have at the end.

The definitions:
- lost: acknowledged, or read by a consumer, and not there.
- doubled: there more than once, from an idempotent producer.
- reordered: records of one producer and key that are not in the order of sending.
- misplaced: acknowledged at an offset that has another record.
- went back: a consumer got an offset at or below one that it had read in the same assignment.
- skipped: a consumer did not get a record between two that it got, or between its position and its first record.
- undelivered: a record below the committed offset of a group that no member got.
- uncommitted: a group was told a committed offset below one whose commit had been acknowledged before it asked.
- beyond: a committed offset above the end of the log.
"""

import bisect
import collections

Finding = collections.namedtuple("Finding", "kind text")


class Log:
    """What a fresh client reads from one partition: (offset, record) in the order in which it got them."""

    def __init__(self, partition, entries, end):
        self.partition = partition
        self.entries = entries
        self.end = end
        self.at = dict(entries)
        self.offsets = [offset for offset, _ in entries]

    def between(self, low, high):
        """The offsets with a record from `low` to before `high`."""
        return self.offsets[bisect.bisect_left(self.offsets, low) : bisect.bisect_left(self.offsets, high)]


def judge(ledger, logs, committed):
    """All findings. `logs` has a Log of each partition, `committed` the offset of each (group, partition) at the end."""
    logs = {log.partition: log for log in logs}
    findings = []
    for log in logs.values():
        findings += wrong_order(log)
    findings += wrong_acknowledgements(ledger, logs)
    for (reader, partition), reading in sorted(ledger.readings.items()):
        findings += wrong_reads(reader, logs[partition], reading)
    findings += undelivered(ledger, logs, committed)
    findings += wrong_commits(ledger, logs, committed)
    return findings


def show(record):
    producer, key, sequence = record
    return f"{producer} key {key} number {sequence}"


def wrong_order(log):
    """doubled and reordered"""
    last, seen, before = {}, {}, -1
    for offset, record in log.entries:
        place = f"partition {log.partition} offset {offset}"
        if offset <= before:
            yield Finding("went back", f"{place} was read after {before} by the check itself")
        before = offset
        producer, key, sequence = record
        if record in seen:
            yield Finding("doubled", f"{place}: {show(record)} is at {seen[record]} too")
        elif sequence < last.get((producer, key), 0):
            yield Finding("reordered", f"{place}: {show(record)} is after number {last[producer, key]}")
        seen.setdefault(record, offset)
        last[producer, key] = max(sequence, last.get((producer, key), 0))


def wrong_acknowledgements(ledger, logs):
    """lost and misplaced"""
    there = {partition: {record for _, record in log.entries} for partition, log in logs.items()}
    for time, partition, offset, record in ledger.acked:
        told = f"partition {partition} offset {offset}: {show(record)} was acknowledged at {time}"
        if record not in there[partition]:
            instead = logs[partition].at.get(offset)
            yield Finding("lost", f"{told}; there is {show(instead) if instead else 'nothing'}")
        elif offset >= 0 and logs[partition].at.get(offset) != record:
            yield Finding("misplaced", f"{told}, and is elsewhere")


def wrong_reads(reader, log, reading):
    """lost, went back and skipped"""
    following = None  # the offset after the last one that was read
    for offset, record in reading:
        if record is None:
            following = offset
            continue
        place = f"{reader}, partition {log.partition} offset {offset}"
        if log.at.get(offset) != record:
            instead = log.at.get(offset)
            yield Finding("lost", f"{place}: read {show(record)}; there is {show(instead) if instead else 'nothing'}")
        if following is None:
            yield Finding("went back", f"{place}: read without an assignment")
        elif offset < following:
            yield Finding("went back", f"{place}: {following - 1} was read before")
        else:
            left_out = log.between(following, offset)
            if left_out:
                yield Finding("skipped", f"{place}: {len(left_out)} records from {left_out[0]} on were not read")
        following = offset + 1


def undelivered(ledger, logs, committed):
    got = collections.defaultdict(set)
    for (reader, partition), reading in ledger.readings.items():
        group = reader.split("/")[0]
        got[group, partition].update(offset for offset, record in reading if record is not None)
    for (group, partition), end in sorted(committed.items()):
        missing = [offset for offset in logs[partition].between(0, end) if offset not in got[group, partition]]
        if missing:
            text = f"group {group}, partition {partition}: {len(missing)} records from {missing[0]} on are below the commit {end}"
            yield Finding("undelivered", text)


def wrong_commits(ledger, logs, committed):
    """uncommitted and beyond"""
    # At the same time the question comes first: it need not see the commit.
    events = [(time, 0, group, partition, offset) for time, group, partition, offset in ledger.committed]
    events += [(time, 1, group, partition, offset) for time, group, partition, offset in ledger.commits]
    at_end = [("the end", 0, group, partition, offset) for (group, partition), offset in committed.items()]
    highest = {}
    for time, is_commit, group, partition, offset in sorted(events) + at_end:
        place = f"group {group}, partition {partition}, {time}: offset {offset}"
        before = highest.get((group, partition), -1)
        if offset > logs[partition].end:
            yield Finding("beyond", f"{place} is committed, the log ends at {logs[partition].end}")
        if is_commit:
            highest[group, partition] = max(before, offset)
        elif offset < before:
            yield Finding("uncommitted", f"{place} is said to be committed, {before} was acknowledged")
