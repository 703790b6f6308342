#!/usr/bin/env bash
# Checks the broker with clients that others wrote: mosquitto's, paho-mqtt and MQTT.js.
#
#   FULMAR_BIN=path   test this binary instead of building one
#   FULMAR_PORT=port  test the broker that listens on this loopback port instead of starting one
#
# Prints one line for each check and, at the end, the counts. Exit status 0 if all passed.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONDONTWRITEBYTECODE=1

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
    as_root "${install[@]}" "$@" >&2 ||
        { as_root apt-get update >&2 && as_root "${install[@]}" "$@" >&2; }
}

install_clients() {
    command -v mosquitto_sub >/dev/null && command -v mosquitto_rr >/dev/null ||
        apt_install mosquitto-clients
    command -v python3 >/dev/null || apt_install python3
    if ! .venv/bin/python -c 'import paho.mqtt' 2>/dev/null; then
        python3 -m venv --clear .venv >&2 || { apt_install python3-venv &&
            python3 -m venv --clear .venv >&2; }
        .venv/bin/pip install --quiet --requirement requirements.txt >&2
    fi
    command -v npm >/dev/null || apt_install nodejs npm
    if [ ! -e node_modules/mqtt ] || [ package-lock.json -nt node_modules ]; then
        npm ci --silent --no-audit --no-fund >&2
        touch node_modules
    fi
}

build_broker() {
    local json
    json=$(cd ../.. && cargo build --package fulmar --bin fulmar --message-format json)
    .venv/bin/python -c '
import json, sys
for line in sys.stdin:
    path = json.loads(line).get("executable")
    if path:
        print(path)' <<<"$json"
}

# Starts the broker on a free port and sets FULMAR_PORT.
start_broker() {
    work=$(mktemp -d)
    printf 'listeners: [{protocol: mqtt, addr: "127.0.0.1:0"}]\n' >"$work/config.yaml"
    "$FULMAR_BIN" --config "$work/config.yaml" 2>"$work/log" &
    broker=$!
    local deadline=$((SECONDS + 20))
    while true; do
        FULMAR_PORT=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]\{1,\}\).*/\1/p' "$work/log" |
            head -n 1)
        [ -z "$FULMAR_PORT" ] || break
        if ! kill -0 "$broker" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            echo "the broker did not start:" >&2
            cat "$work/log" >&2
            exit 1
        fi
        sleep 0.05
    done
}

finish() {
    if [ -n "${broker:-}" ] && kill "$broker" 2>/dev/null; then wait "$broker" || true; fi
    if [ -n "${work:-}" ]; then
        if [ "${failed:-1}" != 0 ]; then
            echo "--- last lines of the broker's log" >&2
            tail -n 40 "$work/log" >&2
        fi
        rm -rf "$work"
    fi
}
trap finish EXIT

install_clients
if [ -z "${FULMAR_PORT:-}" ]; then
    FULMAR_BIN=${FULMAR_BIN:-$(build_broker)}
    start_broker
fi
export FULMAR_PORT

results=$(mktemp)
# A client that dies halfway must not look like success.
{
    .venv/bin/python with_mosquitto.py || echo "not ok - mosquitto: exit status $?"
    .venv/bin/python with_paho.py || echo "not ok - paho: exit status $?"
    node with_mqttjs.mjs || echo "not ok - MQTT.js: exit status $?"
} | tee "$results"
if [ -n "${broker:-}" ] && ! kill -0 "$broker" 2>/dev/null; then
    echo "not ok - the broker ended by itself" | tee -a "$results"
fi
passed=$(grep -c '^ok - ' "$results" || true)
failed=$(grep -c '^not ok - ' "$results" || true)
rm -f "$results"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
