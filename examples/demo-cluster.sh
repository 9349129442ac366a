#!/bin/sh
# Resizes a video on three nodes of a NATS service, all on this machine, and kills one of them on the way:
# demo-cluster.sh FOLDER_OF_PROGRAMS ARGUMENTS_OF_RESIZE_VIDEOS...
set -eu

programs=$1
shift
folder=$(mktemp -d)
stop() {
    # shellcheck disable=SC2046 # a list of numbers
    kill $(cat "$folder"/*.pid) 2>/dev/null || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: in a session of its own, since Ctrl-C is for the program.
start() {
    name=$1
    shift
    setsid "$@" &
    echo $! >"$folder/$name.pid"
}
# await PATTERN FILE
await() {
    tries=0
    until grep -q "$1" "$2" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 200 ] || { echo "no '$1' in $2:" >&2; cat "$2" >&2; exit 1; }
        sleep 0.05
    done
}

start nats nats-server --addr 127.0.0.1 --port -1 --log "$folder/nats.log"
await 'client connections on' "$folder/nats.log"
nats=nats://$(sed -n 's/.*client connections on //p' "$folder/nats.log")
for node in 1 2 3; do
    RESIZED_LOG=warn start "daemon$node" "$programs/resized" --socket "$folder/$node.sock"
    start "bridge$node" "$programs/resized-bridge" --daemon "unix:$folder/$node.sock" \
        --listen 127.0.0.1:0 --nats "$nats" 2>"$folder/bridge$node.log"
    await listening "$folder/bridge$node.log"
done
echo "Three nodes have joined the service at $nats; the first is killed after two seconds"
# kill -9: it says no goodbye to anybody.
first=$(cat "$folder/bridge1.pid")
(sleep 2 && kill -9 "$first" 2>/dev/null && echo "The first node is dead") &

status=0
"$programs/resize-videos" --connect "$nats/stream" "$@" || status=$?
exit "$status"
