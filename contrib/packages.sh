#!/bin/sh
# Installs the Debian packages whose commands are missing. MOOR_PACKAGES=demo|test|bench adds what those need.
set -eu
missing=""
services=""
need() { # COMMAND PACKAGE [SERVICE that the package would start]
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 && return
    missing="$missing $2"
    services="$services${3:+ $3}"
}
stack() { # an engine, and what makes the stack images where no registry is at hand
    # Not `docker`: that command may be there without any engine.
    need dockerd docker.io "docker.socket docker containerd"
    need debootstrap debootstrap
}
need git git
need ssh openssh-client
need haproxy haproxy haproxy
[ -x /usr/bin/python3 ] || missing="$missing python3"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
case "${MOOR_PACKAGES:-}" in
    demo) need curl curl ;;
    test)
        need etcd etcd-server etcd
        [ -d /usr/lib/postgresql ] || { missing="$missing postgresql"; services="$services postgresql"; }
        need redis-server redis-server redis-server
        # The languages of the sample apps.
        need node nodejs; need npm npm
        need go golang-go
        need ruby ruby; need bundle bundler
        need php php-cli; need composer composer
        need apache2 libapache2-mod-php
        need git-lfs git-lfs
        # A browser for the web page.
        need chromium chromium; need chromedriver chromium-driver
        stack
        ;;
    bench)
        need sshd openssh-server ssh; need wrk wrk; need zstd zstd
        need redis-server redis-server redis-server
        stack
        ;;
esac
[ -n "$missing" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
if ! command -v apt-get >/dev/null || ! command -v ${sudo:-true} >/dev/null; then
    echo " !     These Debian packages are missing:$missing. Install them as root, then run make again." >&2
    exit 1
fi
echo "-----> Installing Debian packages:$missing"
# shellcheck disable=SC2086
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing 2>&1; }
# The first try fails where package lists are old or were never fetched; what apt says matters if the second does too.
said=$(install) || said=$($sudo apt-get update -qq 2>&1 && install) || {
    printf '%s\n' "$said" >&2
    echo " !     Could not install:$missing. Install them by hand, then run make again." >&2
    exit 1
}
# Only the programs are wanted: a service that such a package starts is not ours to leave running.
# shellcheck disable=SC2086
if [ -d /run/systemd/system ] && [ -n "$services" ]; then
    $sudo systemctl disable --now --quiet $services 2>/dev/null || true
fi
