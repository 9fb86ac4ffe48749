#!/bin/sh
# All that this guest does: it says hello from inside, then resets the
# machine. (A machine monitor may have no power switch, but a reset always
# ends it.)
mount -t proc proc /proc

while read -r _ directory type _; do
    if [ "$directory" = / ]; then
        root=$type
    fi
done </proc/mounts
echo "Hello from SmolVM! Linux $(uname -r), root on $root"

sync
echo b >/proc/sysrq-trigger
