"""Trains the nets of bench/recipes.toml and keeps docs/results.md.

    recipes.py WHITTLE weights list            what there is, and what of it is trained
    recipes.py WHITTLE weights NAME [SEED]     train one net (every seed of its row)
    recipes.py WHITTLE results [NAME...]       train the quick rows, or those named; rewrite the table

A net lives in the cache folder as NAME-seedS.safetensors. Beside it, NAME-seedS.json
records the command, the figures and the file's sha256 once the training has ended; a
training that was stopped goes on where it was. A net whose recipe has changed since is
trained anew.
"""

import datetime
import hashlib
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPES = ROOT / "bench" / "recipes.toml"
FIGURES = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- table: written by ./run results -->", "<!-- end of table -->"


def stop(message):
    sys.exit(f"run: {message}")


def cache_folder():
    if "WHITTLE_CACHE" in os.environ:
        return pathlib.Path(os.environ["WHITTLE_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "whittle"


def cpu_name():
    """What the kernel calls this CPU, with its family and model: some hosts hide the name."""
    fields = {}
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name


class Net:
    """One row's net for one seed, in the cache."""

    def __init__(self, name, recipe, seed):
        self.label = f"{name}, seed {seed}"
        self.arguments = [*shlex.split(recipe["train"]), "--seed", str(seed)]
        self.file = cache_folder() / f"{name}-seed{seed}.safetensors"
        self.record_file = self.file.with_suffix(".json")
        self.log = self.file.with_suffix(".csv")

    def record(self):
        """What was written when the training ended, or None."""
        try:
            record = json.loads(self.record_file.read_text())
        except (OSError, ValueError):
            return None
        return record if record.get("arguments") == self.arguments and self.file.exists() else None

    def state(self):
        if self.record():
            return "trained"
        return "stopped half-way" if self._begun().exists() else "-"

    def _begun(self):
        return self.file.with_suffix(".begun")

    def train(self, whittle):
        """Trains unless that is done. Returns the record."""
        record = self.record()
        if record:
            return record
        self.file.parent.mkdir(parents=True, exist_ok=True)
        command = json.dumps(self.arguments)
        goes_on = self._begun().exists() and self._begun().read_text() == command
        if not goes_on:
            # What a former recipe left must not be resumed by this one.
            for old in (self.file, self.log, self.record_file,
                        *(self.file.with_name(self.file.name + end) for end in (".last", ".last.1"))):
                old.unlink(missing_ok=True)
            self._begun().write_text(command)
        print(f"{self.label}: {'going on' if goes_on else 'training'} ...", flush=True)
        run = subprocess.run(
            [whittle, "train", *self.arguments, "--out", self.file, "--log", self.log, "--json", "--quiet",
             *(["--resume"] if goes_on else [])],
            stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            stop(f"{self.label}: whittle train ended with {run.returncode}")
        result = json.loads(run.stdout.strip().splitlines()[-1])
        record = {
            "arguments": self.arguments,
            "test": result["test"],
            "parameters": result["parameters"],
            "seconds": round(sum(self._epoch_seconds()), 1),
            "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
            "date": datetime.date.today().isoformat(),
            "cpu": cpu_name(),
            "threads": len(os.sched_getaffinity(0)),
        }
        temporary = self.record_file.with_suffix(".new")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        temporary.replace(self.record_file)
        self._begun().unlink()
        return record

    def _epoch_seconds(self):
        """Of every epoch, also of those before a stop."""
        head, *lines = [line.split(",") for line in self.log.read_text().split()]
        column = head.index("seconds")
        return [float(line[column]) for line in lines]


def figure(record):
    """A row's metric: accuracy in percent, or the mean squared error."""
    test = record["test"]
    return ("accuracy", 100 * test["accuracy"]) if "accuracy" in test else ("mse", test["mse"])


def digits(metric, value):
    return f"{value:.2f} %" if metric == "accuracy" else f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def summary(row, recipe):
    """Mean, spread and whether the bound holds, of the recorded runs."""
    metric = row["metric"]
    values = row["values"]
    mean = statistics.fmean(values)
    spread = f" ± {digits(metric, statistics.stdev(values)).removesuffix(' %')}" if len(values) > 1 else ""
    bound = recipe["bound"] * (100 if metric == "accuracy" else 1)
    holds = mean >= bound if metric == "accuracy" else mean <= bound
    wanted = f"{'≥' if metric == 'accuracy' else '≤'} {digits(metric, bound)}"
    return mean, spread, wanted, holds


def write_page(recipes, figures):
    lines = [
        "| net | test | runs | wanted | parameters | one run | measured |",
        "|---|---|---|---|---|---|---|",
    ]
    commands = ["", "```sh"]
    for name, recipe in recipes.items():
        row = figures.get(name)
        if row is None:
            lines.append(f"| {name} | not measured yet | | | | | |")
            continue
        mean, spread, wanted, holds = summary(row, recipe)
        lines.append(
            f"| {name} | {'**' if holds else ''}{digits(row['metric'], mean)}{'**' if holds else ''}{spread}"
            f"{' (MSE)' if row['metric'] == 'mse' else ''} | {len(row['values'])} | {wanted} | {row['parameters']:,} |"
            f" {row['seconds']:,.0f} s | {row['date']} |")
    for name, recipe in recipes.items():
        commands.append(f"# {name}\nwhittle train {recipe['train']}")
    commands.append("```")
    machines = sorted({f"{row['cpu']}, {row['threads']} threads" for row in figures.values()})
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join([BEGIN, "", *lines, "", *[f"Measured on {machine}." for machine in machines], *commands, "", END])
    PAGE.write_text(before + table + after)


def verb_list(recipes):
    print(f"cache folder: {cache_folder()}")
    for name, recipe in recipes.items():
        nets = [Net(name, recipe, seed) for seed in range(recipe["seeds"])]
        done = [record for net in nets if (record := net.record())]
        half = sum(net.state() == "stopped half-way" for net in nets)
        text = f"{len(done)} of {len(nets)} trained" + (f", {half} stopped half-way" if half else "")
        if done:
            metric = figure(done[0])[0]
            text += f", mean test {metric} {digits(metric, statistics.fmean(figure(r)[1] for r in done))}"
        print(f"  {name:28} {text}")


def verb_weights(recipes, whittle, name, seeds):
    recipe = recipes[name]
    for seed in seeds:
        net = Net(name, recipe, seed)
        metric, value = figure(net.train(whittle))
        print(f"{net.label}: test {metric} {digits(metric, value)}, {net.file}")


def verb_results(recipes, whittle, names):
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    failed = []
    for name in names:
        recipe = recipes[name]
        records = [Net(name, recipe, seed).train(whittle) for seed in range(recipe["seeds"])]
        row = figures[name] = {
            "metric": figure(records[0])[0],
            "values": [round(figure(record)[1], 6) for record in records],
            "parameters": records[0]["parameters"],
            "seconds": statistics.median(record["seconds"] for record in records),
            **{key: records[-1][key] for key in ("date", "cpu", "threads")},
        }
        mean, spread, wanted, holds = summary(row, recipe)
        print(f"{name}: {digits(row['metric'], mean)}{spread}, wanted {wanted}: {'yes' if holds else 'NO'}")
        if not holds:
            failed.append(name)
    FIGURES.write_text(json.dumps({name: figures[name] for name in recipes if name in figures}, indent=1) + "\n")
    write_page(recipes, figures)
    if failed:
        stop(f"below what was wanted: {', '.join(failed)}")


def main():
    whittle, verb, *rest = sys.argv[1:]
    recipes = tomllib.loads(pathlib.Path(os.environ.get("WHITTLE_RECIPES", RECIPES)).read_text())
    names = [argument for argument in rest if not argument.isdigit()]
    for name in names:
        if name not in recipes and name != "list":
            stop(f"there is no net '{name}'; `./run weights list` names them")
    if verb == "weights" and names in ([], ["list"]):
        verb_list(recipes)
    elif verb == "weights" and len(names) == 1 and len(rest) <= 2:
        seeds = [int(argument) for argument in rest[1:]] or range(recipes[names[0]]["seeds"])
        verb_weights(recipes, whittle, names[0], seeds)
    elif verb == "results":
        verb_results(recipes, whittle, names or [name for name, recipe in recipes.items() if recipe.get("quick")])
    else:
        stop("weights takes `list`, or a name and perhaps a seed")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped; the same command goes on")
