#!/bin/busybox sh
# First program of the guest, in the initramfs: mounts the host's root (read-only, 9p) under a tmpfs
# overlay, so that the guest sees every file of the host and what it writes is gone afterwards.
B=/bin/busybox
die() { echo "init.sh: $*"; $B poweroff -f; }
$B mount -t devtmpfs dev /dev
exec > /dev/console 2>&1
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
for module in /modules/*.ko; do $B insmod $module; done
$B mount -t tmpfs -o size=75% tmpfs /rw
$B mkdir /rw/upper /rw/work
# cache=loose: the host's files are taken not to change during the run
$B mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any root /lower \
  || die "cannot mount the host's root"
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new || die "no overlay"
$B mount -t tmpfs -o mode=755 tmpfs /new/run
$B mkdir -p /new/run/vm /new/run/lock
$B cp /bin/busybox /stage2.sh /new/run/vm/
for folder in dev proc sys; do $B mount -o move /$folder /new/$folder; done
exec $B switch_root /new /run/vm/busybox sh /run/vm/stage2.sh
