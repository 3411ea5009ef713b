"""What ordering alone can do, and how long it pauses when the leader is killed."""

import collections
import itertools

from network import Network, load_cells, say

# One organisation with one peer: it has to be there, but its work is not what is measured.
NETWORKS = [
    ("solo", "one orderer (`solo`)", "--orgs 1 --chaincode NONE --consensus solo"),
    ("raft", "three orderers, Raft", "--orgs 1 --chaincode NONE --consensus raft"),
    ("bft", "four orderers, BFT", "--orgs 1 --chaincode NONE --consensus bft"),
]
SIZES = (200, 4096)
CLIENTS = 50
# The longest that acknowledgements may stay away, for 99 of 100 kills.
GOALS = {"raft": "≤ 3,000 ms", "bft": "≤ 6,000 ms"}
KILL_BYTES = 200
KILL_AFTER_S = 2
# What becomes of the killed leader, and whether it stays away for the rest of the run.
AFTERWARDS = [("started again at once", False), ("stays away", True)]


def arguments(size):
    return f"--order --clients {CLIENTS} --size {size}"


def measure(options, folder, environment):
    """The reports of both tables: by (network, size), and the kills by network."""
    wanted = [(n, a) for n, _, a in NETWORKS if "ordering" in options.only or n in GOALS]
    networks = [Network(folder, name, start, environment) for name, start in wanted]
    results = collections.defaultdict(list)
    try:
        for network in networks:
            network.up()
        if "ordering" in options.only:
            measure_rates(options, networks, results)
        if "kills" in options.only:
            measure_kills(options, [n for n in networks if n.name in GOALS], results)
    finally:
        for network in networks:
            if network.data.exists():
                network.down()
    return results


def measure_rates(options, networks, results):
    for network in networks:
        say(f"warm-up, {network.name}")
        network.load(arguments(SIZES[0]), options.seconds, 0)
    for number in range(1, options.runs + 1):
        for size in SIZES:
            for network in networks:
                report = network.load(arguments(size), options.seconds, options.warmup)
                results[network.name, size].append(report)
                say(f"run {number} of {options.runs}, {network.name}, {size} bytes: {report['tps']:,.0f}/s")


def measure_kills(options, networks, results):
    for number in range(1, options.kills + 1):
        for network, (afterwards, stays_away) in itertools.product(networks, AFTERWARDS):
            command = network.load_command(arguments(KILL_BYTES), options.kill_seconds, options.warmup)
            report, leader = network.load_and_kill(command, KILL_AFTER_S, stays_away)
            results[network.name, afterwards].append(report)
            gap = f"{report['longest_gap_ms']:,.0f} ms, {report['errors']} errors"
            say(f"kill {number} of {options.kills}, {network.name}, leader {leader}, {afterwards}: {gap}")


def commands(options):
    """The command behind each row."""
    rows = [("ordering networks, $N being `solo`, `raft` or `bft`", f"selvage up --detach --json {start('$N')} --data $DIR/$N-network > $DIR/$N.json")]
    if "ordering" in options.only:
        tail = f"--seconds {options.seconds} --warmup {options.warmup} --json"
        rows += [(f"ordering, {size} bytes", f"selvage bench --network $DIR/$N.json {arguments(size)} {tail}") for size in SIZES]
    if "kills" in options.only:
        tail = f"--seconds {options.kill_seconds} --warmup {options.warmup} --json"
        command = f"selvage bench --network $DIR/$N.json {arguments(KILL_BYTES)} {tail} & sleep {options.warmup + KILL_AFTER_S}; kill -9 $LEADER; wait"
        rows.append(("leader killed; the manager is stopped meanwhile where the leader stays away", command))
    return rows


def start(name):
    return NETWORKS[0][2].replace("solo", name)


def lines(options, results):
    """The two tables."""
    text = []
    if "ordering" in options.only:
        text += rate_lines(options, results)
    if "kills" in options.only:
        text += kill_lines(options, results)
    return text


def rate_lines(options, results):
    text = [
        "",
        "## Ordering alone",
        "",
        f"{CLIENTS} clients send signed envelopes straight to the orderers (`selvage bench --order`), each the next one when the last was acknowledged:",
        "it is in a block that a quorum has on disk. On BFT each client sends to all orderers and waits for a quorum of acknowledgements, as Fabric's",
        "gateway does. An envelope has the given bytes of content, and headers, certificate and signature. One peer receives the blocks.",
        f"{options.seconds} s a run, {options.runs} runs a row.",
        "",
        "| orderers | content, envelope in bytes | per second | p50 / p95 / p99 ms | CPU µs | of which |",
        "|---|---|---|---|---|---|",
    ]
    for name, what, _ in NETWORKS:
        for size in SIZES:
            runs = results[name, size]
            whole = runs[0]["envelope_bytes"]
            text.append(f"| {' | '.join([what, f'{size:,}, {whole:,}', *load_cells(runs)])} |")
    return text


def kill_lines(options, results):
    text = [
        "",
        "## Leader killed under load",
        "",
        f"The same load with {KILL_BYTES} bytes of content; the leader's process is killed (SIGKILL) {KILL_AFTER_S} s after the start of a run of",
        f"{options.kill_seconds} s. The manager starts it again at once, often before the others notice; where it stays away they have to agree on another",
        "one. The figure is the longest time in which no client heard any acknowledgement; an error is an envelope that a client gave up.",
        "",
        "| orderers | the killed leader | longest time without an acknowledgement, worst | of each kill, ms | errors | goal (p99) |",
        "|---|---|---|---|---|---|",
    ]
    clusters = [(name, what) for name, what, _ in NETWORKS if name in GOALS]
    for (name, what), (afterwards, _) in itertools.product(clusters, AFTERWARDS):
        runs = results[name, afterwards]
        gaps = [r["longest_gap_ms"] for r in runs]
        errors = sum(r["errors"] for r in runs)
        each = ", ".join(f"{gap:,.0f}" for gap in gaps)
        text.append(f"| {what} | {afterwards} | {max(gaps):,.0f} ms | {each} | {errors} | {GOALS[name]} |")
    return text
