#!/bin/sh
# Installs what the lab needs on the outer Debian machine, and nothing when it is all there.
set -eu

missing=""
need() { # PROGRAM PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing="$missing $2"
}
need mmdebstrap mmdebstrap
need systemd-nspawn systemd-container
need ssh openssh-client
need ip iproute2
need nft nftables
need nsenter util-linux
need sysctl procps
need ping iputils-ping
need curl curl
need docker-registry docker-registry
need chromium chromium
need chromedriver chromium-driver
need certutil libnss3-tools
need gpg gnupg
need wireguard-go wireguard-go
need wg wireguard-tools
[ -n "$missing" ] || exit 0

# Debian starts a registry of its own on every address; the lab starts one where it needs it.
registry=/usr/sbin/policy-rc.d
if [ ! -e "$registry" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$registry"
    chmod 755 "$registry"
    trap 'rm -f "$registry"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# The list is made of the words above.
# shellcheck disable=SC2086
apt-get -qqy install --no-install-recommends $missing
