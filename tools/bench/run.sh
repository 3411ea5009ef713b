#!/usr/bin/env bash
# Measures what the README promises and prints a table. Needs `make build`; changes nothing outside a folder of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$PWD/build/bin
folder=$(mktemp -d)
seconds=${SECONDS_EACH:-10}
trap '"$bin/selvage" down --data "$folder/data" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT

say() { printf '%-58s %s\n' "$1" "$2"; }
json() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2], {"d": d}))' "$1" "$2"; }
rss_kb() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }

# The first start builds the chaincode; the second finds it built, as a user's second network would.
"$bin/selvage" up --detach --json --data "$folder/first" >/dev/null
"$bin/selvage" down --data "$folder/first" >/dev/null
start=$(date +%s%N)
"$bin/selvage" up --detach --json --data "$folder/data" >"$folder/up.json"
up=$(($(date +%s%N) - start))
"$bin/selvage" invoke --data "$folder/data" Put first value >/dev/null
first=$(($(date +%s%N) - start))
say "selvage up, chaincode prebuilt: ready" "$((up / 1000000)) ms"
say "                                first committed transaction" "$((first / 1000000)) ms"

sleep 10 # until start-up work has ended
total=0
for pid in $(pgrep -x 'selvage|peer|orderer' || true); do
  tr '\0' '\n' <"/proc/$pid/cmdline" | cat - "/proc/$pid/environ" | grep -qa "$folder/data" || continue
  name=$(basename "$(readlink "/proc/$pid/exe")")
  case $name in peer | orderer) total=$((total + $(rss_kb "$pid"))) ;; selvage) ;; *) continue ;; esac
  say "idle: $name $pid" "$(($(rss_kb "$pid") / 1024)) MiB RSS"
done
say "idle: peers and orderer together" "$((total / 1024)) MiB RSS"

bench() {
  local what=$1
  shift
  "$bin/selvage" bench --network "$folder/up.json" --seconds "$seconds" --json "$@" >"$folder/bench.json" 2>/dev/null
  say "$what" "$(json "$folder/bench.json" '"%.0f/s, p50 %.1f ms, p95 %.1f, p99 %.1f, %d errors, %d lost, %.0f CPU us/tx" % (d["tps"], d["p50_ms"], d["p95_ms"], d["p99_ms"], d["errors"], d["lost"], d["cpu_us_per_tx_total"])')"
  json "$folder/bench.json" '"\n".join("    %8.0f us  %s" % (v, k) for k, v in d["cpu_us_per_tx"].items())'
}
bench "1 client, one transaction at a time" --clients 1 --closed
bench "1 client, one at a time, through the gateway" --clients 1 --closed --gateway
bench "50 clients, open loop, direct endorsement" --clients 50
bench "50 clients, open loop, through the gateway" --clients 50 --gateway
bench "50 clients, evaluate through the gateway" --clients 50 --gateway --evaluate --function Get --arg '{key}'
