#!/bin/sh
# Process 1 of a host that was just given its own namespaces: lays its writable root over the base tree, gives it its own
# /proc, /sys, /dev and /run, and becomes the host's own init. It refuses to go on after any failure.
# Arguments: name, base tree, folder of the host, rights it shall not have (as setpriv takes them).
set -eu
name=$1 lower=$2 dir=$3 rights=$4
root=$dir/root
hostname "$name"
mount -t overlay "lab-$name" -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"

# Settings of the one kernel that everybody shares are read-only here; those of the host's own network are not.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then
    mount --bind "$root/proc/sysrq-trigger" "$root/proc/sysrq-trigger"
    mount -o remount,bind,ro "$root/proc/sysrq-trigger"
fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"

mount -t tmpfs -o mode=755,size=16m,nosuid,nodev tmpfs "$root/run"
mkdir -p "$root/run/lock" "$root/run/sshd"
mount -t tmpfs -o mode=755,size=1m,nosuid tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
if [ -c /dev/net/tun ]; then # the switch makes its own interface with it
    mkdir "$root/dev/net"
    : >"$root/dev/net/tun"
    mount --bind /dev/net/tun "$root/dev/net/tun"
fi
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,size=16m,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "$root/dev/${stream#*:}"; done

cd "$root"
pivot_root . .
umount -l .
cd /
exec /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /usr/bin/setpriv --ambient-caps=-all --inh-caps=-all --bounding-set="$rights" /usr/sbin/init
