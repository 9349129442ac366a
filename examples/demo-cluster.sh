#!/bin/sh
# Resizes a video on three nodes of a NATS service, all on this machine, and kills the busiest of them halfway:
# demo-cluster.sh FOLDER_OF_PROGRAMS VIDEO ARGUMENTS_OF_RESIZE_VIDEOS...
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
trap 'exit 129' HUP
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

# Copies of the video, and the frames that all of them have; 0 where the video does not say.
video=$1
copies=1
last=
for argument in "$@"; do
    if [ "$last" = -n ]; then copies=$argument; fi
    last=$argument
done
frames=$(ffprobe -v error -select_streams v:0 -show_entries stream=nb_frames -of csv=p=0 "$video" | tr -cd 0-9)
all=$((copies * ${frames:-0}))
# A video that does not say is taken to have 400.
half=$(( (all > 0 ? all : 400) / 2 ))

# figures NODE: the streams of its daemon, and the frames that its devices have done.
figures() {
    status=$("$programs/resizectl" status --json --connect "unix:$folder/$1.sock") || return 1
    echo "${status%%\"clients\"*}" | tr ',{' '\n\n' | awk -F: '
        $1 == "\"streams\"" { streams = $2 }
        $1 == "\"frames\"" { frames += $2 }
        END { print streams + 0, frames + 0 }'
}
# kill -9: it says no goodbye to anybody.
kill_busiest() {
    until [ "${total:-0}" -ge "$half" ]; do
        sleep 0.05
        total=0 most=0
        for node in 1 2 3; do
            # One that does not answer now may in a moment; once the run is over nobody asks any more.
            figures "$node" >"$folder/figures" 2>/dev/null || { total=0; break; }
            read -r streams finished <"$folder/figures"
            total=$((total + finished))
            if [ "$streams" -gt "$most" ]; then most=$streams busiest=$node; fi
        done
    done
    if [ "$most" -gt 0 ] && kill -9 "$(cat "$folder/bridge$busiest.pid")"; then
        : >"$folder/killed"
        echo "Node $busiest, which had $most streams, is dead: $total frames are done${frames:+ of $all}"
    fi
}

echo "Three nodes have joined the service at $nats; the busiest is killed halfway"
kill_busiest &
echo $! >"$folder/killer.pid"

status=0
"$programs/resize-videos" --connect "$nats/stream" "$@" || status=$?
if [ "$status" = 0 ] && [ ! -e "$folder/killed" ]; then
    echo "It was over before a node could be killed: take a longer video, or more copies of it" >&2
    status=1
fi
exit "$status"
