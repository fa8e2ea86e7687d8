#!/usr/bin/env bash
# Version: Apache Kafka 4.3.1, November 2026.
#
# Guess: a Produce request that names one partition twice, with a batch each, appends both, or is refused; what is
# acknowledged is in the log. The protocol has a list of partitions and no rule that each stands there once.
#
# Behaviour: with acks=all the answer has one entry for the partition, without an error, and the log has one record: the
# second batch. The first is dropped without a word, so an implementation that groups its batches carelessly loses half of
# what Kafka acknowledged.
#
# Seen: below, by `expect`.
set -euo pipefail
. "$(dirname "$0")/shared/kafka.bash"

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check crc32c==2.8
install 4.3.1
config "$folder/server.properties" "$folder/data"
run 4.3.1 kafka.tools.StorageTool format --standalone --cluster-id 4L6g3nShT-eMCtK--X86sw \
    --config "$folder/server.properties" >"$folder/format" 2>&1
server 4.3.1 "$folder/server.properties" "$folder/log"
await 4.3.1 "$address" || { cat "$folder"/log*; exit 1; }
run 4.3.1 org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic twice --partitions 1 \
    >"$folder/create" 2>&1

cat >"$folder/twice.py" <<'PYTHON'
import socket, struct, sys
import crc32c

def batch(value):
    record = bytes([0, 0, 0, 1, len(value) * 2]) + value + b"\0"
    rest = struct.pack(">hiqqqhii", 0, 0, 1000, 1000, -1, -1, -1, 1) + bytes([len(record) * 2]) + record
    return struct.pack(">qiib", 0, 9 + len(rest), -1, 2) + struct.pack(">I", crc32c.crc32c(rest)) + rest

def entry(records):
    return struct.pack(">ii", 0, len(records)) + records

host, port = sys.argv[1].rsplit(":", 1)
topic = struct.pack(">h", 5) + b"twice"
# Produce, version 7: no transactional id, acks=all, 10 s, one topic with two entries for partition 0.
body = struct.pack(">hhii", -1, -1, 10000, 1) + topic + struct.pack(">i", 2) + entry(batch(b"first")) + entry(batch(b"second"))
message = struct.pack(">hhih", 0, 7, 1, 1) + b"x" + body
with socket.create_connection((host, int(port)), 30) as connection:
    connection.sendall(struct.pack(">i", len(message)) + message)
    stream = connection.makefile("rb")
    answer = stream.read(struct.unpack(">i", stream.read(4))[0])
at = 4 + 4 + 2 + 5
entries, partition, error, offset = struct.unpack_from(">iihq", answer, at)
print(f"entries {entries} partition {partition} error {error} base offset {offset}")
PYTHON
"$folder/venv/bin/python" "$folder/twice.py" "$address" >"$folder/answer"
expect 'entries 1 partition 0 error 0 base offset 0' "$folder/answer"
run 4.3.1 org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$address" --topic twice --from-beginning \
    --timeout-ms 8000 >"$folder/records" 2>"$folder/consumer" || true
expect 'second' "$folder/records"
if grep -q first "$folder/records"; then
    echo "CHANGED: the first batch is in the log" >&2
    exit 1
fi
echo "as found: the first batch is not in the log"
