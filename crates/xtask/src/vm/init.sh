#!/usr/bin/busybox ash
# The first program of the guest: prepares it, runs the command and tells how it ended.
# Files in /etc/vm say what: `command` (a script; none for a prompt), `first` and `modules` (those to load), `ports`.
# Busybox's shell runs its own tools without starting a program, which is what takes longest where a
# processor is imitated; the command finds all others before them.
export HOME=/ LC_ALL=C PATH=/usr/libexec/busybox:/usr/bin:/usr/sbin
# As everywhere else: DPDK loads nothing from below a folder that all may write to.
chmod 755 /
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/hugepages /run /tmp /var/run
# All in /etc/fstab.
mount -a
echo guest >/proc/sys/kernel/hostname
ifconfig lo up

read -r modules </etc/vm/first
# Word by word.
[ -z "$modules" ] || modprobe -a $modules
# A driver that is loaded just now finds them one after the other, and later what they are called.
read -r ports </etc/vm/ports
for name in $ports; do
    until [ -e "/run/port-$name" ]; do
        for port in /sys/class/virtio-ports/*; do
            [ -e "$port/name" ] || continue
            read -r found <"$port/name"
            [ "$found" != "$name" ] || ln -sf "/dev/${port##*/}" "/run/port-$name"
        done
        [ -e "/run/port-$name" ] || sleep 0.01
    done
done
# All that the kernel says, without waiting for the slow serial line.
cat /dev/kmsg >/run/port-log &

read -r modules </etc/vm/modules
[ -z "$modules" ] || modprobe -a $modules >/run/port-stderr 2>&1
read -r up _ </proc/uptime
echo "ready $up" >/run/port-control

export PATH=/usr/bin:/usr/sbin:/usr/libexec/busybox
if [ -e /etc/vm/command ]; then
    /usr/bin/sh /etc/vm/command </dev/null >/run/port-stdout 2>/run/port-stderr
    code=$?
else
    cd /
    cat /etc/vm/welcome >/dev/hvc0
    setsid -c /usr/bin/bash </dev/hvc0 >/dev/hvc0 2>&1
    code=$?
fi
# What the kernel said last, and that it is done.
sync
echo "exit $code" >/run/port-control
poweroff -f
# Nothing may follow the end of the first program.
sleep 1000
