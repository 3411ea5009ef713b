"""A network that is measured: its start and end, its processes, and load on it."""

import collections
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SELVAGE = ROOT / "build/bin/selvage"
PROGRAMS = ("selvage", "peer", "orderer")

# A network is idle when its processes used no more than this between two looks.
IDLE_TICKS = 2
IDLE_LOOK_S = 2
IDLE_PATIENCE_S = 60
# How long a killed orderer may take to run again.
RESTART_PATIENCE_S = 60
# What `selvage bench` says when its warm-up is over.
MEASURING = "counting the processor time"
# How orderers log who leads: `Raft leader changed: 0 -> 2`, `Changing leader: 1 -> 2`.
LEADER = re.compile(r"leader(?: changed)?: \d+ -> ([1-9]\d*)")


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
    """A network that `selvage up` starts with some arguments."""

    def __init__(self, folder, name, arguments, environment):
        self.data = folder / f"{name}-network"
        self.report = folder / f"{name}.json"
        self.name = name
        self.arguments = arguments
        self.environment = environment

    def up(self):
        """Starts it anew."""
        command = [SELVAGE, "up", "--detach", "--json", *self.arguments.split(), "--data", self.data]
        self.report.write_text(run(command, self.environment))

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
        say(f"  the {self.name} network did not come to rest within {IDLE_PATIENCE_S} s")

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

    def load_command(self, arguments, seconds, warmup):
        command = [SELVAGE, "bench", "--network", self.report, *arguments.split()]
        return [*command, "--seconds", str(seconds), "--warmup", str(warmup), "--json"]

    def load(self, arguments, seconds, warmup):
        """One run of the load generator; its report."""
        return json.loads(run(self.load_command(arguments, seconds, warmup), self.environment))

    def load_and_kill(self, command, kill_after, stays_away):
        """One run during which the leading orderer is killed; the report, and which orderer it was.

        The manager starts it again at once, or only after the run, being stopped meanwhile.
        """
        self.await_orderers()
        manager = next(pid for name, pid in self.processes() if name == "selvage")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=self.environment, **pipes) as load:
            said = []
            for line in load.stderr:
                said.append(line)
                if line.startswith(MEASURING):
                    break
            else:
                raise Failure(f"{shlex.join(map(str, command))} failed:\n{''.join(said)}")
            time.sleep(kill_after)
            leader = self.leader()
            if stays_away:
                os.kill(manager, signal.SIGSTOP)
            try:
                os.kill(self.orderers()[leader], signal.SIGKILL)
                report, more = load.communicate()
            finally:
                os.kill(manager, signal.SIGCONT)
        if load.returncode:
            raise Failure(f"{shlex.join(map(str, command))} failed:\n{more}")
        return json.loads(report), leader

    def orderer_folders(self):
        """The folders of its orderers, by the number that consensus knows them under."""
        folders = self.data.glob("instances/*/nodes/orderer-*")
        return {int(folder.name.rsplit("-", 1)[1]) + 1: folder for folder in folders}

    def orderers(self):
        """The process of each orderer that runs."""
        running = {pid for name, pid in self.processes() if name == "orderer"}
        marks = {}
        for number, folder in self.orderer_folders().items():
            try:
                pid = json.loads((folder / "process.json").read_text())["pid"]
            except (OSError, ValueError):
                continue  # it is just being started
            if pid in running:
                marks[number] = pid
        return marks

    def await_orderers(self):
        """Waits until the orderer killed last runs again."""
        give_up = time.monotonic() + RESTART_PATIENCE_S
        while len(self.orderers()) < len(self.orderer_folders()):
            if time.monotonic() > give_up:
                raise Failure(f"an orderer of {self.data} does not run {RESTART_PATIENCE_S} s after it was killed")
            time.sleep(0.1)

    def leader(self):
        """The number of the orderer that leads, as most of them logged last."""
        heard = collections.Counter()
        for number, folder in self.orderer_folders().items():
            changes = []
            for log in folder.glob(f"log/{folder.name}.log"):
                changes += LEADER.findall(log.read_text(errors="replace"))
            if changes:
                heard[int(changes[-1])] += 1
            else:
                say(f"  orderer {number} of {self.name} has not logged who leads")
        leader, _ = heard.most_common(1)[0] if heard else (None, 0)
        if leader not in self.orderers():
            raise Failure(f"no orderer of {self.data} that runs is known to lead: heard {dict(heard)}")
        return leader


def by_part(cpu):
    """Processor time by what it was used for; nodes of one kind with a plus between them."""
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


def load_cells(runs):
    """The cells of a row: the median run by its rate, and the range of the rates."""
    it = sorted(runs, key=lambda r: r["tps"])[len(runs) // 2]
    rates = [r["tps"] for r in runs]
    errors, lost = sum(r["errors"] for r in runs), sum(r["lost"] for r in runs)
    trouble = f" **{errors} errors, {lost} lost**" if errors or lost else ""
    return [
        f"{it['tps']:,.0f} [{min(rates):,.0f}–{max(rates):,.0f}]{trouble}",
        f"{it['p50_ms']:.1f} / {it['p95_ms']:.1f} / {it['p99_ms']:.1f}",
        f"{it['cpu_us_per_tx_total']:,.0f}",
        by_part(it["cpu_us_per_tx"]),
    ]
