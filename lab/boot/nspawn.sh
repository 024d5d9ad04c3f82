#!/bin/sh
# A host with a real systemd: mounts its root in a mount namespace of its own, so that nothing is left when it ends, and
# boots it with systemd-nspawn in the cgroups named last. It refuses to go on after any failure.
# Arguments: name, base tree, folder of the host, its network namespace, cgroup folders.
set -eu
name=$1 lower=$2 dir=$3 netns=$4
shift 4
for group in "$@"; do echo $$ >"$group/cgroup.procs"; done
mount -t overlay "lab-$name" -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
# systemd-nspawn keeps notes below /run; it gets a /run of its own, so that none of them stays on this machine.
: >"$dir/netns"
mount --bind "$netns" "$dir/netns"
mount -t tmpfs -o mode=755,size=4m,nosuid,nodev tmpfs /run
# The settings of its own network are its own, as in the other hosts.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --directory="$dir/root" --machine="$name" --register=no --keep-unit \
    --network-namespace-path="$dir/netns" --resolv-conf=off --timezone=off --link-journal=no \
    --capability=CAP_NET_ADMIN --console=passive --boot
