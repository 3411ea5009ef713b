#!/usr/bin/env python3
"""Measures what the README promises. Needs `make build`; changes nothing outside a folder of its own.

Every row is measured several times, a round at a time, so that a machine that drifts does not favour one row; the table has the
median run and the range. Commands and progress go to standard error, the table to standard output, ready for docs/figures.md.
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SELVAGE = ROOT / "build/bin/selvage"
CONTRACTS = {"node": "TypeScript", "go": "Go"}
PROGRAMS = ("selvage", "peer", "orderer")

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
# A network is idle when its processes used no more than this between two looks.
IDLE_TICKS = 2
IDLE_LOOK_S = 2
IDLE_PATIENCE_S = 60


class Failure(Exception):
    """Something that ends the measurement, in words."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, environment):
    """Runs a command that must succeed, and returns what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise Failure(f"{shlex.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


class Network:
    """A network of two organisations with the sample contract in one language."""

    def __init__(self, folder, contract, environment):
        self.data = folder / f"{contract}-network"
        self.report = folder / f"{contract}.json"
        self.contract = contract
        self.environment = environment

    def up(self):
        """Starts it anew; milliseconds until it is ready, and until its first transaction is committed."""
        start = time.monotonic()
        report = run([*self.up_command(), "--data", self.data], self.environment)
        ready = time.monotonic()
        run([SELVAGE, "invoke", "--data", self.data, "Put", "first", "value"], self.environment)
        first = time.monotonic()
        self.report.write_text(report)
        return {"ready": (ready - start) * 1000, "first": (first - start) * 1000}

    def up_command(self):
        return [SELVAGE, "up", "--detach", "--json", "--chaincode", self.contract]

    def down(self):
        run([SELVAGE, "down", "--data", self.data], self.environment)

    def discard(self):
        self.down()
        run(["rm", "-rf", self.data], self.environment)

    def processes(self):
        """Its own processes without chaincode: (program, pid)."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                name = (entry / "exe").readlink().name
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue  # it has ended, or is another user's
            if name in PROGRAMS and str(self.data).encode() in words:
                found.append((name, int(entry.name)))
        return found

    def settle(self):
        """Waits until start-up work has ended."""
        give_up = time.monotonic() + IDLE_PATIENCE_S
        before = self.ticks()
        while time.monotonic() < give_up:
            time.sleep(IDLE_LOOK_S)
            now = self.ticks()
            if now - before <= IDLE_TICKS:
                return
            before = now
        say(f"  the {self.contract} network did not come to rest within {IDLE_PATIENCE_S} s")

    def ticks(self):
        total = 0
        for _, pid in self.processes():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total

    def memory(self):
        """Resident MiB: of the largest peer, of all nodes, of the manager."""
        sizes = collections.defaultdict(list)
        for name, pid in self.processes():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
            sizes[name].append(int(kib) / 1024)
        return {"peer": max(sizes["peer"]), "nodes": sum(sizes["peer"] + sizes["orderer"]), "manager": sum(sizes["selvage"])}

    def load(self, arguments, seconds, warmup):
        """One run of the load generator; its report."""
        command = [SELVAGE, "bench", "--network", self.report, *arguments.split()]
        command += ["--seconds", str(seconds), "--warmup", str(warmup), "--json"]
        return json.loads(run(command, self.environment))


def by_part(cpu):
    """Processor time by what it was used for; the two peers with a plus between them."""
    parts = collections.defaultdict(list)
    for name, us in sorted(cpu.items()):
        program, _, below = name.partition(" ")
        kind = program.split(":")[0]
        if kind == "peer" and below:
            kind = "chaincode"
        elif below:
            continue  # orderer and load generator have no children that work
        parts[kind].append(f"{us:,.0f}")
    order = [k for k in ("peer", "chaincode", "orderer", "load") if k in parts]
    return ", ".join(f"{kind} {' + '.join(parts[kind])}" for kind in order)


def middle(runs, key):
    """The run in the middle by one of its figures."""
    return sorted(runs, key=lambda r: r[key])[len(runs) // 2]


def load_cells(runs):
    """The cells of a row: the median run by its rate, and the range of the rates."""
    it = middle(runs, "tps")
    rates = [r["tps"] for r in runs]
    errors, lost = sum(r["errors"] for r in runs), sum(r["lost"] for r in runs)
    trouble = f" **{errors} errors, {lost} lost**" if errors or lost else ""
    return [
        f"{it['tps']:,.0f} [{min(rates):,.0f}–{max(rates):,.0f}]{trouble}",
        f"{it['p50_ms']:.1f} / {it['p95_ms']:.1f} / {it['p99_ms']:.1f}",
        f"{it['cpu_us_per_tx_total']:,.0f}",
        by_part(it["cpu_us_per_tx"]),
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


def prebuild(networks):
    """Starts each network once, so that its chaincode is built when it is started in earnest."""
    for network in networks:
        say(f"building the {network.contract} contract")
        network.up()
        network.discard()


def measure(options, folder):
    environment = {**os.environ, "SELVAGE_BUILD_CACHE": str(folder / "builds")}
    networks = [Network(folder, contract, environment) for contract in options.contracts]
    results = collections.defaultdict(list)
    try:
        prebuild(networks)
        for number in range(1, options.runs + 1):
            for network in networks:
                say(f"start {number} of {options.runs}, {network.contract}")
                for key, value in network.up().items():
                    results[network.contract, key].append(value)
                network.settle()
                for key, value in network.memory().items():
                    results[network.contract, key].append(value)
                if number < options.runs:
                    network.discard()
        # The networks of the last start stay, and take the load.
        for network in networks:
            say(f"warm-up, {network.contract}")
            network.load(LOADS[2][1], options.seconds, 0)
        for number in range(1, options.runs + 1):
            for name, arguments, _ in LOADS:
                for network in networks:
                    report = network.load(arguments, options.seconds, options.warmup)
                    results[network.contract, name].append(report)
                    say(f"run {number} of {options.runs}, {network.contract}, {name}: {report['tps']:,.0f}/s")
    finally:
        for network in networks:
            if network.data.exists():
                network.down()
    return results


def commands(options):
    """The command behind each row."""
    tail = f"--seconds {options.seconds} --warmup {options.warmup} --json"
    rows = [
        (STARTS[0][1], "selvage up --detach --json --chaincode $C --data $DIR/$C-network > $DIR/$C.json"),
        (STARTS[1][1], "selvage invoke --data $DIR/$C-network Put first value"),
    ]
    rows += [(what, "grep VmRSS /proc/$PID/status") for _, what, _ in IDLE]
    return rows + [(what, f"selvage bench --network $DIR/$C.json {arguments} {tail}") for what, arguments, _ in LOADS]


def document(options, results, load_before):
    """The whole of docs/figures.md."""
    languages = [CONTRACTS[c] for c in options.contracts]
    today = datetime.date.today()
    lines = [
        "# Figures",
        "",
        f"Made by `make bench` on {today.day} {today:%B %Y} at {revision()}.",
        f"Machine: {machine()}; load average before: {load_before:.1f}.",
        "",
        "Everything on one machine, TLS on, ECDSA, one orderer (`solo`), two organisations with a peer each, both endorsing. A transaction",
        f"writes one unique key of 100 bytes. {options.runs} runs a row, a round at a time: the table has the median, in brackets the range.",
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
        "with the rate in the middle. Processor time is in microseconds per transaction, of each process.",
        "",
        "| what | contract | per second | p50 / p95 / p99 ms | CPU µs | of which | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, _, goal in LOADS:
        for contract in options.contracts:
            row(what, CONTRACTS[contract], *load_cells(results[contract, what]), goal)
    lines += ["", "The commands, `$C` being `node` or `go`:", "", "```sh"]
    for what, command in commands(options):
        lines += [f"# {what.replace('`', '')}", command]
    return "\n".join([*lines, "```"])


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each row (default 3)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of each run under load (default 5)")
    parser.add_argument("--warmup", type=int, default=1, help="seconds of load before each run (default 1)")
    parser.add_argument("--contracts", type=lambda text: text.split(","), default=list(CONTRACTS), help="default node,go")
    options = parser.parse_args(words)
    unknown = set(options.contracts) - set(CONTRACTS)
    if unknown or options.runs < 1 or options.seconds < 1 or options.warmup < 0:
        parser.error(f"contracts are {', '.join(CONTRACTS)}; runs and seconds are at least 1")
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
        results = measure(options, pathlib.Path(folder))
    print(document(options, results, load_before))
    say(f"done in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"bench: {failure}")
