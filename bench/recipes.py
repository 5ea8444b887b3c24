"""Trains the nets of bench/recipes.toml and keeps docs/results.md.

    recipes.py WHITTLE weights list            what there is, and what of it is trained
    recipes.py WHITTLE weights NAME [SEED]     train one net (every seed of its row)
    recipes.py WHITTLE results [NAME...]       train the quick rows, or those named; rewrite the tables
    recipes.py WHITTLE results GROUP           the same for a group's quick rows, and those that are trained

A row with `train` is a net of its own. A row with `base` and `steps` begins with another row's net: each step is a
whittle command, the last one's test figure is the row's. It is compared with that net, or with the row that `than`
names: "the same training in float". A net lives in the cache folder as NAME-seedS.safetensors.
Beside it, NAME-seedS.json records the command, the figures and the file's sha256 once it is done; a training that was
stopped goes on where it was. A net whose recipe has changed since, or whose base is another, is made anew.
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
DERIVED_BEGIN, DERIVED_END = "<!-- compressed: written by ./run results -->", "<!-- end of compressed -->"


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
        return self._finish({
            "test": result["test"],
            "parameters": result["parameters"],
            "seconds": round(sum(self._epoch_seconds()), 1),
        })

    def _finish(self, figures):
        """Writes the record: what was done, the figures, the file, when and where."""
        record = {
            "arguments": self.arguments,
            **figures,
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


class Derived(Net):
    """A net made of another row's by the commands of `steps`: "prune {in} --amount 0.5", "train --from {in} ..."."""

    def __init__(self, name, recipe, seed, recipes):
        super().__init__(name, {"train": ""}, seed)
        self.seed = seed
        self.base = net_of(recipes, recipe["base"], recipe.get("base_seed", seed))
        self.steps = [shlex.split(step) for step in recipe["steps"]]

    def record(self):
        base = self.base.record()
        self.arguments = [*self.steps, base and base["sha256"]]  # of another base it is another net
        return super().record() if base else None

    def train(self, whittle):
        self.base.train(whittle)
        if record := self.record():
            return record
        self.file.parent.mkdir(parents=True, exist_ok=True)
        goes_on, results = self._so_far()
        for number in range(len(results), len(self.steps)):
            print(f"{self.label}: {'going on with' if goes_on else ''} step {number + 1} of {len(self.steps)} ...",
                  flush=True)
            results.append(self._run(whittle, number, goes_on))
            goes_on = False
            self._begun().write_text(json.dumps({"arguments": self.arguments, "results": results}))
        before = self.base.record()["test"]
        last = results[-1]
        return self._finish({
            "test": last["test"].get("after", last["test"]),
            "before": before,
            "ratios": ratios(results),
        })

    def _so_far(self):
        """Whether a step was stopped half-way, and the results of those before."""
        try:
            begun = json.loads(self._begun().read_text())
        except (OSError, ValueError):
            begun = {}
        if begun.get("arguments") == self.arguments:
            return True, begun["results"]
        for number in range(len(self.steps)):
            out = self._out(number)
            for old in out.parent.glob(out.name + "*"):  # and the states of trainings beside it
                old.unlink()
        self._begun().write_text(json.dumps({"arguments": self.arguments, "results": []}))
        return False, []

    def _out(self, number):
        last = number == len(self.steps) - 1
        return self.file if last else self.file.with_name(f"{self.file.stem}.step{number + 1}.safetensors")

    def command(self, number):
        """The words of a step, behind whittle's own name."""
        start = self.base.file if number == 0 else self._out(number - 1)
        words = [str(start) if word == "{in}" else word for word in self.steps[number]]
        draws = words[0] != "prune" or "--epochs" in words  # else a seed is refused, of which nothing would come
        return [*words, *(["--seed", str(self.seed)] if draws else []), "--out", str(self._out(number)), "--json", "--quiet"]

    def _run(self, whittle, number, goes_on):
        words = self.command(number)
        run = subprocess.run([whittle, *words, *(["--resume"] if goes_on and "--epochs" in words else [])],
                             stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            stop(f"{self.label}: whittle {words[0]} ended with {run.returncode}")
        return json.loads(run.stdout.strip().splitlines()[-1])


def ratios(results):
    """How much less there is after all steps, from what they printed: weights, multiplications, time; and bits per
    weight, where that was counted."""
    found = {}
    for result in results:
        if "bits_per_weight" in result.get("weights", {}):
            found["bits"] = result["weights"]["bits_per_weight"]
        if result.get("layers") and "zeros" in result["layers"][0]:
            left = sum(layer["elements"] - layer["zeros"] for layer in result["layers"])
            found["weights"] = sum(layer["elements"] for layer in result["layers"]) / max(1, left)
        for key, name in (("macs", "macs"), ("latency_us", "speed")):
            if key in result and result[key]["before"] != result[key]["after"]:
                found[name] = found.get(name, 1) * result[key]["before"] / result[key]["after"]
    return found


def net_of(recipes, name, seed):
    recipe = recipes[name]
    return Derived(name, recipe, seed, recipes) if "base" in recipe else Net(name, recipe, seed)


def seeds_of(recipe):
    return range(recipe.get("seeds", 1))


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


def derived_summary(row, recipe):
    """What was lost against the base, in points (or parts of the error), and whether all that is wanted holds."""
    mean = statistics.fmean(row["values"])
    before = statistics.fmean(row["before"])
    lost = before - mean if row["metric"] == "accuracy" else 100 * (mean / before - 1)
    ratios = {key: statistics.fmean(ratio[key] for ratio in row["ratios"]) for key in row["ratios"][0]}
    holds = (lost <= recipe.get("lose", lost) + 1e-9 and mean >= 100 * recipe.get("bound", 0)
             and all(ratios.get(key, 1) >= least for key, least in recipe.get("least", {}).items()))
    return mean, before, lost, ratios, holds


def derived_wanted(recipe, unit=""):
    """What a row may lose and must reach, in words; empty if nothing was asked."""
    lose = [f"lost ≤ {recipe['lose']:g}{unit}"] if "lose" in recipe else []
    return ", ".join([*lose, *([f"≥ {100 * recipe['bound']:g} %"] if "bound" in recipe else [])])


def write_derived(recipes, figures):
    """The table of compressed nets, as lines."""
    lines = [
        "| net | of | before | after | lost | wanted | bits per weight | fewer weights | fewer MACs | faster | runs | measured |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, recipe in recipes.items():
        row = figures.get(name)
        if row is None:
            lines.append(f"| {name} | {recipe.get('than', recipe['base'])} | not measured yet | | | | | | | | | |")
            continue
        mean, before, lost, ratios, holds = derived_summary(row, recipe)
        unit = "" if row["metric"] == "accuracy" else " %"
        wanted = recipe.get("least", {})
        bits = f"{ratios['bits']:.2f}" if "bits" in ratios else ""
        times = [f"{ratios[key]:.4g}x" + (f" (≥ {wanted[key]}x)" if key in wanted else "") if ratios.get(key, 1) != 1 else ""
                 for key in ("weights", "macs", "speed")]
        asked = derived_wanted(recipe, unit)
        bold = "**" if holds and asked else ""
        spread = f" ± {statistics.stdev(row['values']):.2f}" if len(row["values"]) > 1 else ""
        lines.append(
            f"| {name} | {recipe.get('than', recipe['base'])} | {digits(row['metric'], before)} | {digits(row['metric'], mean)}{spread} |"
            f" {bold}{lost:.2f}{unit}{bold} | {asked} | {bits} | {' | '.join(times)} | {len(row['values'])} |"
            f" {row['date']} |")
    lines += ["", "```sh"]
    for name, recipe in recipes.items():
        lines += [f"# {name}", *(f"whittle {step.replace('{in}', '...')}" for step in recipe["steps"])]
    return [*lines, "```"]


def between(text, begin, end, lines):
    """The page with these lines where the marks are; unchanged if it has none."""
    before, mark, rest = text.partition(begin)
    if not mark:
        return text
    return before + "\n".join([begin, "", *lines, "", end]) + rest.partition(end)[2]


def write_page(recipes, figures):
    every, recipes = recipes, {name: recipe for name, recipe in recipes.items() if "train" in recipe}
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
    text = between(PAGE.read_text(), BEGIN, END,
                   [*lines, "", *[f"Measured on {machine}." for machine in machines], *commands])
    derived = {name: recipe for name, recipe in every.items() if "base" in recipe}
    PAGE.write_text(between(text, DERIVED_BEGIN, DERIVED_END, write_derived(derived, figures)))


def verb_list(recipes):
    print(f"cache folder: {cache_folder()}")
    for name, recipe in recipes.items():
        nets = [net_of(recipes, name, seed) for seed in seeds_of(recipe)]
        done = [record for net in nets if (record := net.record())]
        half = sum(net.state() == "stopped half-way" for net in nets)
        text = f"{len(done)} of {len(nets)} trained" + (f", {half} stopped half-way" if half else "")
        if done:
            metric = figure(done[0])[0]
            text += f", mean test {metric} {digits(metric, statistics.fmean(figure(r)[1] for r in done))}"
        print(f"  {name:28} {text}")


def verb_weights(recipes, whittle, name, seeds):
    for seed in seeds:
        net = net_of(recipes, name, seed)
        metric, value = figure(net.train(whittle))
        print(f"{net.label}: test {metric} {digits(metric, value)}, {net.file}")


def verb_results(recipes, whittle, names):
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    failed = []
    for name in names:
        recipe = recipes[name]
        records = [net_of(recipes, name, seed).train(whittle) for seed in seeds_of(recipe)]
        row = figures[name] = {
            "metric": figure(records[0])[0],
            "values": [round(figure(record)[1], 6) for record in records],
            **{key: records[-1][key] for key in ("date", "cpu", "threads")},
        }
        if "base" in recipe:
            row["before"] = [round(figure({"test": test})[1], 6) for test in compared_with(recipes, recipe, whittle, records)]
            row["ratios"] = [{key: round(ratio, 4) for key, ratio in record["ratios"].items()} for record in records]
            mean, before, lost, ratios, holds = derived_summary(row, recipe)
            asked = derived_wanted(recipe)
            print(f"{name}: {digits(row['metric'], before)} -> {digits(row['metric'], mean)}, lost {lost:.2f}"
                  + "".join(f", {ratio:.4g}{'' if key == 'bits' else 'x'} {key}" for key, ratio in ratios.items())
                  + (f", wanted {asked}: {'yes' if holds else 'NO'}" if asked else ""), flush=True)
        else:
            row["parameters"] = records[0]["parameters"]
            row["seconds"] = statistics.median(record["seconds"] for record in records)
            mean, spread, wanted, holds = summary(row, recipe)
            print(f"{name}: {digits(row['metric'], mean)}{spread}, wanted {wanted}: {'yes' if holds else 'NO'}")
        if not holds:
            failed.append(name)
    FIGURES.write_text(json.dumps({name: figures[name] for name in recipes if name in figures}, indent=1) + "\n")
    write_page(recipes, figures)
    if failed:
        stop(f"below what was wanted: {', '.join(failed)}")


def compared_with(recipes, recipe, whittle, records):
    """The test figures that a row's are compared with, seed by seed."""
    if "than" not in recipe:
        return [record["before"] for record in records]
    return [net_of(recipes, recipe["than"], seed).train(whittle)["test"] for seed in seeds_of(recipe)]


def done(recipes, name):
    return all(net_of(recipes, name, seed).record() for seed in seeds_of(recipes[name]))


def quick(recipes, name):
    """Whether a row takes minutes at most: so must the net that it begins with, unless it is there."""
    recipe = recipes[name]
    base = recipe.get("base")
    return recipe.get("quick", False) and (base is None or done(recipes, base) or quick(recipes, base))


def group_of(recipes, group):
    """The rows of a group that are quick or done."""
    return [name for name, recipe in recipes.items()
            if recipe.get("group") == group and (quick(recipes, name) or done(recipes, name))]


def main():
    whittle, verb, *rest = sys.argv[1:]
    recipes = tomllib.loads(pathlib.Path(os.environ.get("WHITTLE_RECIPES", RECIPES)).read_text())
    names = [argument for argument in rest if not argument.isdigit()]
    if verb == "results":  # a group stands for its rows
        names = [row for name in names for row in ([name] if name in recipes else group_of(recipes, name) or [name])]
    for name in names:
        if name not in recipes and name != "list":
            stop(f"there is no net '{name}'; `./run weights list` names them")
    if verb == "weights" and names in ([], ["list"]):
        verb_list(recipes)
    elif verb == "weights" and len(names) == 1 and len(rest) <= 2:
        seeds = [int(argument) for argument in rest[1:]] or seeds_of(recipes[names[0]])
        verb_weights(recipes, whittle, names[0], seeds)
    elif verb == "results":
        verb_results(recipes, whittle, names or [name for name in recipes if quick(recipes, name)])
    else:
        stop("weights takes `list`, or a name and perhaps a seed")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped; the same command goes on")
