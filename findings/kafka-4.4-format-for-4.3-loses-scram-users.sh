#!/usr/bin/env bash
# Versions: Apache Kafka 4.4.0 (kafka-storage) and 4.3.1 (server), November 2026.
#
# Guess: `kafka-storage format --release-version 4.3 --add-scram …` by 4.4.0 makes a directory for 4.3: it says
# "Formatting … with metadata.version 4.3-IV0", and 4.3.1 starts on it with what was asked for.
#
# Behaviour: 4.4.0 writes no bootstrap.checkpoint any more; the features and SCRAM users are records of the 0-0
# checkpoint, which 4.3.1 does not read for bootstrapping. 4.3.1 starts, healthy, without the user and with every
# feature but metadata.version and kraft.version at 0: no transactions v2, no new consumer groups. The one trace is a WARN
# of the controller: "from bootstrap source 'the default bootstrap'". The users must be created again, and on a
# cluster whose brokers authenticate by SCRAM this is impossible.
#
# Seen: below, by `expect`.
set -euo pipefail
. "$(dirname "$0")/shared/kafka.bash"

install 4.4.0
install 4.3.1
config "$folder/server.properties" "$folder/data"
run 4.4.0 kafka.tools.StorageTool format --standalone --cluster-id 4L6g3nShT-eMCtK--X86sw \
    --config "$folder/server.properties" --release-version 4.3 \
    --add-scram 'SCRAM-SHA-256=[name=alice,password=not-a-secret]' >"$folder/format" 2>&1
expect "name='alice'" "$folder/format"
expect 'metadata.version 4.3-IV0.' "$folder/format"

server 4.3.1 "$folder/server.properties" "$folder/log"
await 4.3.1 "$address" || { cat "$folder"/log*; exit 1; }
expect "from bootstrap source 'the default bootstrap'" "$folder/log"
run 4.3.1 kafka.admin.ConfigCommand --bootstrap-server "$address" --describe --entity-type users >"$folder/users" 2>&1
if grep -q alice "$folder/users"; then
    echo "CHANGED: the user is there" >&2
    exit 1
fi
echo "as found: no SCRAM user"
run 4.3.1 org.apache.kafka.tools.FeatureCommand --bootstrap-server "$address" describe 2>/dev/null |
    tr -s '\t ' ' ' >"$folder/features"
expect 'Feature: transaction.version SupportedMinVersion: 0 SupportedMaxVersion: 2 FinalizedVersionLevel: 0' "$folder/features"
expect 'Feature: group.version SupportedMinVersion: 0 SupportedMaxVersion: 1 FinalizedVersionLevel: 0' "$folder/features"
