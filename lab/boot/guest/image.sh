#!/bin/sh
# Makes the root disk of the lab's guest: the lab's Debian tree, further packages, a kernel's modules, as one ext4 file.
# Run in a mount namespace of its own, so that nothing it mounts is left. It refuses to go on after any failure.
# Arguments: base tree, folder with packages, unpacked kernel, work folder, image to write, units to enable, units to mask.
set -eu
base=$1 debs=$2 kernel=$3 work=$4 image=$5 enable=$6 mask=$7
mkdir -p "$work/upper" "$work/overlay" "$work/root"
mount -t overlay lab-guest -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/overlay" "$work/root"
root=$work/root

# No program of the new packages may start here: this is a folder, not yet a machine.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
mkdir -p "$root/var/cache/apt/archives"
rm -f "$root"/var/cache/apt/archives/*.deb
cp "$debs"/*.deb "$root/var/cache/apt/archives/"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
    sh -c 'dpkg --force-confold --install /var/cache/apt/archives/*.deb'
rm -f "$root"/var/cache/apt/archives/*.deb "$root/usr/sbin/policy-rc.d"

cp -a "$kernel"/lib/modules/. "$root/usr/lib/modules/" 2>/dev/null || {
    mkdir -p "$root/usr/lib/modules"
    cp -a "$kernel"/lib/modules/. "$root/usr/lib/modules/"
}
chroot "$root" depmod "$(ls "$root/usr/lib/modules")"

# Without this each SSH login starts a manager of services for its account, and each logout ends it: seconds, emulated.
chroot "$root" pam-auth-update --package --remove systemd

chroot "$root" systemctl --quiet enable $enable
chroot "$root" systemctl --quiet mask $mask
printf '/dev/vda / ext4 defaults,noatime 0 0\n' >"$root/etc/fstab"
umount "$root/proc"

truncate -s 2G "$image"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1,root_owner=0:0 -d "$root" "$image"
