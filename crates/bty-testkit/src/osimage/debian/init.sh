#!/bin/busybox sh
# Mounts the file system on the partition that the command line names (root=PARTLABEL=...) and goes on there.
# Far smaller and quicker than a general initramfs: it looks first at what the kernel has drivers for (NVMe), then loads one
# family of drivers after the other until the partition is there.
PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev

read -r line < /proc/cmdline
for word in $line; do
    case $word in root=PARTLABEL=*) label=${word#root=PARTLABEL=} ;; esac
done

find_root() {
    for entry in /sys/class/block/*/uevent; do
        [ -e "$entry" ] || continue
        while read -r line; do
            if [ "$line" = "PARTNAME=$label" ]; then
                entry=${entry%/uevent}
                root=/dev/${entry##*/}
                return 0
            fi
        done < "$entry"
    done
    return 1
}

wait_for_root() {
    looks=$1
    while ! find_root; do
        looks=$((looks - 1))
        [ $looks -gt 0 ] || return 1
        busybox usleep 50000
    done
}

load() {
    for module; do busybox insmod "/modules/$module.ko"; done
}

nvme_looks=1
[ -d /sys/class/nvme/nvme0 ] && nvme_looks=20
wait_for_root $nvme_looks ||
    { load virtio_blk; wait_for_root 4; } ||
    { load scsi_common scsi_mod sd_mod virtio_scsi; wait_for_root 10; } ||
    { load libata libahci ahci; wait_for_root 100; } ||
    echo "bty-lab: no partition is called $label"
busybox mount -t ext4 -o rw,noatime "$root" /root || exec busybox sh
for folder in dev proc sys; do busybox mount --move /$folder /root/$folder; done
exec busybox switch_root /root /sbin/init
