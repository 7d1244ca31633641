#!/bin/sh
# Installs what the tests need from the system, when it may: as root on Debian or Ubuntu.
# Elsewhere it says what to install; a test whose tool is missing then fails and names it.
set -eu
packages="g++ openjdk-17-jdk-headless nodejs node-typescript golang-go rustc ruby php-cli perl bash
 lua5.4 sqlite3 python3-matplotlib python3-pandas fontconfig chromium-headless-shell wrk rabbitmq-server redis-server nginx-light iproute2 openssl
 zlib1g-dev vim-tiny black clang-format perltidy rustfmt shfmt prometheus systemd debootstrap"
# Debian 12's kubernetes-client (1.20) is too old for packaging/k8s.
command -v kubectl >/dev/null || echo "occd: kubectl 1.21 or newer is missing: tests/test_k8s.py needs it" >&2
missing=""
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "occd: these packages are missing; install them with: sudo apt-get install$missing" >&2
    exit 0
fi
echo "occd: installing$missing ..."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
# The tests start their own.
case "$missing" in *prometheus*) systemctl disable --now prometheus >/dev/null 2>&1 || true ;; esac
