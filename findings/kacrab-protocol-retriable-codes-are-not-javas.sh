#!/usr/bin/env bash
# Versions: the crate kacrab-protocol 0.4.0 (Rust) and org.apache.kafka:kafka-clients 4.3.1 (Java), November 2026.
#
# Guess: the crate's `ErrorCode::is_retriable` is what its documentation says, the Java client's classification: a code is
# retriable where Java's exception for it is a RetriableException.
#
# Behaviour: 16 codes of 134 differ, in both directions. The crate calls final seven that Java tries again, among them
# KAFKA_STORAGE_ERROR and the two about leader epochs, which a client meets in every failover; it calls retriable nine that
# Java does not try again as they are, such as FENCED_MEMBER_EPOCH.
#
# Seen: the list below.
set -euo pipefail
. "$(dirname "$0")/shared/kafka.bash"

mkdir -p "$folder/rust/src" "$folder/java"
cat >"$folder/rust/Cargo.toml" <<'TOML'
[package]
name = "retriable"
version = "0.0.0"
edition = "2024"
[dependencies]
kacrab-protocol = "=0.4.0"
TOML
cat >"$folder/rust/src/main.rs" <<'RUST'
use kacrab_protocol::generated::ErrorCode;
fn main() {
    for code in -1..=133_i16 {
        println!("{code} {}", ErrorCode::from(code).is_retriable());
    }
}
RUST
(cd "$folder/rust" && cargo run --quiet) >"$folder/of-crate" 2>"$folder/cargo" || { cat "$folder/cargo"; exit 1; }

install 4.3.1
cat >"$folder/java/Retriable.java" <<'JAVA'
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;
class Retriable {
    public static void main(String[] arguments) {
        for (short code = -1; code <= 133; code++) {
            Errors error = Errors.forCode(code);
            boolean known = error.code() == code;
            System.out.println(code + " " + (known && error.exception() instanceof RetriableException) + " " + error);
        }
    }
}
JAVA
java -cp "$folder/kafka-4.3.1/libs/*" "$folder/java/Retriable.java" >"$folder/of-java" 2>/dev/null

join <(sort "$folder/of-crate") <(sort "$folder/of-java") | awk '$2 != $3 { print $1, $4, "crate", $2, "java", $3 }' |
    sort -n >"$folder/differ"
cat "$folder/differ"
cat >"$folder/found" <<'FOUND'
11 STALE_CONTROLLER_EPOCH crate true java false
27 REBALANCE_IN_PROGRESS crate true java false
51 CONCURRENT_TRANSACTIONS crate false java true
56 KAFKA_STORAGE_ERROR crate false java true
72 LISTENER_NOT_FOUND crate false java true
74 FENCED_LEADER_EPOCH crate false java true
75 UNKNOWN_LEADER_EPOCH crate false java true
85 NO_REASSIGNMENT_IN_PROGRESS crate true java false
103 INCONSISTENT_TOPIC_ID crate false java true
108 NEW_LEADER_ELECTED crate true java false
109 OFFSET_MOVED_TO_TIERED_STORAGE crate true java false
110 FENCED_MEMBER_EPOCH crate true java false
111 UNRELEASED_INSTANCE_ID crate true java false
113 STALE_MEMBER_EPOCH crate true java false
129 REBOOTSTRAP_REQUIRED crate true java false
133 SHARE_SESSION_LIMIT_REACHED crate false java true
FOUND
diff "$folder/found" "$folder/differ" || { echo "CHANGED" >&2; exit 1; }
echo "as found: these 16"
