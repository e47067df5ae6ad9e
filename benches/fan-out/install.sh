#!/bin/sh
# Installs what the benchmark compares with: Debian's NATS server. libzmq is built by the crate `zmq`.
set -eu
command -v nats-server >/dev/null || { apt-get update && apt-get install -y --no-install-recommends nats-server; }
nats-server --version
