#!/usr/bin/env bash
# Versions: chdb 4.4.0 with chdb-core 26.9.0 (ClickHouse 26.9.2.1 in a Python process), November 2026.
#
# Guess: `CREATE TABLE … ENGINE = Kafka` either makes the table or raises; code that catches the error may try again.
#
# Behaviour: the statement raises a LOGICAL_ERROR, "Shutdown was called", and the table is there afterwards, so that trying
# again raises another error, that it exists. No broker is involved: the address below is closed.
#
# Seen: the lines compared below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check chdb==4.4.0 chdb-core==26.9.0
cat >"$folder/table.py" <<'PYTHON'
from chdb.session import Session

session = Session()
create = """CREATE TABLE k (v String) ENGINE = Kafka SETTINGS kafka_broker_list = '127.0.0.1:1',
    kafka_topic_list = 't', kafka_group_name = 'g', kafka_format = 'RawBLOB'"""
for attempt in 1, 2:
    try:
        session.query(create)
        print(attempt, "no error")
    except Exception as error:
        for name in "LOGICAL_ERROR", "TABLE_ALREADY_EXISTS":
            if name in str(error):
                print(attempt, name)
    print(attempt, str(session.query("SELECT name, engine FROM system.tables WHERE name = 'k'")).strip())
PYTHON
(cd "$folder" && "$folder/venv/bin/python" table.py) >"$folder/seen" 2>"$folder/errors"
cat >"$folder/found" <<'FOUND'
1 LOGICAL_ERROR
1 "k","Kafka"
2 TABLE_ALREADY_EXISTS
2 "k","Kafka"
FOUND
diff "$folder/found" "$folder/seen" || { echo "CHANGED" >&2; cat "$folder/errors" >&2; exit 1; }
echo "as found: an error, and the table"
