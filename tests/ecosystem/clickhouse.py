"""ClickHouse, as chdb, reads `clicks` by its Kafka engine into a table, and writes that to `clicked`.

Arguments: bootstrap, a directory for its data, how many records there are.

The embedded ClickHouse has no threads that read a topic in the background (`background_message_broker_schedule_pool_size`
is 0). Creating a table of the Kafka engine fails with "Shutdown was called", although the table exists and works. So queries
move the records: each query reads what the group has not read yet, and commits it.
"""

import sys
import time

import chdb

BOOTSTRAP, DIRECTORY, COUNT = sys.argv[1:4]
SECONDS = 180

connection = chdb.connect(f"{DIRECTORY}/clickhouse")


def query(text):
    return connection.query(text, "CSV").data().strip()


def create(table, topic):
    try:
        query(
            f"CREATE TABLE o.{table} (value String) ENGINE = Kafka SETTINGS kafka_broker_list = '{BOOTSTRAP}', "
            f"kafka_topic_list = '{topic}', kafka_group_name = 'clickhouse', kafka_format = 'RawBLOB', "
            f"kafka_commit_on_select = 1"
        )
    except Exception as error:  # noqa: BLE001 - chdb has one class for all
        if "Shutdown was called" not in str(error):
            raise


query("CREATE DATABASE IF NOT EXISTS o ENGINE = Atomic")
query("CREATE TABLE o.kept (value String) ENGINE = MergeTree ORDER BY value")
create("incoming", "clicks")
create("outgoing", "clicked")
end = time.monotonic() + SECONDS
while (found := query("SELECT count(), uniqExact(value) FROM o.kept")) != f"{COUNT},{COUNT}":
    if time.monotonic() > end:
        sys.exit(f"the table holds {found} (records, different ones)")
    query("INSERT INTO o.kept SELECT value FROM o.incoming SETTINGS stream_like_engine_allow_direct_select = 1")
query("INSERT INTO o.outgoing SELECT value FROM o.kept")
connection.close()
print("done")
