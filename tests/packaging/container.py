"""Runs the last stage of the Dockerfile on a copy of this machine, and then its entry point."""

import os
import pathlib
import shutil
import subprocess

from broker import Process, RECORDS, advertised, claim, forward, round_trip, told

# The ports outside and inside differ, so that a client with the wrong advertised address fails.
PUBLISHED = 19092

image = told()
workspace = pathlib.Path(__file__).resolve().parents[2]
for command in image["commands"]:
    subprocess.run(["sh", "-c", command], check=True)
for source, target in image["copies"]:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(workspace / source, target)

bootstrap = f"127.0.0.1:{PUBLISHED}"
environment = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    **image["environment"],
    "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{bootstrap}",
}


def start():
    return Process(image["entry_point"], environment, image["user"], image["group"], "/")


def is_healthy():
    return (
        subprocess.run(
            image["health"], env=environment, user=image["user"], stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )


claim("health_fails_before_the_start", not is_healthy(), "it passed")
broker = start()
said = broker.said()
claim("the_entry_point_serves", said == "READY=1", said)
claim("health_passes", is_healthy(), "it failed")
forward(PUBLISHED, 9092)
addresses = advertised(bootstrap)
claim("clients_are_told_the_advertised_address", addresses == [bootstrap], addresses)
count = round_trip(bootstrap, "image")
claim("a_stock_client_uses_it", count == RECORDS, f"{count} of {RECORDS} records came back")
owner = os.stat(image["volumes"][0]).st_uid
held = os.listdir(image["volumes"][0])
claim("data_is_in_the_volume", "image-0" in held and owner == image["user"], f"{held} of {owner}")
status = broker.end(image["stop_signal"])
claim("the_stop_signal_ends_it_in_order", status == 0, f"exit status {status}")
environment["KAFKA_ADVERTISED_LISTENER"] = "PLAINTEXT://localhost:9092"
refused = subprocess.run(image["entry_point"], env=environment, stderr=subprocess.PIPE, text=True)
claim(
    "a_misspelt_variable_is_refused",
    refused.returncode == 1 and "did you mean advertised.listeners?" in refused.stderr,
    refused.stderr,
)
print("done", flush=True)
