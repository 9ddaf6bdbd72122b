#!/bin/sh
# Runs a command in the current network namespace (that of `unshare --net`), after adding an interface
# with an address: libwebrtc leaves loopback out of ICE. No port collides with the machine's, and no
# packet leaves the namespace. A veth pair, because not every kernel has `dummy` interfaces.
set -eu

unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
export E2E_ADDRESS=10.77.0.1
ip link set lo up
ip link add e2e type veth peer name e2e-peer
ip address add "$E2E_ADDRESS/24" dev e2e
ip link set e2e up
ip link set e2e-peer up

exec "$@"
