"""Trains and quantizes the nets of bench/recipes.toml and keeps docs/results.md.

    recipes.py WHITTLE weights list            what there is, and what of it is trained
    recipes.py WHITTLE weights NAME [SEED]     make one net (every seed of its row)
    recipes.py WHITTLE results [NAME...]       make the quick rows, or those named; rewrite the tables
    recipes.py WHITTLE results quant           the quick quantized rows whose nets in float are trained

A row with `from` begins with the net of another row: `train` goes on with it, `quantize` quantizes it
without training. It is compared with that net. A net lives in the cache folder as NAME-seedS.safetensors. Beside it, NAME-seedS.json
records the command, the figures and the file's sha256 once the training has ended; a
training that was stopped goes on where it was. A net whose recipe has changed since, or
that began with another net than there is now, is made anew.
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
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPES = ROOT / "bench" / "recipes.toml"
FIGURES = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- table: written by ./run results -->", "<!-- end of table -->"
QUANT_BEGIN, QUANT_END = "<!-- quantized: written by ./run results -->", "<!-- end of quantized -->"


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

    def __init__(self, recipes, name, seed):
        recipe = recipes[name]
        self.label = f"{name}, seed {seed}"
        self.verb = "quantize" if "quantize" in recipe else "train"
        self.arguments = [*shlex.split(recipe[self.verb]), "--seed", str(seed)]
        self.base = Net(recipes, recipe["from"], recipe.get("from_seed", seed)) if "from" in recipe else None
        self.file = cache_folder() / f"{name}-seed{seed}.safetensors"
        self.record_file = self.file.with_suffix(".json")
        self.log = self.file.with_suffix(".csv")

    def record(self):
        """What was written when the training ended, or None."""
        try:
            record = json.loads(self.record_file.read_text())
        except (OSError, ValueError):
            return None
        if record.get("arguments") != self.arguments or not self.file.exists():
            return None
        return record if record.get("from") == self._origin() else None

    def _origin(self):
        """The bytes of the net that this one begins with."""
        base = self.base.record() if self.base else None
        return base["sha256"] if base else None

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
        if self.base:
            self.base.train(whittle)
        command = json.dumps([*self.arguments, self._origin()] if self.base else self.arguments)
        goes_on = self._begun().exists() and self._begun().read_text() == command
        if not goes_on:
            # What a former recipe left must not be resumed by this one.
            for old in (self.file, self.log, self.record_file,
                        *(self.file.with_name(self.file.name + end) for end in (".last", ".last.1"))):
                old.unlink(missing_ok=True)
            self._begun().write_text(command)
        print(f"{self.label}: {'going on' if goes_on else self.verb} ...", flush=True)
        if self.verb == "train":
            start = ["train", *(["--from", self.base.file] if self.base else [])]
            more = ["--log", self.log, *(["--resume"] if goes_on else [])]
        else:
            start, more = ["quantize", self.base.file], []
        begun = time.monotonic()
        run = subprocess.run([whittle, *start, *self.arguments, "--out", self.file, "--json", "--quiet", *more],
                             stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            stop(f"{self.label}: whittle {self.verb} ended with {run.returncode}")
        result = json.loads(run.stdout.strip().splitlines()[-1])
        seconds = sum(self._epoch_seconds()) if self.verb == "train" else time.monotonic() - begun
        record = {
            "arguments": self.arguments,
            **({"from": self._origin()} if self.base else {}),
            "test": result["test"],
            "parameters": result["parameters"] if self.verb == "train" else self.base.record()["parameters"],
            **({"bits_per_weight": result["weights"]["bits_per_weight"]} if "weights" in result else {}),
            "seconds": round(seconds, 1),
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
    if "drop" in recipe:  # points below the net in float
        return mean, spread, f"drop ≤ {recipe['drop']:g}", row["float"] - mean <= recipe["drop"]
    if "bound" not in recipe:
        return mean, spread, "", True
    bound = recipe["bound"] * (100 if metric == "accuracy" else 1)
    holds = mean >= bound if metric == "accuracy" else mean <= bound
    wanted = f"{'≥' if metric == 'accuracy' else '≤'} {digits(metric, bound)}"
    return mean, spread, wanted, holds


def write_between(begin, end, lines):
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(before + "\n".join([begin, "", *lines, "", end]) + after)


def write_quantized(recipes, figures):
    """The rows that begin with another row's net, beside that net."""
    lines = [
        "| net | command | float | test | difference | bits/weight | runs | wanted | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, recipe in recipes.items():
        if "from" not in recipe:
            continue
        verb = "quantize" if "quantize" in recipe else "train"
        command = f"`{verb} {'' if verb == 'quantize' else '--from '}{recipe['from']} {recipe[verb]}`"
        row = figures.get(name)
        if row is None:
            lines.append(f"| {name} | {command} | | not measured yet | | | | | |")
            continue
        mean, spread, wanted, holds = summary(row, recipe)
        bold = "**" if wanted and holds else ""
        bits = f"{row['bits_per_weight']:.2f}" if "bits_per_weight" in row else ""
        lines.append(f"| {name} | {command} | {row['float']:.2f} % | {bold}{digits(row['metric'], mean)}{bold}{spread} |"
                     f" {mean - row['float']:+.2f} | {bits} | {len(row['values'])} | {wanted} | {row['date']} |")
    write_between(QUANT_BEGIN, QUANT_END, lines)


def write_page(recipes, figures):
    lines = [
        "| net | test | runs | wanted | parameters | one run | measured |",
        "|---|---|---|---|---|---|---|",
    ]
    commands = ["", "```sh"]
    quantized = recipes
    recipes = {name: recipe for name, recipe in recipes.items() if "from" not in recipe}
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
    write_between(BEGIN, END, [*lines, "", *[f"Measured on {machine}." for machine in machines], *commands])
    write_quantized(quantized, figures)


def verb_list(recipes):
    print(f"cache folder: {cache_folder()}")
    for name, recipe in recipes.items():
        nets = [Net(recipes, name, seed) for seed in range(recipe["seeds"])]
        done = [record for net in nets if (record := net.record())]
        half = sum(net.state() == "stopped half-way" for net in nets)
        text = f"{len(done)} of {len(nets)} trained" + (f", {half} stopped half-way" if half else "")
        if done:
            metric = figure(done[0])[0]
            text += f", mean test {metric} {digits(metric, statistics.fmean(figure(r)[1] for r in done))}"
        print(f"  {name:28} {text}")


def verb_weights(recipes, whittle, name, seeds):
    for seed in seeds:
        net = Net(recipes, name, seed)
        metric, value = figure(net.train(whittle))
        print(f"{net.label}: test {metric} {digits(metric, value)}, {net.file}")


def verb_results(recipes, whittle, names):
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    failed = []
    for name in names:
        recipe = recipes[name]
        nets = [Net(recipes, name, seed) for seed in range(recipe["seeds"])]
        records = [net.train(whittle) for net in nets]
        row = figures[name] = {
            "metric": figure(records[0])[0],
            "values": [round(figure(record)[1], 6) for record in records],
            "parameters": records[0]["parameters"],
            "seconds": statistics.median(record["seconds"] for record in records),
            **{key: records[-1][key] for key in ("date", "cpu", "threads")},
        }
        if "from" in recipe:
            row["float"] = round(statistics.fmean(figure(net.base.record())[1] for net in nets), 6)
        if "bits_per_weight" in records[0]:
            row["bits_per_weight"] = round(statistics.fmean(record["bits_per_weight"] for record in records), 4)
        mean, spread, wanted, holds = summary(row, recipe)
        print(f"{name}: {digits(row['metric'], mean)}{spread}"
              + (f", wanted {wanted}: {'yes' if holds else 'NO'}" if wanted else ""), flush=True)
        if not holds:
            failed.append(name)
    FIGURES.write_text(json.dumps({name: figures[name] for name in recipes if name in figures}, indent=1) + "\n")
    write_page(recipes, figures)
    if failed:
        stop(f"below what was wanted: {', '.join(failed)}")


def quick_names(recipes, quantized):
    return [name for name, recipe in recipes.items() if recipe.get("quick") and ("from" in recipe) == quantized]


def all_trained(recipes, name):
    """Is every net there that the row begins with?"""
    return all(Net(recipes, name, seed).base.record() for seed in range(recipes[name]["seeds"]))


def main():
    whittle, verb, *rest = sys.argv[1:]
    recipes = tomllib.loads(pathlib.Path(os.environ.get("WHITTLE_RECIPES", RECIPES)).read_text())
    names = [argument for argument in rest if not argument.isdigit()]
    quantized = [name for name in quick_names(recipes, True) if all_trained(recipes, name)]
    for name in names:
        if name not in recipes and name not in ("list", "quant"):
            stop(f"there is no net '{name}'; `./run weights list` names them")
    if verb == "weights" and names in ([], ["list"]):
        verb_list(recipes)
    elif verb == "weights" and len(names) == 1 and len(rest) <= 2:
        seeds = [int(argument) for argument in rest[1:]] or range(recipes[names[0]]["seeds"])
        verb_weights(recipes, whittle, names[0], seeds)
    elif verb == "results":
        chosen = [name for asked in names for name in (quantized if asked == "quant" else [asked])]
        if "quant" in names:
            for name in quick_names(recipes, True):
                if name not in quantized:
                    print(f"{name}: left out, because {recipes[name]['from']} is not trained")
        verb_results(recipes, whittle, chosen if names else quick_names(recipes, False))
    else:
        stop("weights takes `list`, or a name and perhaps a seed")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped; the same command goes on")
