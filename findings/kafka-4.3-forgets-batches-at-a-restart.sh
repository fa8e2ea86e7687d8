#!/usr/bin/env bash
# Version: Apache Kafka 4.3.1, November 2026.
#
# Guess: an idempotent producer may have five batches in flight, and the broker recognizes a retry of each of them. A restart
# of the broker changes nothing about that: the batches are in the log.
#
# Behaviour: after a restart, clean or by kill -9, only a retry of the producer's last batch is recognized. A retry of the
# batch before is refused with OUT_OF_ORDER_SEQUENCE_NUMBER (45), although the batch is in the log and was recognized before:
# an error that ends a producer of librdkafka. The snapshot of producers has the last batch of each, and recovery after
# kill -9 goes by way of such a snapshot too.
#
# Seen: below, by `expect`.
set -euo pipefail
. "$(dirname "$0")/shared/kafka.bash"

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check crc32c==2.8
install 4.3.1
cat >"$folder/send.py" <<'PYTHON'
# send.py ADDRESS TOPIC SEQUENCE…: sends a batch of one record for each sequence number, one after the other.
import socket, struct, sys, time
import crc32c

def batch(sequence):
    record = bytes([0, 0, 0, 1, 2]) + b"x\0"
    now = int(time.time() * 1000)
    rest = struct.pack(">hiqqqhii", 0, 0, now, now, 4000, 0, sequence, 1) + bytes([len(record) * 2]) + record
    return struct.pack(">qiib", 0, 9 + len(rest), -1, 2) + struct.pack(">I", crc32c.crc32c(rest)) + rest

host, port = sys.argv[1].rsplit(":", 1)
name = sys.argv[2].encode()
topic = struct.pack(">h", len(name)) + name
with socket.create_connection((host, int(port)), 30) as connection:
    stream = connection.makefile("rb")
    for sequence in map(int, sys.argv[3:]):
        records = batch(sequence)
        # Produce, version 7: no transactional id, acks=all, 10 s, one topic, partition 0.
        body = struct.pack(">hhii", -1, -1, 10000, 1) + topic + struct.pack(">iii", 1, 0, len(records)) + records
        message = struct.pack(">hhih", 0, 7, 1, 1) + b"x" + body
        connection.sendall(struct.pack(">i", len(message)) + message)
        answer = stream.read(struct.unpack(">i", stream.read(4))[0])
        _, error, offset = struct.unpack_from(">ihq", answer, 4 + 4 + 2 + len(name) + 4)
        print(f"sequence {sequence}: error {error}, offset {offset}")
PYTHON
send() { "$folder/venv/bin/python" "$folder/send.py" "$address" "$@" | tee "$folder/answer"; }

# Starts a broker, has three batches of a producer appended, and ends the broker: appended NAME SIGNAL.
appended() {
    config "$folder/$1.properties" "$folder/data-$1"
    run 4.3.1 kafka.tools.StorageTool format --standalone --cluster-id 4L6g3nShT-eMCtK--X86sw \
        --config "$folder/$1.properties" >"$folder/format" 2>&1
    again "$1"
    run 4.3.1 org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic "$1" --partitions 1 \
        >"$folder/create" 2>&1
    send "$1" 0 1 2 1
    # The retry of the batch before the last one is recognized: it has its offset, and there is no second copy.
    expect 'sequence 1: error 0, offset 1' "$folder/answer"
    expect 'sequence 2: error 0, offset 2' "$folder/answer"
    kill "-$2" "$broker"
    wait "$broker" 2>/dev/null || true
    again "$1"
}

again() {
    server 4.3.1 "$folder/$1.properties" "$folder/log-$1"
    await 4.3.1 "$address" || { cat "$folder/log-$1"; exit 1; }
}

for end in TERM KILL; do
    appended "after-$end" "$end"
    send "after-$end" 1 2
    expect 'sequence 1: error 45, offset -1' "$folder/answer"
    expect 'sequence 2: error 0, offset 2' "$folder/answer"
    stop
done
