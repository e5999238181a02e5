"""Two "machines" on this one train one model over a network cable of their own: the numbers of docs/scaling.md.

    OMP_NUM_THREADS=1 python scripts/two_hosts.py --out results/two_hosts.json      # as root, on Linux, with iproute2; some five minutes

A network namespace has its own interfaces and its own loopback; two are made, joined by a pair of virtual Ethernet devices, and removed at
the end. In each, `torchrun --nnodes 2` starts one process of `mavil-edu pretrain`. Asked is: does the run leave the bytes of one machine
with two processes; how soon does a machine end when the other's processes are killed, or its link goes down; is the checkpoint then whole;
and what does a slow cable cost. (A namespace shares disk, clock and processor with its host: see docs/scaling.md for what this is not.)
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = [f"mavil-{os.getpid()}-{host}" for host in "ab"]
ADDRESSES = ["10.203.77.1", "10.203.77.2"]
CABLE = "cable"
SIZES = ["--config.model.encoder.width", "24", "--config.model.encoder.depth", "1", "--config.model.decoder.width", "16"]
PARTS = ["same", "killed", "resumed", "slow", "unplugged"]
LIMIT = 240.0  # seconds that any one run may take


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def two_namespaces():
    """Two network namespaces with a cable between them, and nothing else; removed at the end, with all that still runs in them."""
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("-n", NAMES[0], "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            ip("-n", name, "link", "set", CABLE, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            for pid in subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def command(run: Path, steps: int | None, *launch: str) -> list[str]:
    """steps: of a new run; None goes on with the run that is there."""
    pretrain = ["-m", "mavil_edu", "pretrain", "--data", str(ROOT / "data_samples"), "--out", str(run), "--workers", "0"]
    new = ["--steps", str(steps), "--config.train.batch", "8", "--config.train.save-every", "4", *SIZES]
    options = ["--resume"] if steps is None else new
    return [sys.executable, "-m", "torch.distributed.run", *launch, "--nproc-per-node", "1", *pretrain, *options]


def environment() -> dict[str, str]:
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return os.environ | shared


class Hosts:
    """A run on both machines; what each says is kept in a file."""

    def __init__(self, run: Path, steps: int | None, port: int):
        self.run, self.said = run, [run.with_suffix(f".{host}.txt") for host in range(2)]
        self.members = []
        for host, name in enumerate(NAMES):
            launch = ["--nnodes", "2", "--node-rank", str(host), "--master-addr", ADDRESSES[0], "--master-port", str(port)]
            with self.said[host].open("w") as file:
                there = ["ip", "netns", "exec", name, *command(run, steps, *launch)]
                one = environment() | {"GLOO_SOCKET_IFNAME": CABLE}
                self.members.append(subprocess.Popen(there, env=one, stdout=file, stderr=file, start_new_session=True))

    def wait(self, host: int, seconds: float = LIMIT) -> int:
        try:
            return self.members[host].wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise SystemExit(f"Host {host} did not end in {seconds:.0f} s; it said:\n{self.said[host].read_text()}") from None

    def await_checkpoints(self, count: int) -> None:
        until = time.monotonic() + LIMIT
        while len(list((self.run / "checkpoints").glob("step*"))) < count:
            if time.monotonic() > until or any(one.poll() is not None for one in self.members):
                self.stop()
                raise SystemExit("The run saved nothing; it said:\n" + "\n".join(file.read_text() for file in self.said))
            time.sleep(0.05)

    def kill(self, host: int) -> None:
        """`kill -9` for a machine's torchrun and its process, found as the namespace's members."""
        found = subprocess.run(["ip", "netns", "pids", NAMES[host]], check=True, capture_output=True, text=True)
        for process in found.stdout.split():
            os.kill(int(process), signal.SIGKILL)

    def stop(self) -> None:
        for host in range(2):
            self.kill(host)
        for one in self.members:
            one.wait()


def content(run: Path) -> dict:
    """All that has to be the same: the bytes of the model and of the newest checkpoint, and the metrics but for the clock."""
    newest = max((run / "checkpoints").glob("step*"))
    files = {f"{newest.name}/{one.name}": one.read_bytes() for one in sorted(newest.glob("*.safetensors"))}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    return files | {"model": (run / "model" / "model.safetensors").read_bytes(), "metrics": rows}


def seconds_of_a_step(run: Path) -> float:
    """The median, without the first steps."""
    at = [row["seconds"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "held_out" not in row]
    return statistics.median(after - before for before, after in zip(at[3:], at[4:], strict=False))


def whole_checkpoint(run: Path) -> str:
    """The name of the newest checkpoint, once its weights and moments fit a model."""
    from mavil_edu.checkpoint import list_checkpoints, load_checkpoint
    from mavil_edu.config import Config, from_dict
    from mavil_edu.mavil import MAViL
    from mavil_edu.optimiser import make_optimiser

    newest = list_checkpoints(run / "checkpoints")[-1]
    config = from_dict(Config, json.loads((newest / "state.json").read_text())["config"])
    model = MAViL(config)
    load_checkpoint(run / "checkpoints", model, make_optimiser(model, config.train))
    return newest.name


def together(place: Path, name: str, steps: int | None, port: int) -> Path:
    hosts = Hosts(place / name, steps, port)
    if any([hosts.wait(host) for host in range(2)]):
        raise SystemExit("A run failed; it said:\n" + "\n".join(file.read_text() for file in hosts.said))
    return hosts.run


def same_bytes(place: Path, steps: int) -> dict:
    one = place / "one-host"
    launch = command(one, steps, "--standalone", "--nnodes", "1")
    launch[launch.index("--nproc-per-node") + 1] = "2"
    with (place / "one-host.txt").open("w") as file:
        subprocess.run(launch, env=environment(), check=True, stdout=file, stderr=file, timeout=LIMIT)
    two = together(place, "two-hosts", steps, 29500)
    wanted, found = content(one), content(two)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    return {"steps": steps, "compared": len(wanted), "differences": differing + [name for name in found if name not in wanted]}


def resumed(place: Path, steps: int, port: int) -> dict:
    """The run of `same_bytes` once more, broken off by the death of the first machine, which writes, and gone on with by both."""
    name = "broken-off"
    hosts = Hosts(place / name, steps, port)
    hosts.await_checkpoints(1)
    hosts.kill(0)
    began = time.monotonic()
    hosts.wait(1, 120)
    lived, told = round(time.monotonic() - began, 1), hosts.said[1].read_text().splitlines()
    hosts.stop()
    at = whole_checkpoint(hosts.run)
    wanted, found = content(place / "one-host"), content(together(place, name, None, port + 1))
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    said = [line for line in told if "--resume" in line]
    return {"ended_after_seconds": {"host 1": lived}, "said": said, "went_on_from": at, "compared": len(wanted), "differences": differing}


def gone(place: Path, how: str, port: int, strike: Callable[[Hosts], None], waited: tuple[int, ...]) -> dict:
    """A long run, one machine of which goes; how long those that are waited for live on, and what they say."""
    hosts = Hosts(place / how, 20_000, port)
    hosts.await_checkpoints(2)
    strike(hosts)
    began, lived = time.monotonic(), {}
    for host in waited:
        hosts.wait(host, 120)
        lived[f"host {host}"] = round(time.monotonic() - began, 1)
    hosts.stop()
    told = [line for host in waited for line in hosts.said[host].read_text().splitlines() if "--resume" in line]
    half = [path.name for path in (*hosts.run.glob(".*"), *(hosts.run / "checkpoints").glob(".*"))]
    return {"ended_after_seconds": lived, "said": told, "whole_checkpoint": whole_checkpoint(hosts.run), "half_written": half}


def slow_cable(place: Path, steps: int, rounds: int, megabits: int) -> dict:
    """Seconds of a step over a slow cable against those over the free one, by turns."""
    found = {"free": [], "slow": []}
    for turn in range(rounds):
        for kind, rates in found.items():
            for name in NAMES:
                limit = ["rate", f"{megabits}mbit", "burst", "32kbit", "latency", "50ms"]
                change = ["add", "dev", CABLE, "root", "tbf", *limit] if kind == "slow" else ["del", "dev", CABLE, "root"]
                subprocess.run(["tc", "-n", name, "qdisc", *change], check=kind == "slow", capture_output=True)
            rates.append(seconds_of_a_step(together(place, f"{kind}-{turn}", steps, 29510 + 2 * turn + (kind == "slow"))))
    for name in NAMES:
        subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", CABLE, "root"], check=True, capture_output=True)
    ratios = [slow / free for free, slow in zip(found["free"], found["slow"], strict=True)]
    return {"megabits_a_second": megabits, "seconds_of_a_step": found, "ratios": [round(ratio, 3) for ratio in ratios]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="'resumed' compares with what 'same' has left, and needs it"
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2, help="of the slow cable")
    parser.add_argument("--megabits", type=int, default=20, help="a second, of the slow cable")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    arguments = parser.parse_args()
    if platform.system() != "Linux" or os.geteuid() != 0 or not shutil.which("ip"):
        parser.error("network namespaces need Linux, root and the program ip (Debian's package iproute2).")
    sys.path.insert(0, str(ROOT))
    from mavil_edu.checkpoint import versions
    from mavil_edu.files import write_json

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is taken down
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "versions": versions()}
    with tempfile.TemporaryDirectory() as folder, two_namespaces():
        place = Path(folder)
        parts = {
            "same": lambda: same_bytes(place, arguments.steps),
            "killed": lambda: gone(place, "killed", 29501, lambda hosts: hosts.kill(1), (0,)),
            "resumed": lambda: resumed(place, arguments.steps, 29530),
            "slow": lambda: slow_cable(place, arguments.steps, arguments.rounds, arguments.megabits),
            "unplugged": lambda: gone(place, "unplugged", 29502, lambda _: ip("-n", NAMES[1], "link", "set", CABLE, "down"), (0, 1)),
        }
        for name, part in parts.items():  # the cable is pulled last
            if name in arguments.only:
                result[name] = part()
                print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
    if arguments.out:
        write_json(arguments.out, result)
    print(json.dumps(result, indent=1))
    return 1 if any(result.get(name, {}).get("differences") for name in ("same", "resumed")) else 0


if __name__ == "__main__":
    sys.exit(main())
