#!/usr/bin/env bash
# Versions: Apache Kafka 4.4.0 and 4.3.1, November 2026.
#
# Guess: a feature level that a release cannot read needs a metadata.version that this release cannot read either, so
# that a cluster which stays at metadata.version 4.3 can be rolled back from 4.4.0 to 4.3.1. That is what staying is for.
#
# Behaviour: share.version 2 (dead-letter queues, KIP-1191) has no such dependency. On a cluster at metadata.version
# 4.3-IV0 4.4.0's kafka-features raises it without a word, and 4.3.1 does not start on that log any more.
#
# Seen: below, by `expect`.
set -euo pipefail
. "$(dirname "$0")/shared/kafka.bash"

install 4.4.0
install 4.3.1
config "$folder/server.properties" "$folder/data"
# Formatted by 4.3.1, run by 4.3.1: the state before an upgrade.
run 4.3.1 kafka.tools.StorageTool format --standalone --cluster-id 4L6g3nShT-eMCtK--X86sw \
    --config "$folder/server.properties" >"$folder/format" 2>&1
server 4.3.1 "$folder/server.properties" "$folder/log-before"
await 4.3.1 "$address" || { cat "$folder"/log*; exit 1; }
stop

server 4.4.0 "$folder/server.properties" "$folder/log-upgraded"
await 4.4.0 "$address" || { cat "$folder"/log*; exit 1; }
run 4.4.0 org.apache.kafka.tools.FeatureCommand --bootstrap-server "$address" \
    upgrade --feature share.version=2 >"$folder/upgrade" 2>&1 || true
expect 'share.version was upgraded to 2.' "$folder/upgrade"
run 4.4.0 org.apache.kafka.tools.FeatureCommand --bootstrap-server "$address" describe 2>/dev/null |
    tr -s '\t ' ' ' >"$folder/features"
expect 'SupportedMaxVersion: 4.4-IV2 FinalizedVersionLevel: 4.3-IV0' "$folder/features"
stop

server 4.3.1 "$folder/server.properties" "$folder/log-back"
if await 4.3.1 "$address"; then
    echo "CHANGED: 4.3.1 starts" >&2
    exit 1
fi
expect "name='share.version', featureLevel=2), but this controller only supports versions 0-1" "$folder/log-back"
