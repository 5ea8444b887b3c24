"""Times our training step beside PyTorch's: ./run bench train

Both sides train the same nets from the same weights on the same batch with the same
number of threads on the same CPUs, and take turns, so that whatever else the machine
does hits both. A process that is not at its turn is stopped by a signal: it cannot
spin. PyTorch runs in every variant that is known to help it, with a malloc that keeps
its pages, and its best variant counts.

A ratio is PyTorch's median time over ours: above 1 we are faster.
"""

import argparse
import csv
import ctypes
import importlib.util
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "bench"
TESTED_TORCH = "2.13"
INSTALL = "python3 -m pip install torch==2.13.0"

# Name of the zoo: options, batch.
NETS = {
    "mlp": ({}, 64),
    "small-cnn": ({}, 64),
    "ds-cnn": ({"norm_bias": False}, 64),
    "resnet8": ({"norm_bias": False}, 64),
    "mobilenet-v1": ({"width": 0.25, "input": [96, 96, 3], "classes": 2}, 32),
    "resnet18-3x3": ({}, 32),
    "resnet9": ({"norm_bias": False}, 64),
}
CLASSES = {"mobilenet-v1": 2, "ds-cnn": 12}  # of the others: 10

# malloc takes all memory from the heap and never gives it back, instead of asking the
# system for fresh pages in every step.
KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
OTHER_MALLOCS = {"jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4"}


def stop(message):
    sys.exit(f"run: {message}")


# ---- Processes --------------------------------------------------------------------

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Worker:
    """A process that does training steps when told to, and is frozen otherwise."""

    def __init__(self, label, command, cpus, env=None):
        self.label = label
        self.milliseconds = []
        self.rounds = []  # medians
        self.first_loss = None
        self.last = {}
        self.errors = BUILD / "errors.log"

        def begin():
            os.sched_setaffinity(0, cpus)
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a frozen process would outlive us

        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | (env or {}), start_new_session=True, preexec_fn=begin)  # fmt: skip
        try:
            self.ready = self.read()
        except BaseException:
            self.end()
            raise

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label} ended by itself, see {self.errors}")
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def freeze(self):
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.killpg(self.process.pid, signal.SIGCONT)

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # the frozen ones too
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    # Steps that are not counted: torch.compile compiles, pools fill.
    def warm_up(self):
        found = self.ask("run 1 2")
        self.first_loss = found["first_loss"]
        self.estimate = min(self.ask("run 0 3")["milliseconds"])
        self.freeze()

    def measure(self, seconds):
        steps = max(1, min(300, round(1e3 * seconds / self.estimate)))
        warm = 0 if self.estimate > 200 else max(1, min(10, round(10 / self.estimate)))
        self.thaw()
        self.last = self.ask(f"run {warm} {steps}")
        self.freeze()
        self.milliseconds += self.last["milliseconds"]
        self.rounds.append(statistics.median(self.last["milliseconds"]))

    def median(self):
        return statistics.median(self.milliseconds)

    def percentile(self, p):
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(p * len(ordered)))]


def library(name):
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        if (pathlib.Path(folder) / name).exists():
            return str(pathlib.Path(folder) / name)
    return None


def torch_variants(net, threads, compiled):
    """(label, layout, mode, environment) of all that is tried."""
    layouts = ["contiguous"] if net == "mlp" else ["contiguous", "channels_last"]
    for layout in layouts:
        yield layout, layout, "eager", KEEP_PAGES
        if threads > 1:  # better where others want the CPUs too
            yield f"{layout} passive", layout, "eager", KEEP_PAGES | {"OMP_WAIT_POLICY": "passive"}
        for name, file in OTHER_MALLOCS.items():
            if path := library(file):
                yield f"{layout} {name}", layout, "eager", {"LD_PRELOAD": path}
        if compiled:
            env = KEEP_PAGES | {
                "TORCHINDUCTOR_CACHE_DIR": str(BUILD / "inductor"),
                "TORCHINDUCTOR_COMPILE_THREADS": "1",
            }
            yield f"{layout} compile", layout, "compile", env


# ---- One net, one number of threads -----------------------------------------------


def compare(net, threads, options, notes):
    given, batch = NETS[net]
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    dump = BUILD / f"{net}.start"
    description = json.dumps({"name": net, "options": given})
    ours = Worker("whittle", [options.program, description, str(batch), str(threads)], cpus)
    workers = [ours]
    try:
        ours.ask(f"dump {dump}")
        ours.warm_up()
        for label, layout, mode, env in torch_variants(net, threads, options.compile):
            command = [sys.executable, str(ROOT / "bench" / "peers" / "torch_step.py"), net,
                       str(CLASSES.get(net, 10)), str(batch), str(threads), layout, mode, str(dump),
                       *map(str, ours.ready["input"])]  # fmt: skip
            try:
                worker = Worker(f"pytorch {label}", command, cpus, env)
                workers.append(worker)
                worker.warm_up()
            except RuntimeError as error:
                if mode != "compile":
                    raise
                notes.append(f"torch.compile does not work here: {error}")
                if workers[-1].label == f"pytorch {label}":
                    workers.pop().end()
        check_sameness(net, ours, workers[1:])
        for turn in range(options.rounds):
            first = turn % len(workers)  # nobody always comes first
            for worker in workers[first:] + workers[:first]:
                worker.measure(options.seconds)
    finally:
        for worker in workers:
            worker.end()
        dump.unlink(missing_ok=True)
    for worker in workers:
        if not worker.last["last_loss"] < worker.first_loss:
            stop(f"{worker.label} does not learn on {net}: "
                 f"its loss went from {worker.first_loss} to {worker.last['last_loss']}")  # fmt: skip
    return ours, workers[1:]


def check_sameness(net, ours, theirs):
    for worker in theirs:
        if worker.ready["parameters"] != ours.ready["parameters"]:
            stop(f"{net} is not the same net on both sides: whittle has {ours.ready['parameters']} parameters, "
                 f"{worker.label} {worker.ready['parameters']}")  # fmt: skip
        if abs(worker.first_loss - ours.first_loss) > 1e-3 * abs(ours.first_loss):
            stop(f"{net} is not the same net on both sides: its first loss is {ours.first_loss} in whittle, "
                 f"{worker.first_loss} in {worker.label}")  # fmt: skip
        if worker.ready["threads"] != ours.ready["threads"]:
            stop(f"{worker.label} runs {worker.ready['threads']} threads, whittle {ours.ready['threads']}")


# ---- The report -------------------------------------------------------------------


def busy_share(seconds=1.0):
    """How busy all CPUs are while we do nothing."""

    def read():
        fields = [int(n) for n in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(fields), fields[3] + fields[4]

    (total, idle), _ = read(), time.sleep(seconds)
    later_total, later_idle = read()
    return 1 - (later_idle - idle) / max(1, later_total - total)


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


HEADER = (f"{'net':<14} {'batch':>5} {'T':>2}  {'whittle ms':>10} {'p10':>8} {'p90':>8}  {'pytorch ms':>10} {'p10':>8} "
          f"{'p90':>8}  {'ratio':>5}  {'peak MB: ours':>13} {'theirs':>7}  best variant")  # fmt: skip


def table_row(net, threads, ours, best, their_peak):
    def times(worker):
        return f"{worker.median():>10.3f} {worker.percentile(0.1):>8.3f} {worker.percentile(0.9):>8.3f}"

    return (f"{net:<14} {NETS[net][1]:>5} {threads:>2}  {times(ours)}  {times(best)}  "
            f"{best.median() / ours.median():>5.2f}  {ours.last['peak_grown_mb']:>13.1f} {their_peak:>7.1f}  "
            f"{best.label.removeprefix('pytorch ')}, {best.ready['sgd']}")  # fmt: skip


def csv_rows(net, threads, workers):
    for worker in workers:
        yield {
            "net": net, "batch": NETS[net][1], "threads": threads, "side": worker.label.split()[0],
            "variant": " ".join(worker.label.split()[1:]) or worker.ready.get("parallel", ""),
            "median_ms": f"{worker.median():.5f}", "p10_ms": f"{worker.percentile(0.1):.5f}",
            "p90_ms": f"{worker.percentile(0.9):.5f}", "fastest_round_ms": f"{min(worker.rounds):.5f}",
            "steps": len(worker.milliseconds), "peak_grown_mb": f"{worker.last['peak_grown_mb']:.1f}",
            "grown_mb": f"{worker.last['grown_mb']:.1f}", "cpus": f"{worker.last['cpus']:.2f}",
            "parameters": worker.ready["parameters"], "first_loss": worker.first_loss,
            "last_loss": worker.last["last_loss"],
        }  # fmt: skip


def geomean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def parse(arguments):
    def names(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in NETS:
                raise argparse.ArgumentTypeError(f"there is no net '{name}'; there are {', '.join(NETS)}")
        return chosen

    parser = argparse.ArgumentParser(prog="./run bench train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--nets", type=names, default=list(NETS), help=f"some of {','.join(NETS)}")
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=None,
                        help="numbers of threads (1,2)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=None, help="turns that each side gets (9; quick: 5)")
    parser.add_argument("--quick", action="store_true", help="short turns, and PyTorch without torch.compile")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="PyTorch without torch.compile")
    parser.add_argument("--out", type=pathlib.Path, help="write the figures to this CSV file too")
    options = parser.parse_args(arguments)
    options.seconds = 0.15 if options.quick else 0.4
    options.rounds = options.rounds or (5 if options.quick else 9)
    options.compile = options.compile and not options.quick
    cpus = len(os.sched_getaffinity(0))
    if options.threads is None:
        options.threads = [n for n in (1, 2) if n <= cpus]
    if min(options.threads) < 1 or max(options.threads) > cpus:
        stop(f"--threads {','.join(map(str, options.threads))}: this process may use {cpus} CPUs")
    return options


def find_torch():
    if importlib.util.find_spec("torch") is None:
        stop(f"the comparison needs PyTorch, which {sys.executable} cannot import; to install it: {INSTALL}")
    version = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__)"], text=True,
                             capture_output=True, check=False)  # fmt: skip
    if version.returncode != 0:
        stop(f"PyTorch is installed but cannot be imported ({version.stderr.strip().splitlines()[-1]}); "
             f"to install it anew: {INSTALL}")  # fmt: skip
    return version.stdout.strip()


def main():
    options = parse(sys.argv[1:])
    torch = find_torch()
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "errors.log").write_text("")
    notes = []
    if not torch.startswith(TESTED_TORCH + "."):
        notes.append(f"this is PyTorch {torch}; the comparison was made for {TESTED_TORCH}")
    if options.compile and shutil.which("g++") is None:
        notes.append("torch.compile was left out: it needs g++")
        options.compile = False
    elif not options.compile:
        notes.append("torch.compile was left out, as asked" + (" (--quick)" if options.quick else ""))
    missing = [name for name, file in OTHER_MALLOCS.items() if not library(file)]
    if missing:
        notes.append(f"not tried, because not installed: {' and '.join(missing)}")

    busy = busy_share()
    print(f"whittle beside PyTorch {torch} on {cpu_name()}; {options.rounds} turns each")
    print("ratio: PyTorch's median over ours, above 1 we are faster; peak: growth of memory since the start, "
          "PyTorch's leanest variant\n")  # fmt: skip
    print(HEADER, flush=True)
    rows, ratios, own = [], {}, {}
    for net in options.nets:
        for threads in options.threads:
            ours, theirs = compare(net, threads, options, notes)
            best = min(theirs, key=Worker.median)
            print(table_row(net, threads, ours, best, min(w.last["peak_grown_mb"] for w in theirs)), flush=True)
            ratios.setdefault(threads, []).append(best.median() / ours.median())
            own[net, threads] = ours.median()
            rows += csv_rows(net, threads, [ours, *theirs])

    base = min(options.threads)
    for threads in options.threads:
        if threads != base:
            print(f"\nwhittle, {base} to {threads} threads: "
                  + ", ".join(f"{net} {own[net, base] / own[net, threads]:.2f}" for net in options.nets))  # fmt: skip

    busy = max(busy, busy_share())
    if busy > 0.05:
        notes.append(f"the CPUs were {100 * busy:.0f} % busy with other work: a loaded machine")
    for path in filter(None, [BUILD / "train.csv", options.out]):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        notes.append(f"all variants: {path}")
    print()
    for note in dict.fromkeys(notes):
        print(f"- {note}")
    print("geomean " + " ".join(f"{threads}T={geomean(values):.2f}" for threads, values in ratios.items()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped")
    except RuntimeError as error:
        stop(str(error))
