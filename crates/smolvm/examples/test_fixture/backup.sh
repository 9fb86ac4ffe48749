# Copies a directory: backup.sh DATA BACKUP
set -eu
if [ -e "$2" ]; then
    echo "$2 is there already" >&2
    exit 1
fi
mkdir "$2"
cp -r "$1" "$2"
