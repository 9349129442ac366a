#!/bin/sh
# Installs those of the named Debian packages that are missing: install-packages.sh PACKAGE[:ARCHITECTURE]...
# Or unpacks one into a folder, and leaves the system as it is: install-packages.sh --unpack FOLDER PACKAGE
set -eu

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if [ "$1" = --unpack ]; then
    mkdir -p "$2"
    cd "$2"
    apt-get download -qq "$3" 2>/dev/null || { $sudo apt-get update -qq && apt-get download -qq "$3"; }
    dpkg-deb -x "$3"_*.deb .
    rm "$3"_*.deb
    exit 0
fi

missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "This is no Debian: make sure that what these packages hold is there:$missing" >&2
    exit 0
fi
if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
    echo "Install these packages first, as root:$missing" >&2
    exit 1
fi
echo "Installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
for package in $missing; do
    case $package in
    *:*)
        architecture=${package##*:}
        dpkg --print-architecture --print-foreign-architectures | grep -qx "$architecture" ||
            $sudo dpkg --add-architecture "$architecture"
        ;;
    esac
done
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
