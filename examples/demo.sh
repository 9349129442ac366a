#!/bin/sh
# Resizes a video through a daemon of its own: demo.sh FOLDER_OF_PROGRAMS ARGUMENTS_OF_RESIZE_VIDEOS...
set -eu

programs=$1
shift
folder=$(mktemp -d)
socket=$folder/resized.sock
daemon=
stop() {
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" || true; }
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# In a session of its own: Ctrl-C is for the program, and the daemon is stopped after it.
RESIZED_LOG=${RESIZED_LOG:-warn} setsid "$programs/resized" --socket "$socket" &
daemon=$!
tries=0
while [ ! -S "$socket" ]; do
    kill -0 "$daemon" 2>/dev/null || { daemon=; echo "the daemon did not start" >&2; exit 1; }
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { echo "the daemon does not listen at $socket" >&2; exit 1; }
    sleep 0.05
done

echo "The daemon is process $daemon, listening at $socket"
status=0
"$programs/resize-videos" --connect "unix:$socket" "$@" || status=$?
exit "$status"
