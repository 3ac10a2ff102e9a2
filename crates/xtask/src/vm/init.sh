#!/bin/sh
# The first program of the guest: prepares it, runs the command and tells how it ended.
# Files in /etc/vm say what: `command` (a script; none for a prompt), `hugepages` (their number).
export PATH=/usr/bin:/usr/sbin:/usr/libexec/busybox HOME=/ LC_ALL=C
# As everywhere else: DPDK loads nothing from below a folder that all may write to.
chmod 755 /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/hugepages /run /tmp /var/run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
cat /etc/vm/hugepages >/proc/sys/vm/nr_hugepages
mount -t hugetlbfs hugetlbfs /dev/hugepages
hostname guest
ip link set lo up

for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name"
    ln -s "/dev/${port##*/}" "/run/port-$name"
done
# All that the kernel says, without waiting for the slow serial line.
cat /dev/kmsg >/run/port-log &

for module in $(cat /etc/vm/modules); do
    modprobe "$module" || echo "init: $module cannot be loaded" >/run/port-stderr
done
read -r up _ </proc/uptime
echo "ready $up" >/run/port-control

if [ -e /etc/vm/command ]; then
    sh /etc/vm/command </dev/null >/run/port-stdout 2>/run/port-stderr
    code=$?
else
    cd /
    cat /etc/vm/welcome >/dev/hvc0
    setsid -c bash </dev/hvc0 >/dev/hvc0 2>&1
    code=$?
fi
# What the kernel said last, and that it is done.
sync
echo "exit $code" >/run/port-control
poweroff -f
# Nothing may follow the end of the first program.
sleep 1000
