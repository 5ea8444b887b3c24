"""Times our Engine beside five other runtimes on this CPU: ./run bench infer

ONNX Runtime, PyTorch, OpenVINO, ncnn and LiteRT run the same nets as our programs, with random weights: their files are
written from ours, with the same codes, scales and ranges, and their outputs are compared with ours before anybody is
timed. Each runs in a process of its own on the same CPUs with the same number of threads, in that of its settings which
is fastest here; the processes take turns, and one that is not at its turn is stopped by a signal. All five must run.

A ratio is the best peer's median time over ours: above 1 we are faster than every one of them. The last line has the
geometric means over the nets, in int8 at batch 1.
"""

import argparse
import csv
import importlib.util
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

from train import BUILD, KEEP_PAGES, ROOT, TESTED_TORCH, Worker, busy_share, cpu_name, geomean, stop

PEERS = ("onnxruntime", "pytorch", "openvino", "ncnn", "litert")
PACKAGES = {  # module: what pip calls it
    "torch": "torch==2.13.0",
    "onnxruntime": "onnxruntime",
    "onnx": "onnx",
    "ai_edge_litert": "ai-edge-litert",
    "ncnn": "ncnn",
    "openvino": "openvino",
    "numpy": "numpy",
}
VENV = ROOT / "build" / "peers"
FILES = BUILD / "infer"
TARGET_OF_ALL = 1.85

# Row: net of the zoo with its options, and the ratio wanted of int8 at batch 1 on one thread.
ROWS = {
    "resnet18": ("resnet18-3x3", {}, 1.10),
    "resnet9": ("resnet9", {"norm_bias": False}, 1.15),
    "resnet8": ("resnet8", {"norm_bias": False}, 1.80),
    "ds-cnn": ("ds-cnn", {"norm_bias": False}, 2.50),
    "mobilenet-0.25": ("mobilenet-v1", {"width": 0.25, "input": [96, 96, 3], "classes": 2}, 3.00),
    "mobilenet-1.0": ("mobilenet-v1", {"width": 1.0, "input": [224, 224, 3], "classes": 1000}, 1.30),
    "small-cnn": ("small-cnn", {}, 1.30),
    "mlp": ("mlp", {}, 2.50),
}
SAMPLES = 16  # that are compared


# ---- What must be installed -----------------------------------------------------------------------


def missing_packages(python):
    code = f"import importlib.util as u; print(*[m for m in {list(PACKAGES)} if u.find_spec(m) is None])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def find_peers():
    """Goes on in an interpreter that can import all peers: this one, or that of an environment under build/."""
    missing = [module for module in PACKAGES if importlib.util.find_spec(module) is None]
    if not missing:
        return
    names = " ".join(PACKAGES[module] for module in missing)
    how = f"to install: python3 -m pip install {names}"
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix) == VENV:
        stop(f"the comparison needs {', '.join(missing)}, which {sys.executable} cannot import; {how}")
    if not python.exists() or missing_packages(python):
        if os.environ.get("WHITTLE_NO_INSTALL"):
            stop(f"the comparison needs {', '.join(missing)}, which {sys.executable} cannot import; {how}")
        print(f"installing {names} into {VENV.relative_to(ROOT)} (WHITTLE_NO_INSTALL=1 forbids it)", flush=True)
        log = BUILD / "install.log"
        with open(log, "w") as file:
            for command in (
                [sys.executable, "-m", "venv", "--system-site-packages", str(VENV)],
                [str(python), "-m", "pip", "install", *names.split()],
            ):
                if subprocess.run(command, stdout=file, stderr=file, check=False).returncode != 0:
                    stop(f"{', '.join(missing)} could not be installed, see {log}; {how}")
    os.execv(python, [str(python), *sys.argv])


# ---- The same nets for all ---------------------------------------------------------------------------


def stem_of(row, kind, batch):
    return FILES / f"{row}.{kind}.b{batch}"


def program_batches(batch, threads):
    """Programs with which we may compute a batch: all at once, one by one, or a part for each thread."""
    return sorted({batch, 1, *(batch // n for n in threads if batch % n == 0)}, reverse=True)


def write_nets(row, options):
    net, settings, _ = ROWS[row]
    wanted = sorted({b for batch in options.batches for b in program_batches(batch, options.threads)})
    maker = pathlib.Path(options.nets)
    newest = max(path.stat().st_mtime for path in [maker, *pathlib.Path(__file__).parent.glob("*.py")])
    stamp = FILES / f"{row}.batches"
    if stamp.exists() and stamp.stat().st_mtime > newest and set(wanted) <= set(map(int, stamp.read_text().split())):
        return
    description = json.dumps({"name": net, "options": settings})
    command = [maker, description, FILES / row, *map(str, wanted)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        stop(made.stderr.strip())
    for kind in ("f32", "int8"):
        for batch in wanted:
            write_files(stem_of(row, kind, batch), options.whittle)
    stamp.write_text(" ".join(map(str, wanted)))


def write_files(stem, whittle):
    import infer_files
    import numpy as np
    import onnx
    import ort
    from infer_net import Net

    program = ort.Program(whittle, f"{stem}.wtl")
    net = Net.of(program)
    net.save(f"{stem}.npz")
    infer_files.write_onnx(net, f"{stem}.codes.onnx")
    if net.int8:
        infer_files.write_onnx(net, f"{stem}.numbers.onnx", codes=False)
        infer_files.write_onnx(net, f"{stem}.codes1x1.onnx", rows=False)
        infer_files.write_onnx(net, f"{stem}.numbers1x1.onnx", codes=False, rows=False)
        onnx.save(ort.Graph(program).model(), f"{stem}.qop.onnx")
    infer_files.write_ncnn(net, stem)
    infer_files.write_tflite(net, f"{stem}.tflite")
    source = net.values[net.input]
    x = np.random.default_rng(1).standard_normal([max(1, SAMPLES // source.shape[0]), *source.shape], np.float32)
    if net.int8:
        x = np.clip(np.rint(x / source.scale) + source.zero, -128, 127).astype(np.int8)
    x.astype(np.int8 if net.int8 else np.float32).tofile(f"{stem}.in")


# ---- Processes that take turns --------------------------------------------------------------------------


class Side(Worker):
    def __init__(self, name, variant, command, cpus, env=None):
        self.name, self.variant = name, variant
        super().__init__(f"{name} {variant}".strip(), command, cpus, env)

    def outputs(self, stem, net):
        """Of the samples: numbers or our codes."""
        import numpy as np

        self.thaw()
        told = self.ask(f"check {stem}.in {stem}.out")
        self.freeze()
        return np.fromfile(f"{stem}.out", told.get("type", "int8" if net.int8 else "float32"))

    def warm_up(self):
        self.thaw()
        self.estimate = max(1e-4, *self.ask("run 0 1")["milliseconds"])
        if self.estimate < 500:
            self.estimate = max(1e-4, min(self.ask("run 0 3")["milliseconds"]))
            found = self.ask(f"run 0 {self.steps(20)}")["milliseconds"]
            self.estimate = max(1e-4, statistics.median(found))
        self.freeze()

    def steps(self, milliseconds):
        return max(1, min(4000, round(milliseconds / self.estimate)))

    def measure(self, seconds):
        self.thaw()
        # Caches, clocks and threads that slept come back in the steps that nobody counts.
        warm = 0 if self.estimate > 200 else self.steps(20)
        self.last = self.ask(f"run {warm} {self.steps(1e3 * seconds)}")
        self.freeze()
        self.milliseconds += self.last["milliseconds"]
        self.rounds.append(statistics.median(self.last["milliseconds"]))


def peer_command(name, stem, threads, variant, options):
    return [sys.executable, str(ROOT / "bench" / "peers" / "infer_worker.py"), name, str(stem), str(threads), variant,
            options.calls]  # fmt: skip


def peer_environment(options):
    env = KEEP_PAGES | {"TORCHINDUCTOR_CACHE_DIR": str(BUILD / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return env | ({} if options.compile else {"WHITTLE_NO_COMPILE": "1"})


def our_side(row, kind, batch, threads, cpus, options):
    """Our best way to compute a batch."""
    best = None
    for part in program_batches(batch, options.threads):
        command = [options.program, f"{stem_of(row, kind, part)}.wtl", str(threads), str(batch)]
        side = Side("whittle", "" if batch == 1 else f"{part} at a time", command, cpus)
        side.warm_up()
        if best is None or side.estimate < best.estimate:
            best, side = side, best
        if side is not None:
            side.end()
    return best


def peer_side(name, row, kind, batch, threads, cpus, options, notes):
    stem, env = stem_of(row, kind, batch), peer_environment(options)
    wanted = "guess" if options.quick else "choose"
    chooser = Worker(name, peer_command(name, stem, threads, wanted, options), cpus, env)
    chooser.end()
    times, failed = chooser.ready["variants"], chooser.ready["failed"]
    notes += [f"{name} {variant} is left out of {row} in {kind}: {why}" for variant, why in failed.items()]
    if not times:
        raise RuntimeError(f"{name} does not run {row} in {kind}: {next(iter(failed.values()))}")
    variant = min(times, key=times.get)
    return Side(name, variant, peer_command(name, stem, threads, variant, options), cpus, env)


# ---- Doing the same ---------------------------------------------------------------------------------------


def expect(row, kind, batch, ours):
    """Writes our outputs for the peers to be compared with."""
    from infer_net import Net

    stem = stem_of(row, kind, batch)
    net = Net.load(f"{stem}.npz")
    outputs = ours.outputs(stem, net)
    net.results(outputs).tofile(f"{stem}.expected")
    return net, outputs


def check_sameness(row, kind, batch, net, outputs, peers, cpus, options):
    """Stops if anybody computes something else. Returns a sentence."""
    from infer_net import least_alike, likeness

    stem = stem_of(row, kind, batch)
    told = []
    if net.int8:
        command = peer_command("onnxruntime", stem, 1, "qoperator", options)
        exact = Side("onnxruntime", "qoperator", command, cpus[:1], peer_environment(options))
        try:
            differ = int((exact.outputs(stem, net) != outputs).sum())
        finally:
            exact.end()
        if differ:
            stop(f"{row}: {differ} of {outputs.size} bytes of ONNX Runtime's QOperator graph differ from ours")
        told.append(f"ONNX Runtime's QOperators: 0 of {outputs.size} bytes differ")
    ours = net.results(outputs)
    for side in peers:
        theirs = net.results(side.outputs(stem, net))
        alike = likeness(ours, theirs)
        if alike < least_alike(side.name, net.int8):
            stop(f"{side.label} computes something else than we on {row} in {kind}: correlation {alike:.4f}")
        same = int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        told.append(f"{side.name} {alike:.4f}, {same}/{len(ours)}")
    return "; ".join(told)


# ---- One line of the table -----------------------------------------------------------------------------------


class Line:
    def __init__(self, row, kind, batch, threads):
        self.row, self.kind, self.batch, self.threads = row, kind, batch, threads
        self.target = ROWS[row][2] if (kind, batch, threads) == ("int8", 1, 1) else None
        self.sides, self.same = [], ""

    def run(self, options, notes):
        cpus = sorted(os.sched_getaffinity(0))[-self.threads :]
        try:
            self.sides.append(our_side(self.row, self.kind, self.batch, self.threads, cpus, options))
            net, outputs = expect(self.row, self.kind, self.batch, self.ours)
            for name in PEERS:
                try:
                    side = peer_side(name, self.row, self.kind, self.batch, self.threads, cpus, options, notes)
                except RuntimeError as error:
                    stop(f"{error}. All of {', '.join(PEERS)} must run")
                self.sides.append(side)
                side.freeze()
            self.same = check_sameness(self.row, self.kind, self.batch, net, outputs, self.peers, cpus, options)
            for side in self.sides:
                side.warm_up()
            slowest = max(side.estimate for side in self.sides)
            rounds = max(1, min(options.rounds, int(30_000 / slowest)))
            for turn in range(rounds):
                first = turn % len(self.sides)  # nobody always comes first
                for side in self.sides[first:] + self.sides[:first]:
                    side.measure(options.seconds)
        finally:
            for side in self.sides:
                side.end()

    @property
    def ours(self):
        return self.sides[0]

    @property
    def peers(self):
        return self.sides[1:]

    @property
    def best(self):
        return min(self.peers, key=Worker.median)

    @property
    def ratio(self):
        return self.best.median() / self.ours.median()

    def text(self):
        peers = " ".join(f"{side.median():>11.4f}" for side in self.peers)
        verdict = ""
        if self.target is not None:
            verdict = f"{self.target:.2f} {'holds' if self.ratio >= self.target else 'MISSED'}"
        return (f"{self.row:<15} {self.kind:<4} {self.batch:>5} {self.threads:>2} {self.ours.median():>9.4f} "
                f"{self.ours.percentile(0.1):>9.4f} {self.ours.percentile(0.9):>9.4f} {peers}  {self.ratio:>5.2f}  "
                f"{verdict:<11}  {self.best.label}")  # fmt: skip

    def csv(self):
        for side in self.sides:
            yield {
                "net": self.row, "type": self.kind, "batch": self.batch, "threads": self.threads, "side": side.name,
                "variant": side.variant, "version": side.ready.get("version", side.ready.get("kernels")),
                "median_ms": f"{side.median():.6f}", "p10_ms": f"{side.percentile(0.1):.6f}",
                "p90_ms": f"{side.percentile(0.9):.6f}", "fastest_round_ms": f"{min(side.rounds):.6f}",
                "runs": len(side.milliseconds), "import_ms": f"{side.ready.get('import_ms', 0):.3f}",
                "load_ms": f"{side.ready['load_ms']:.3f}", "first_ms": f"{side.ready['first_ms']:.4f}",
                "peak_mb": f"{side.last['peak_mb']:.1f}", "peak_grown_mb": f"{side.last['peak_grown_mb']:.1f}",
                "file_bytes": side.ready["file_bytes"], "library_bytes": side.ready["library_bytes"],
                "ratio": f"{self.ratio:.4f}", "target": self.target or "",
            }  # fmt: skip


HEADER = (f"{'net':<15} {'type':<4} {'batch':>5} {'T':>2} {'whittle':>9} {'p10':>9} {'p90':>9} "
          + " ".join(f"{name:>11}" for name in PEERS) + f"  {'ratio':>5}  {'target':<11}  best peer")  # fmt: skip
COST_HEADER = (f"{'net':<15} {'type':<4} {'side':<12} {'import ms':>9} {'load ms':>9} {'first ms':>9} {'peak MB':>9} "
               f"{'grown MB':>9} {'file kB':>9} {'library MB':>10}")  # fmt: skip


def cost_text(line, side):
    ready = side.ready
    return (f"{line.row:<15} {line.kind:<4} {side.name:<12} {ready.get('import_ms', 0):>9.1f} {ready['load_ms']:>9.2f} "
            f"{ready['first_ms']:>9.3f} {side.last['peak_mb']:>9.1f} {side.last['peak_grown_mb']:>9.1f} "
            f"{ready['file_bytes'] / 1000:>9.1f} {ready['library_bytes'] / 1e6:>10.1f}")  # fmt: skip


def write_csv(lines, paths):
    rows = [row for line in lines for row in line.csv()]
    for path in paths:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


# ---- The verb --------------------------------------------------------------------------------------------------


def names(known):
    def parse_names(text):
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no '{name}'; there are {', '.join(known)}")
        return text.split(",")

    return parse_names


def numbers(text):
    found = [int(word) for word in text.split(",") if word.isdecimal()]
    if len(found) != len(text.split(",")) or min(found) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers from 1 on: 1,2")
    return found


def parse(arguments):
    parser = argparse.ArgumentParser(prog="./run bench infer", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    for hidden in ("--program", "--nets", "--calls", "--whittle"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=names(ROWS), default=list(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--types", type=names(("int8", "f32")), default=["int8", "f32"], help="int8,f32 or one of them")
    parser.add_argument("--threads", type=numbers, help="numbers of threads (1,2)")
    parser.add_argument("--batches", type=numbers, help="samples in a run (1,32; quick: 1)")
    parser.add_argument("--rounds", type=int, help="turns that each side gets (9; quick: 3)")
    parser.add_argument("--quick", action="store_true",
                        help="short turns, and each peer in the setting that is usually best")  # fmt: skip
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="PyTorch without torch.compile")
    parser.add_argument("--out", type=pathlib.Path, help="write the figures to this CSV file too")
    options = parser.parse_args(arguments)
    options.seconds = 0.1 if options.quick else 0.25
    options.batches = options.batches or ([1] if options.quick else [1, 32])
    if options.rounds is None:
        options.rounds = 3 if options.quick else 9
    if options.rounds < 1:
        stop(f"--rounds {options.rounds} is not at least 1")
    if max(options.batches) > 1024:
        stop(f"--batches {max(options.batches)} is above 1024")
    cpus = len(os.sched_getaffinity(0))
    options.threads = options.threads or [n for n in (1, 2) if n <= cpus]
    if max(options.threads) > cpus:
        stop(f"--threads {max(options.threads)}: this process may use {cpus} CPUs")
    return options


def main():
    options = parse(sys.argv[1:])
    FILES.mkdir(parents=True, exist_ok=True)
    find_peers()
    (BUILD / "errors.log").write_text("")
    notes = []
    if options.compile and shutil.which("g++") is None:
        notes.append("torch.compile was left out: it needs g++")
        options.compile = False

    busy = busy_share()
    print(f"whittle beside {', '.join(PEERS)} on {cpu_name()}; {options.rounds} turns each, milliseconds per run")
    print("ratio: the best peer's median over ours, above 1 we are faster\n")
    print(HEADER, flush=True)
    lines, paths = [], [path for path in (BUILD / "infer.csv", options.out) if path]
    for kind in options.types:
        for batch in options.batches:
            for row in options.rows:
                write_nets(row, options)
                for threads in options.threads:
                    line = Line(row, kind, batch, threads)
                    line.run(options, notes)
                    lines.append(line)
                    write_csv(lines, paths)  # now, in case a later net stops us
                    print(line.text(), flush=True)

    print("\nthe same net? correlation with our outputs, and how often the largest output is the same")
    for line in lines:
        if line.threads == options.threads[0]:
            print(f"{line.row:<15} {line.kind:<4} batch {line.batch}: {line.same}")

    print("\nbeside time, on the fewest threads at the smallest batch: memory at the peak, and what of it came after "
          "the start")  # fmt: skip
    print(COST_HEADER)
    for line in lines:
        if (line.batch, line.threads) == (min(options.batches), min(options.threads)):
            for side in line.sides:
                print(cost_text(line, side))

    medians = {(line.row, line.kind, line.batch, line.threads): line.ours.median() for line in lines}
    for batch in options.batches:
        for threads in options.threads:
            pairs = [(row, medians[row, "f32", batch, threads] / medians[row, "int8", batch, threads])
                     for row in options.rows if {"f32", "int8"} <= set(options.types)]  # fmt: skip
            if pairs:
                print(f"\nour int8 over our float, batch {batch}, {threads}T: "
                      + ", ".join(f"{row} {ratio:.2f}" for row, ratio in pairs))  # fmt: skip

    versions = {side.name: side.ready["version"] for side in lines[0].peers}
    notes.append("versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if not versions["pytorch"].startswith(TESTED_TORCH + "."):
        notes.append(f"the comparison was made for PyTorch {TESTED_TORCH}")
    busy = max(busy, busy_share())
    if busy > 0.05:
        notes.append(f"the CPUs were {100 * busy:.0f} % busy with other work: a loaded machine")
    notes += [f"all figures: {path}" for path in paths]
    print()
    for note in dict.fromkeys(notes):
        print(f"- {note}")

    ratios = {threads: [line.ratio for line in lines
                        if (line.kind, line.batch, line.threads) == ("int8", 1, threads)]
              for threads in options.threads}  # fmt: skip
    if all(ratios.values()):
        if 1 in ratios and set(options.rows) == set(ROWS):
            mean = geomean(ratios[1])
            verdict = "holds" if mean >= TARGET_OF_ALL else "MISSED"
            print(f"target of the mean on one thread: {TARGET_OF_ALL}, {verdict}")
        print("geomean " + " ".join(f"{threads}T={geomean(values):.2f}" for threads, values in ratios.items()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped")
    except RuntimeError as error:
        stop(str(error))
