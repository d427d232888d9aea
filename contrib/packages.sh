#!/bin/sh
# Installs the Debian packages whose commands are missing. MOOR_PACKAGES=test|bench adds what those need.
set -eu
missing=""
need() { # COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need git git
need ssh openssh-client
need haproxy haproxy
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
[ -x /usr/bin/python3 ] || missing="$missing python3"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
case "${MOOR_PACKAGES:-}" in
    test) need etcd etcd-server ;;
    bench) need sshd openssh-server; need wrk wrk ;;
esac
[ -n "$missing" ] || exit 0
echo "-----> Installing Debian packages:$missing"
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
# RUNLEVEL=1: only the programs are wanted, no service that a package would start by itself.
install() { $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
# shellcheck disable=SC2086
install || { $sudo apt-get update -qq && install; } || {
    echo " !     Could not install:$missing. Install them by hand, then run make again." >&2
    exit 1
}
