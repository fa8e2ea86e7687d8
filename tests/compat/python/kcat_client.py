"""Debian's kcat, which has an old librdkafka, run from the command line."""

import json
import subprocess
import sys

from claims import BOOTSTRAP, CODECS, DEADLINE_SECONDS, PREFIX, claim, expect, run


def kcat(*arguments, lines=None):
    """Runs kcat to its end and returns what it printed."""
    done = subprocess.run(
        ["kcat", "-b", BOOTSTRAP, *arguments],
        input=lines,
        stdin=subprocess.DEVNULL if lines is None else None,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    expect(done.returncode == 0, f"kcat {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def messages(topic, *arguments):
    """Every record of a topic, as kcat writes it in JSON."""
    output = kcat("-C", "-t", topic, "-e", "-q", "-J", *arguments)
    return [json.loads(line) for line in output.splitlines()]


@claim
def metadata_lists_the_broker():
    metadata = json.loads(kcat("-L", "-J"))
    expect([broker["name"] for broker in metadata["brokers"]] == [BOOTSTRAP], f"brokers {metadata['brokers']}")


@claim
def every_codec_comes_back_as_it_was_sent():
    """What kcat sends without compression, for want of an old enough Produce version, the dump of the log shows."""
    for codec in CODECS:
        topic = f"{PREFIX}-codec-{codec}"
        lines = "".join(f"key-{index}:value-{index}-{'x' * 200}\n" for index in range(30))
        kcat("-P", "-t", topic, "-K:", "-z", codec, "-H", "one=1", "-H", "two=2", "-X", "linger.ms=100", lines=lines)
        found = messages(topic)
        expect([f"{entry['key']}:{entry['payload']}" for entry in found] == lines.splitlines(), f"{codec}: {len(found)}")
        expect(found[0]["headers"] == ["one", "1", "two", "2"], f"headers {found[0]['headers']}")


@claim
def null_key_and_null_value_stay_null():
    topic = f"{PREFIX}-null"
    kcat("-P", "-t", topic, "-K:", "-Z", lines=":value\nkey:\n")
    found = [(entry["key"], entry["payload"]) for entry in messages(topic)]
    expect(sorted(found, key=str) == [("key", None), (None, "value")], f"records {found}")


@claim
def idempotent_producer_and_acks():
    topic = f"{PREFIX}-acks"
    for settings in ("acks=all", "acks=1", "enable.idempotence=true"):
        kcat("-P", "-t", topic, "-X", settings, lines="one\ntwo\n")
    expect(len(messages(topic)) == 6, "not six records")


@claim
def consuming_from_an_offset_a_time_and_the_end():
    topic = f"{PREFIX}-codec-none"
    found = messages(topic)
    partition = str(found[0]["partition"])
    expect(messages(topic, "-p", partition, "-o", "5")[0]["offset"] == 5, "from offset 5")
    expect(len(messages(topic, "-p", partition, "-o", "-3")) == 3, "the last three")
    expect(len(messages(topic, "-p", partition, "-o", f"s@{found[0]['ts']}")) == 30, "from a time")
    asked = kcat("-Q", "-t", f"{topic}:{partition}:-1")
    expect(asked.strip().endswith("offset 30"), f"the end is {asked}")


@claim
def group_consumes_and_commits():
    topic = f"{PREFIX}-codec-lz4"
    group = ["-G", f"{PREFIX}-group", "-q", "-e", "-X", "auto.offset.reset=earliest"]
    expect(len(kcat(*group, topic).splitlines()) == 30, "the first run reads everything")
    expect(kcat(*group, topic) == "", "the second run resumes at the end")


run(sys.modules[__name__])
