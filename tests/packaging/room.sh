#!/usr/bin/env bash
# Creates a room and runs a program in it: room.sh WORKSPACE PROGRAM... `cargo xtask package` calls it in new
# namespaces, so that nothing of the room stays.
set -euo pipefail
workspace=$1
shift

mount --make-rprivate /
ip link set lo up
room=$(mktemp --directory)
mount -t tmpfs room "$room"
mkdir "$room/upper" "$room/work" "$room/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$room/root"
root=$room/root
mkdir --parents "$root$workspace"
mount --rbind "$workspace" "$root$workspace"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
exec chroot "$root" "$@"
