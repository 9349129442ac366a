#!/usr/bin/env bash
# What is proved of the packages on a clean system, as its root; test.sh brings it there with the packages.
#   test-inside.sh installed            where no service manager runs
#   test-inside.sh running PACKAGE...   where one does; the packages are tools of the proof
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$(mktemp -d)"
chmod 755 .

fail() {
    echo "FAILED: $*"
    journalctl --no-pager --quiet --lines=100 -u 'resized*' 2>/dev/null || true
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
set -E
proved() { echo "proved: $*"; }
same() { [ "$1" = "$2" ] || fail "line ${BASH_LINENO[0]}: '$1', not '$2'"; }
apt() { apt-get -y -qq --no-install-recommends "$@" >apt.log 2>&1 || { cat apt.log; fail "apt-get $*"; }; }
# Whether units are active, or enabled. The exit status says so, too, and is no failure here.
state() { systemctl "is-$1" "${@:2}" | xargs || true; }
as() { local user=$1; shift; setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --reset-env "$@"; }
# Files with our programs' names, or in folders of these. man has copies of pages that were read, dpkg its lists.
ours() {
    local elsewhere
    for elsewhere in /proc /packages /var/cache/man /var/lib/dpkg "$PWD"; do set -- "$@" -path "$elsewhere" -prune -o; done
    find / /run /dev/shm -xdev "$@" -path '*resize[-cd]*' -print | sort -u
}
# What clients have in their environment.
keys=()
# A picture is resized by that user's program.
resizes() {
    local user=$1; shift
    rm -rf small
    install -d -o "$user" small
    as "$user" env "${keys[@]}" resizectl "$@" resize /packages/picture.png -s 90x80 --mode stretch -o small \
        >resized.log 2>&1 || { cat resized.log; return 1; }
    # Its width and height.
    same "$(od -An -tu4 --endian=big -j16 -N8 small/picture.png | xargs)" "90 80"
}

before=$(ours)
# What there is now and was not there at first.
more() { comm -13 <(echo "$before") <(ours) | xargs; }
apt install /packages/*.deb
getent group resized >/dev/null
same "$(stat -c '%a %U %G' /run/resized /etc/resized/bridge | xargs)" "755 root root 700 root root"
for program in resized resized-bridge resizectl resize-videos; do
    "$program" --version
    "$program" --help >/dev/null
done
resized --check-config --config /etc/resized/resized.toml
proved "the packages bring programs that run, valid settings, the group, and the folders"

if [ "$1" = installed ]; then
    useradd alice
    resizes alice
    proved "without a service manager a picture is resized all the same"
    apt purge resized resize-videos
    same "$(more)" ""
    proved "purged, they leave nothing"
    exit 0
fi
shift

units=(resized.socket resized.service resized-bridge.service)
# The service is enabled by way of its socket.
same "$(state enabled "${units[@]}")" "disabled indirect disabled"
same "$(state active "${units[@]}")" "inactive inactive inactive"
proved "nothing is enabled or started by being installed"

apt install "$@"
for page in resized resized-bridge resizectl resize-videos resizectl-{resize,video,top,status,doctor,bench}; do
    man -w "$page" >/dev/null
    # All are understood, without a complaint.
    same "$(man --warnings -E UTF-8 "$page" 2>&1 >/dev/null)" ""
done
for program in resized resized-bridge resizectl resize-videos; do
    bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader "$1" || [ $? = 124 ]; complete -p "$1"' - $program >/dev/null
    zsh -fc 'autoload -Uz compinit; compinit -u -D; [[ -n ${_comps[$1]} ]]' - $program
    fish -c "complete -C '$program --v'" | grep -q version
done
proved "man, bash, zsh and fish find pages and completions"
# Also that the pages exist that the units name.
same "$(systemd-analyze verify /usr/lib/systemd/system/resized* 2>&1)" ""
same "$(systemd-analyze --user verify /usr/lib/systemd/user/resized* 2>&1 | grep resized || true)" ""
proved "the service manager has nothing against the units"

# The service, as the administrators' guide has it.
systemctl --quiet enable --now resized.socket
same "$(state active resized.service)" inactive
useradd --groups resized alice
useradd --create-home bob
resizes alice --connect unix:/run/resized/resized.sock
same "$(state active resized.service)" active
if resizes bob --connect unix:/run/resized/resized.sock; then fail "bob is not in the group"; fi
grep -qi "permission denied" resized.log
as alice resizectl doctor
proved "the socket starts the service, which resizes for members of the group alone"

pid() { systemctl show --property MainPID --value "$1"; }
# What the unit asks for is so: systemd leaves out what a kernel can't do. Of memory, only those kinds are dumped.
confined() {
    local at=/proc/$(pid "$1")
    same "$(cat "$at/coredump_filter")" "$2"
    same "$(sed -n 's/^\(Seccomp\|NoNewPrivs\|CapEff\|CapBnd\):\t//p' "$at/status" | xargs)" "0000000000000000 0000000000000000 1 2"
    [ "$(stat -c %u "$at")" != 0 ]
    systemd-analyze security --no-pager --threshold=15 "$1" | tail -n 1
}
confined resized.service 00000011 # anonymous memory of its own, and the headers of what is mapped
[ "$(readlink /proc/"$(pid resized.service)"/ns/net)" != "$(readlink /proc/1/ns/net)" ]
proved "the daemon is confined as its unit says"

# Its drivers live there too, and in the process in which they are tried.
mkdir -p /run/systemd/system/resized.service.d
printf '[Service]\nEnvironment=RESIZED_DEVICES=vulkan:llvmpipe\n' >/run/systemd/system/resized.service.d/gpu.conf
systemctl daemon-reload
systemctl restart resized.service
resizes alice --connect unix:/run/resized/resized.sock
as alice resizectl status
proved "so confined, a Vulkan driver that compiles shaders as it runs resizes too"
rm -r /run/systemd/system/resized.service.d
systemctl daemon-reload

# New settings, a crash, and an upgrade.
sed -i 's|^#metrics = |metrics = |' /etc/resized/resized.toml
systemctl restart resized.service
as bob test -S /run/resized-daemon/metrics.sock
systemctl reload resized.service
first=$(pid resized.service)
echo 'memmory = 5' >>/etc/resized/resized.toml
if systemctl reload resized.service 2>reload.log; then fail "bad settings are not refused"; fi
same "$(state active resized.service) $(pid resized.service)" "active $first"
sed -i '$d' /etc/resized/resized.toml
systemctl reload resized.service
systemctl kill --signal=KILL resized.service
resizes alice --connect unix:/run/resized/resized.sock
second=$(pid resized.service)
[ "$second" != "$first" ]
apt install --reinstall /packages/*.deb
resizes alice --connect unix:/run/resized/resized.sock
[ "$(pid resized.service)" != "$second" ]
grep -q '^metrics = ' /etc/resized/resized.toml
proved "it is restarted with new settings, after a crash and by an upgrade, which leaves settings as they are"

# The bridge, as the guide to other machines has it.
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc)
openssl req -x509 "${key[@]}" -subj /CN=authority -keyout ca.key -out ca.pem 2>openssl.log
openssl req "${key[@]}" -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out request 2>openssl.log
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -copy_extensions copy -out cert.pem 2>openssl.log
openssl rand -hex 32 >token
getent hosts localhost >/dev/null || echo 127.0.0.1 localhost >>/etc/hosts
install -m 600 cert.pem /etc/resized/bridge/certificate.pem
install -m 600 key.pem /etc/resized/bridge/key.pem
install -m 600 token /etc/resized/bridge/token
sed -i -E '/0.0.0.0:7788|_(CERTIFICATE|KEY|TOKEN)=/s/^#//' /etc/resized/bridge.env
systemctl --quiet enable --now resized-bridge.service
chmod a+r ca.pem token
keys=(RESIZED_CA="$PWD/ca.pem")
if resizes bob --connect tls://localhost:7788; then fail "bob has no token"; fi
grep -qi token resized.log
keys+=(RESIZED_TOKEN_FILE="$PWD/token")
resizes bob --connect tls://localhost:7788
as bob env "${keys[@]}" resizectl --connect tls://localhost:7788 resize /packages/picture.png -s 400x300 -o small/large.jpg
as bob env "${keys[@]}" /packages/remote-client tls://localhost:7788 small/large.jpg 40 small/small.jpg
same "$(od -An -tx1 -N2 small/small.jpg | xargs)" "ff d8"
confined resized-bridge.service 00000010 # these headers alone
proved "the bridge, confined as its unit says, resizes for those who have its token, and decodes and makes JPEGs"

# A session's own daemon.
systemctl start dbus.socket systemd-logind.service
loginctl enable-linger bob
systemctl start "user@$(id -u bob).service"
session=(XDG_RUNTIME_DIR="/run/user/$(id -u bob)")
as bob env "${session[@]}" systemctl --user --quiet enable --now resized.socket
keys=("${session[@]}")
resizes bob --connect "unix:/run/user/$(id -u bob)/resized/resized.sock"
same "$(as bob env "${session[@]}" systemctl --user is-active resized.service)" active
as bob env "${session[@]}" systemctl --user --quiet disable --now resized.socket resized.service
proved "a session's units do the same for one user"

# Whatever was proved until here, nobody complained of what is forbidden.
if journalctl --no-pager --quiet -u 'resized*' | grep -i -E "not permitted|SIGSYS|panicked"; then fail "see above"; fi

apt remove resized resize-videos
same "$(state active "${units[@]}")" "inactive inactive inactive"
own="/etc/resized/bridge/certificate.pem /etc/resized/bridge/key.pem /etc/resized/bridge/token"
same "$(more)" "/etc/resized /etc/resized/bridge /etc/resized/bridge.env $own /etc/resized/resized.toml /run/resized /run/resized/resized.sock"
grep -q '^metrics = ' /etc/resized/resized.toml
proved "removed, they take their units out of service, and leave settings and the socket's folder"
apt purge resized
same "$(more)" "/etc/resized /etc/resized/bridge $own"
proved "purged, they leave nothing but the administrator's own keys"
