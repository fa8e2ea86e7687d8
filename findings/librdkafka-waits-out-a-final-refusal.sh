#!/usr/bin/env bash
# Version: librdkafka 2.16.0, by confluent-kafka 2.16.1 from PyPI, November 2026.
#
# Guess: a broker that answers FindCoordinator of a transactional producer with an error that no waiting cures, such as
# UNSUPPORTED_VERSION (35) or INVALID_REQUEST (42), ends init_transactions with that error, as two authorization errors do.
#
# Behaviour: librdkafka asks again until the caller's timeout, and then says only that it timed out: the code, and the broker's
# text with it, are lost ("retry call to resume"). Of the codes tried only 31 and 53 end at once and show the broker's
# text. A broker without transactions has to say that it is a matter of authorization to be understood.
#
# Seen: the lines compared below; the broker is shared/stub.py.
set -euo pipefail
export PYTHONPATH="$(realpath "$(dirname "$0")")/shared" PYTHONDONTWRITEBYTECODE=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1
cat >"$folder/refuse.py" <<'PYTHON'
import struct, sys
from confluent_kafka import Producer, KafkaException
from stub import start, text

CODE = int(sys.argv[1])
# API keys with the versions that the stub offers; what transactions need is among them.
APIS = [(0, 3, 7), (1, 4, 11), (2, 1, 5), (3, 1, 4), (10, 1, 2), (18, 0, 0), (22, 0, 1), (24, 0, 1), (25, 0, 1), (26, 0, 1), (28, 0, 2)]
asked = []

def metadata(version, port):
    body = b"" if version < 3 else struct.pack(">i", 0)
    body += struct.pack(">i", 1) + struct.pack(">i", 1) + text(b"127.0.0.1") + struct.pack(">i", port) + text(None)
    return body + (text(b"cluster") if version >= 2 else b"") + struct.pack(">i", 1) + struct.pack(">i", 0)

def answer(api, version, port):
    if api == 3:
        return metadata(version, port)
    if api == 10:
        asked.append(version)
        body = struct.pack(">ih", 0, CODE) + text(b"transactions are not served here")
        return body + struct.pack(">i", -1) + text(b"") + struct.pack(">i", -1)

port = start(APIS, answer)
producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}", "transactional.id": "t", "log_level": 0})
try:
    producer.init_transactions(8)
    print(CODE, "no error")
except KafkaException as error:
    e = error.args[0]
    times = "asked again" if len(asked) > 1 else "asked once"
    said = "with the text" if "transactions are not served here" in e.str() else "without the text"
    print(CODE, e.name(), times, said)
PYTHON
for code in 31 35 42 53; do
    "$folder/venv/bin/python" "$folder/refuse.py" "$code"
done >"$folder/seen" 2>/dev/null
cat >"$folder/found" <<'FOUND'
31 CLUSTER_AUTHORIZATION_FAILED asked once with the text
35 _TIMED_OUT asked again without the text
42 _TIMED_OUT asked again without the text
53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED asked once with the text
FOUND
diff "$folder/found" "$folder/seen" || { echo "CHANGED" >&2; exit 1; }
echo "as found: only the two authorization errors end at once"
