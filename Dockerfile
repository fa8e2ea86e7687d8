# A container image of Ottla: docker build --tag ottla .
# How to run it and what to set: docs/running.md. `cargo xtask package` checks this file and runs its entry point.

FROM rust:1.95-slim-trixie AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package ottla-cli

FROM debian:trixie-slim
RUN groupadd --gid 10001 ottla \
    && useradd --uid 10001 --gid ottla --no-create-home --home-dir /var/lib/ottla --shell /usr/sbin/nologin ottla \
    && install --directory --owner ottla --group ottla --mode 0750 /var/lib/ottla
COPY --from=build /source/target/release/ottla /usr/bin/ottla
COPY LICENSE /usr/share/doc/ottla/copyright

# Any key of docs/config.md can be set like this: KAFKA_ and the key in capitals, with underscores for dots.
# KAFKA_ADVERTISED_LISTENERS has no default: only you know the address by which clients reach the container.
ENV KAFKA_LISTENERS=PLAINTEXT://0.0.0.0:9092 \
    KAFKA_LOG_DIRS=/var/lib/ottla \
    KAFKA_OTTLA_HTTP_LISTEN=0.0.0.0:9464

# As a number, so that Kubernetes can see that it is not root.
USER 10001:10001
VOLUME ["/var/lib/ottla"]
EXPOSE 9092 9464
STOPSIGNAL SIGTERM

# The image has no HTTP client, so bash opens the connection.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>\"/dev/tcp/127.0.0.1/${KAFKA_OTTLA_HTTP_LISTEN##*:}\" && printf 'GET /ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]

ENTRYPOINT ["ottla", "serve", "--environment"]
