#!/bin/busybox sh
# Mounts the root file system that the kernel's command line names and starts
# its init. Nothing else is done here.
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc

while read -r module; do
    busybox insmod "$module"
done </etc/modules-order

disk=/dev/vda
mode=rw
init=/sbin/init
for word in $(busybox cat /proc/cmdline); do
    case $word in
        root=*) disk=${word#root=} ;;
        init=*) init=${word#init=} ;;
        ro | rw) mode=$word ;;
    esac
done

# The disk shows up a moment after its driver.
tries=0
until [ -b "$disk" ] || [ $tries = 100 ]; do
    busybox sleep 0.05
    tries=$((tries + 1))
done
if ! busybox mount -t ext4 -o "$mode" "$disk" /root; then
    echo "initrd: cannot mount $disk; virtio disks: $(echo /dev/vd*)"
    echo b >/proc/sysrq-trigger
fi

busybox umount /proc
busybox mount -o move /dev /root/dev
exec busybox switch_root /root "$init"
