#!/usr/bin/env bash
# Version: librdkafka 2.16.0, by confluent-kafka 2.16.1 from PyPI, November 2026.
#
# Guess: an idempotent producer whose InitProducerId is answered with a retriable error asks again after retry.backoff.ms,
# doubling up to retry.backoff.max.ms, as its other requests do.
#
# Behaviour: it asks every 500 ms, whatever the two settings say. A backoff of 20 ms does not make it faster, and one of 2 s
# does not spare the broker. A producer without an id sends no record, so against a broker that is there for less than half a
# second at a time it may stay silent for good, while producers without idempotence get through.
#
# Seen: the lines compared below (retry.backoff.ms, the error code, the median gap in tenths of a second); the broker is
# shared/stub.py.
set -euo pipefail
export PYTHONPATH="$(realpath "$(dirname "$0")")/shared" PYTHONDONTWRITEBYTECODE=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1
cat >"$folder/ask.py" <<'PYTHON'
import os, statistics, struct, sys, time
from confluent_kafka import Producer
from stub import start, text

BACKOFF, CODE = int(sys.argv[1]), int(sys.argv[2])
# API keys with the versions that the stub offers.
APIS = [(0, 3, 7), (1, 4, 11), (2, 1, 5), (3, 1, 1), (10, 1, 2), (18, 0, 0), (22, 0, 1)]
asked = []

def metadata(port):
    brokers = struct.pack(">ii", 1, 1) + text(b"127.0.0.1") + struct.pack(">i", port) + text(None)
    partition = struct.pack(">hiiiiii", 0, 0, 1, 1, 1, 1, 1)
    topic = struct.pack(">h", 0) + text(b"topic") + b"\0" + struct.pack(">i", 1) + partition
    return brokers + struct.pack(">ii", 1, 1) + topic

def answer(api, version, port):
    if api == 3:
        return metadata(port)
    if api == 22:
        asked.append(time.monotonic())
        return struct.pack(">ihqh", 0, CODE, -1, -1)

port = start(APIS, answer)
producer = Producer({
    "bootstrap.servers": f"127.0.0.1:{port}",
    "enable.idempotence": True,
    "retry.backoff.ms": BACKOFF,
    "retry.backoff.max.ms": max(BACKOFF, 1000),
    "log_level": 0,
})
producer.produce("topic", b"value")
deadline = time.monotonic() + 60
while len(asked) < 8 and time.monotonic() < deadline:
    producer.poll(0.1)
gaps = [later - earlier for earlier, later in zip(asked, asked[1:])]
print(BACKOFF, CODE, round(statistics.median(gaps) * 10), flush=True)
os._exit(0)
PYTHON
# COORDINATOR_LOAD_IN_PROGRESS, REQUEST_TIMED_OUT
for code in 14 7; do
    for backoff in 20 100 2000; do
        "$folder/venv/bin/python" "$folder/ask.py" "$backoff" "$code"
    done
done >"$folder/seen"
cat >"$folder/found" <<'FOUND'
20 14 5
100 14 5
2000 14 5
20 7 5
100 7 5
2000 7 5
FOUND
diff "$folder/found" "$folder/seen" || { echo "CHANGED" >&2; exit 1; }
echo "as found: every half second, whatever retry.backoff.ms says"
