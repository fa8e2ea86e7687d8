"""Installs the Debian package into a copy of this machine, runs its unit's command as systemd would, and removes it."""

import os
import pathlib
import pwd
import subprocess

import sandbox
from broker import Process, RECORDS, claim, consumed, round_trip, told

BOOTSTRAP = "127.0.0.1:9092"
CONFIGURATION = pathlib.Path("/etc/ottla/server.properties")

order = told()
environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def dpkg(*arguments):
    return subprocess.run(
        ["dpkg", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def unit():
    """The path of the installed unit, its keys, each with its last value, and its filters of system calls."""
    [path] = [
        path
        for directory in ("/lib/systemd/system", "/usr/lib/systemd/system")
        if (path := pathlib.Path(directory, "ottla.service")).exists()
    ][:1]
    lines = path.read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and line[0] != "#"]
    return path, dict(pairs), [value for key, value in pairs if key == "SystemCallFilter"]


installed = dpkg("--install", order["package"])
claim("the_package_installs", installed.returncode == 0, installed.stdout)
path, keys, filters = unit()
for name, arguments in (
    ("systemd_understands_the_unit", ["verify", path]),
    ("the_unit_is_sealed", ["security", "--offline=true", f"--threshold={order['exposure']}", path]),
):
    analysed = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last = analysed.stdout.strip().splitlines()[-1:]
    claim(name, analysed.returncode == 0, last)

user = pwd.getpwnam(keys["User"])
claim("the_service_is_not_root", user.pw_uid != 0 and user.pw_shell.endswith("nologin"), user)
data = pathlib.Path("/var/lib", keys["StateDirectory"])
data.mkdir(mode=int(keys["StateDirectoryMode"], 8))
os.chown(data, user.pw_uid, user.pw_gid)
impose = sandbox.imposer(sandbox.allowed(filters))
refused = subprocess.run(["chown", "0", data], preexec_fn=impose, stderr=subprocess.DEVNULL)
claim("the_filter_forbids_what_it_should", refused.returncode == 1, f"chown ended with {refused.returncode}")


def start():
    return Process(
        keys["ExecStart"].split(),
        {"PATH": "/usr/bin:/bin"},
        user.pw_uid,
        user.pw_gid,
        keys["WorkingDirectory"],
        impose,
    )


sandbox.seal(data)
broker = start()
said = broker.said()
claim("the_service_says_when_it_is_ready", said == "READY=1", said)
count = round_trip(BOOTSTRAP, "service")
claim("a_stock_client_uses_it", count == RECORDS, f"{count} of {RECORDS} records came back")
status = broker.end("SIGTERM")
said = broker.said()
claim("a_stop_is_said_and_in_order", (said, status) == ("STOPPING=1", 0), f"{said}, exit status {status}")

sandbox.unseal()
CONFIGURATION.write_text(CONFIGURATION.read_text() + "num.partitions=3\n")
again = dpkg("--install", "--force-confold", order["package"])
kept = "num.partitions=3" in CONFIGURATION.read_text()
claim("an_upgrade_keeps_the_configuration", again.returncode == 0 and kept, again.stdout)
os.unlink(broker.path)
broker = start()
broker.said()
count = consumed(BOOTSTRAP, "service")
claim("an_upgrade_keeps_the_data", count == RECORDS, f"{count} of {RECORDS} records came back")
broker.end("SIGTERM")

purged = dpkg("--purge", "ottla")
gone = not CONFIGURATION.exists() and not pathlib.Path("/usr/bin/ottla").exists()
claim("a_purge_removes_the_package", purged.returncode == 0 and gone, purged.stdout)
claim("a_purge_keeps_the_data", (data / "service-0").is_dir(), os.listdir(data))
print("done", flush=True)
