#!/bin/sh
# What this guest does by itself: it says hello from inside and stays, as the
# first process of a machine that others use. Where the kernel's command line
# says so, it resets the machine after the greeting. (A machine monitor may have
# no power switch, but a reset always ends it.)
[ -e /proc/mounts ] || mount -t proc proc /proc

# $1 is a letter of the kernel's: b resets the machine, o switches it off.
leave() {
    sync
    echo "$1" >/proc/sysrq-trigger
}
# The signals with which busybox asks its init to do so, and the one that the
# kernel sends for Ctrl-Alt-Del.
trap 'leave b' TERM INT
trap 'leave o' USR1 USR2

while read -r _ directory type _; do
    if [ "$directory" = / ]; then
        root=$type
    fi
done </proc/mounts
echo "Hello from SmolVM! Linux $(uname -r), root on $root"

read -r words </proc/cmdline
case " $words " in
    *" smolvm.test=hello-and-reset "*) leave b ;;
esac

# Waiting for one child, a shell also reaps the orphans that it was given.
while :; do
    sleep 3600 &
    wait $!
done
