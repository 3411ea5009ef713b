#!/usr/bin/env python3
"""Measures what the README promises. Needs `make build`; changes nothing outside a folder of its own.

Every row is measured several times, a round at a time, so that a machine that drifts does not favour one row; the table has the
median run and the range. Commands and progress go to standard error, the table to standard output, ready for docs/figures.md.
"""

import argparse
import collections
import datetime
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # nothing is left beside the script

import ordering
from network import ROOT, SELVAGE, Failure, Network, load_cells, run, say

CONTRACTS = {"node": "TypeScript", "go": "Go"}
PARTS = ("contracts", "ordering", "kills")

# What is loaded: name, arguments of `selvage bench`, goal.
LOADS = [
    ("one client, one transaction at a time", "--clients 1 --closed", "p50 ≤ 25 ms"),
    ("the same through the gateway", "--clients 1 --closed --gateway", "p50 ≤ 25 ms"),
    ("50 clients, open loop, direct endorsement", "--clients 50", ""),
    ("50 clients, open loop, through the gateway", "--clients 50 --gateway", ""),
    ("50 clients, evaluate through the gateway", "--clients 50 --gateway --evaluate --function Get --arg {key}", ""),
]
STARTS = [("ready", "`selvage up`, chaincode prebuilt: ready", ""), ("first", "… first committed transaction", "≤ 5,000 ms")]
IDLE = [
    ("peer", "idle: a peer", "≤ 30 MiB"),
    ("nodes", "idle: peers and orderer together", "≤ 100 MiB"),
    ("manager", "idle: the manager", "≤ 60 MiB"),
]

def plain_cell(values, unit):
    values = sorted(values)
    return f"{statistics.median(values):,.0f} {unit} [{values[0]:,.0f}–{values[-1]:,.0f}]"


def machine():
    """What the figures were made on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def revision():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "an unknown revision"


def timed_start(network):
    """Milliseconds until the network is ready, and until its first transaction is committed."""
    start = time.monotonic()
    network.up()
    ready = time.monotonic()
    run([SELVAGE, "invoke", "--data", network.data, "Put", "first", "value"], network.environment)
    return {"ready": (ready - start) * 1000, "first": (time.monotonic() - start) * 1000}


def prebuild(networks):
    """Starts each network once, so that its chaincode is built when it is started in earnest."""
    for network in networks:
        say(f"building the {network.name} contract")
        network.up()
        network.discard()


def measure(options, folder, environment):
    networks = [Network(folder, contract, f"--chaincode {contract}", environment) for contract in options.contracts]
    results = collections.defaultdict(list)
    try:
        prebuild(networks)
        for number in range(1, options.runs + 1):
            for network in networks:
                say(f"start {number} of {options.runs}, {network.name}")
                for key, value in timed_start(network).items():
                    results[network.name, key].append(value)
                network.settle()
                for key, value in network.memory().items():
                    results[network.name, key].append(value)
                if number < options.runs:
                    network.discard()
        # The networks of the last start stay, and take the load.
        for network in networks:
            say(f"warm-up, {network.name}")
            network.load(LOADS[2][1], options.seconds, 0)
        for number in range(1, options.runs + 1):
            for name, arguments, _ in LOADS:
                for network in networks:
                    report = network.load(arguments, options.seconds, options.warmup)
                    results[network.name, name].append(report)
                    say(f"run {number} of {options.runs}, {network.name}, {name}: {report['tps']:,.0f}/s")
    finally:
        for network in networks:
            if network.data.exists():
                network.down()
    return results


def commands(options):
    """The command behind each row."""
    rows = contract_commands(options) if "contracts" in options.only else []
    return rows + (ordering.commands(options) if options.only & {"ordering", "kills"} else [])


def contract_commands(options):
    tail = f"--seconds {options.seconds} --warmup {options.warmup} --json"
    rows = [
        (STARTS[0][1], "selvage up --detach --json --chaincode $C --data $DIR/$C-network > $DIR/$C.json"),
        (STARTS[1][1], "selvage invoke --data $DIR/$C-network Put first value"),
    ]
    rows += [(what, "grep VmRSS /proc/$PID/status") for _, what, _ in IDLE]
    return rows + [(what, f"selvage bench --network $DIR/$C.json {arguments} {tail}") for what, arguments, _ in LOADS]


def document(options, results, load_before):
    """The whole of docs/figures.md."""
    today = datetime.date.today()
    lines = [
        "# Figures",
        "",
        f"Made by `make bench` on {today.day} {today:%B %Y} at {revision()}.",
        f"Machine: {machine()}; load average before: {load_before:.1f}.",
        "",
        "Everything on one machine, TLS on, ECDSA. Several runs a row, a round at a time: the tables have the median, in brackets the range.",
        "Processor time is in microseconds per transaction, of each process.",
    ]
    if "contracts" in options.only:
        lines += contract_lines(options, results)
    lines += ordering.lines(options, results)
    lines += ["", "The commands, `$C` being `node` or `go`:", "", "```sh"]
    for what, command in commands(options):
        lines += [f"# {what.replace('`', '')}", command]
    return "\n".join([*lines, "```"])


def contract_lines(options, results):
    languages = [CONTRACTS[c] for c in options.contracts]
    lines = [
        "",
        "## Transactions",
        "",
        "One orderer (`solo`), two organisations with a peer each, both endorsing. A transaction writes one unique key of 100 bytes.",
        f"{options.runs} runs a row.",
        "",
        f"| what | {' | '.join(f'{language} contract' for language in languages)} | goal |",
        f"|---|{'---|' * len(languages)}---|",
    ]

    def row(*cells):
        lines.append(f"| {' | '.join(cells)} |")

    for rows, unit in ((STARTS, "ms"), (IDLE, "MiB")):
        for key, what, goal in rows:
            row(what, *(plain_cell(results[c, key], unit) for c in options.contracts), goal)
    lines += [
        "",
        f"Under load: {options.seconds} s a run after {options.warmup} s of warm-up, and a longer warm-up before the first. The median run is that",
        "with the rate in the middle.",
        "",
        "| what | contract | per second | p50 / p95 / p99 ms | CPU µs | of which | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, _, goal in LOADS:
        for contract in options.contracts:
            row(what, CONTRACTS[contract], *load_cells(results[contract, what]), goal)
    return lines


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each row (default 3)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of each run under load (default 5)")
    parser.add_argument("--warmup", type=int, default=1, help="seconds of load before each run (default 1)")
    parser.add_argument("--contracts", type=lambda text: text.split(","), default=list(CONTRACTS), help="default node,go")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set(PARTS), help=f"some of {','.join(PARTS)} (default all)")
    parser.add_argument("--kills", type=int, default=6, help="kills of each row with kills (default 6)")
    parser.add_argument("--kill-seconds", type=int, default=10, help="seconds of each run with a kill (default 10)")
    options = parser.parse_args(words)
    if set(options.contracts) - set(CONTRACTS) or not options.only or options.only - set(PARTS):
        parser.error(f"contracts are {', '.join(CONTRACTS)}; parts are {', '.join(PARTS)}")
    if min(options.runs, options.seconds, options.kills) < 1 or options.warmup < 0:
        parser.error("runs, seconds and kills are at least 1")
    if options.kill_seconds <= ordering.KILL_AFTER_S:
        parser.error(f"the kill comes {ordering.KILL_AFTER_S} s after the start: give more --kill-seconds")
    return options


def main():
    options = parse(sys.argv[1:])
    if not SELVAGE.exists():
        raise Failure(f"{SELVAGE} is missing: run `make build`")
    load_before = os.getloadavg()[0]
    if load_before > 0.5:
        say(f"CAREFUL: the machine is busy already (load average {load_before:.1f}); the figures will be worse for it")
    say("commands, $C being the contract:")
    for what, command in commands(options):
        say(f"  {what}:\n    {command}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="selvage-bench-") as folder:
        folder = pathlib.Path(folder)
        environment = {**os.environ, "SELVAGE_BUILD_CACHE": str(folder / "builds")}
        results = measure(options, folder, environment) if "contracts" in options.only else {}
        if options.only & {"ordering", "kills"}:
            results.update(ordering.measure(options, folder, environment))
    print(document(options, results, load_before))
    say(f"done in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"bench: {failure}")
