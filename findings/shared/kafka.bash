# Apache Kafka of any release, in a temporary folder. Sourced by findings; needs Java 17, Maven and Python 3.
# After `set -euo pipefail`: `folder` is the temporary folder, `install VERSION`, `run VERSION CLASS ARGUMENTS…`,
# `server VERSION CONFIG LOG` starts a broker and sets `broker`, `stop` ends it.

folder=$(mktemp -d)
broker=
trap 'stop; rm -rf "$folder"' EXIT

install() {
    local version=$1 target="$folder/kafka-$1"
    mkdir -p "$target"
    cat >"$target/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion><groupId>findings</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
POM
    (cd "$target" && mvn --quiet --batch-mode dependency:copy-dependencies "-DoutputDirectory=$target/libs" >/dev/null)
}

run() { (launch "$@"); }

# Becomes the JVM, so that its process id is the one of the subshell.
launch() {
    local version=$1
    shift
    exec java -XX:TieredStopAtLevel=1 -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -cp "$folder/kafka-$version/libs/*" "$@"
}

server() {
    launch "$1" kafka.Kafka "$2" >"$3" 2>&1 &
    broker=$!
}

stop() {
    [ -n "$broker" ] || return 0
    kill "$broker" 2>/dev/null || true
    wait "$broker" 2>/dev/null || true
    broker=
}

# Waits until the broker of the config answers a command; fails when its process ends.
await() {
    local version=$1 address=$2
    for _ in $(seq 60); do
        kill -0 "$broker" 2>/dev/null || return 1
        if run "$version" org.apache.kafka.tools.BrokerApiVersionsCommand --bootstrap-server "$address" >/dev/null 2>&1; then
            return 0
        fi
    done
    return 1
}

# A config for one node, with ports that were free a moment ago: config FILE DATA; sets `address`.
config() {
    local ports
    ports=$(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))')
    read -r client controller <<<"$ports"
    address=127.0.0.1:$client
    cat >"$1" <<CONFIG
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://$address,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller
log.dirs=$2
offsets.topic.replication.factor=1
CONFIG
}

# expect TEXT FILE: the output is as it was when this was found.
expect() {
    if ! grep -qF -- "$1" "$2"; then
        echo "CHANGED: expected \"$1\", got:" >&2
        cat "$2" >&2
        exit 1
    fi
    echo "as found: $1"
}
