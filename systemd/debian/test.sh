#!/usr/bin/env bash
# Installs packages on a clean Debian that boots in a container, has its service manager run the service, and
# removes them again (test-inside.sh): test.sh FOLDER CLIENT PACKAGE...; make test-deb builds them first, and the
# client, which has a bridge decode a JPEG and make another.
#
# Takes root, or sudo. The clean system is this one's release, from where this one's packages come from. It
# stays in FOLDER, some 600 MB, for the next time, and is root's: sudo rm -r FOLDER; what happens in it is undone
# when the container ends, with all of the container's mounts.
set -euo pipefail

if [ "$(id -u)" != 0 ]; then exec sudo "$0" "$@"; fi
mkdir -p "$1"
folder=$(realpath "$1")
shift
here=$(realpath "$(dirname "$0")")
"$here/../../examples/install-packages.sh" debootstrap systemd-container

# What the proof takes beside the packages: who finds pages and completions, a GPU made of the CPU, sessions,
# and certificates.
extras="man-db bash-completion zsh fish mesa-vulkan-drivers libvulkan1 dbus libpam-systemd openssl"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages"
cp "$@" "$work/packages" # the client, and the packages
cp "$here/../../examples/report.png" "$work/packages/picture.png"
cp "$here/test-inside.sh" "$work/packages"

# Whoever is not started by systemd can't ask it for a place of his own.
alone=()
[ -d /run/systemd/system ] || alone=(--register=no --keep-unit)
container() {
    timeout --foreground 1200 systemd-nspawn --quiet "${alone[@]}" --directory "$folder/clean" --setenv=DEBIAN_FRONTEND=noninteractive \
        --bind-ro="$work/packages:/packages" "$@" </dev/null
}

# shellcheck source=/dev/null # every system's
. /etc/os-release
sources() { apt-get indextargets 'Created-By: Packages' "Origin: ${ID^}" --format "$1" | sort -u; }
if [ ! -d "$folder/clean" ]; then
    mirror=$(sources '$(RELEASE) $(REPO_URI)' | sed -n "s/^$VERSION_CODENAME //p" | head -n 1)
    [ -n "$mirror" ] || { echo "apt knows no packages of $ID $VERSION_CODENAME: apt-get update" >&2; exit 1; }
    echo "Making a clean $ID $VERSION_CODENAME in $folder"
    rm -rf --one-file-system "$folder/unfinished"
    debootstrap --variant=minbase --include=systemd,ca-certificates "$VERSION_CODENAME" "$folder/unfinished" "$mirror" \
        >"$folder/debootstrap.log" || { tail "$folder/debootstrap.log" >&2; exit 1; }
    mv "$folder/unfinished" "$folder/clean"
fi
sources 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' >"$folder/clean/etc/apt/sources.list"
# How they are fetched: by which proxy, and the like.
apt-config dump | grep -E '^Acquire::(Check|https?)' >"$folder/clean/etc/apt/apt.conf.d/90fetched" || true

# Up to date, and with all that will be installed at hand, for the proof has no network.
container sh -ec "apt-get update -qq; apt-get upgrade -y -qq; apt-get autoclean -qq
    apt-get install -y -qq --no-install-recommends --download-only /packages/*.deb $extras" >"$folder/fetched.log" 2>&1 ||
    { tail "$folder/fetched.log" >&2; exit 1; }

# As where images are made: nothing is running.
container --volatile=overlay --private-network /packages/test-inside.sh installed
# As on a machine. Its first process ends as the proof does.
cat >"$work/proof.service" <<UNIT
[Unit]
Description=Proof of the packages
After=multi-user.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/packages/test-inside.sh running $extras
TimeoutStartSec=600
StandardOutput=tty
UNIT
container --volatile=overlay --private-network --bind-ro="$work/proof.service:/etc/systemd/system/proof.service" \
    --console=read-only --boot systemd.show_status=no systemd.log_level=crit \
    systemd.mask=console-getty.service systemd.wants=proof.service
