"""Does `whittle compress` keep its promise? Trains nets with other seeds, compresses each, and counts on test data, which
the search never sees, how often more was lost than was promised.

    promise.py WHITTLE [--rows glyphs telescope] [--seeds 20] [--max-drop 0.5] [--folder build/promise] [--compress "--target both"]

Test data are a sample, too: with 95 % confidence about one count in twenty may be over the promise, and a few more by
the luck of the test samples. A row that is there already is read, not made again.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys

ROWS = {
    "glyphs": "--data glyphs --model lenet-300-100 --rate 0.05 --schedule cosine --epochs 4",
    "telescope": "--data telescope --model edge-complex --optimizer adam --rate 0.001 --batch 16 --epochs 10",
}


def whittle(program, *words):
    """What a command's last line says, as JSON."""
    run = subprocess.run([program, *map(str, words), "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"promise: whittle {words[0]} ended with {run.returncode}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def one(program, folder, name, seed, options):
    """The result of one net, which is kept beside it."""
    net = folder / f"{name}-{seed}.safetensors"
    out = folder / f"{name}-{seed}.wtl"
    kept = folder / f"{name}-{seed}.json"
    words = [f"--max-drop={options.max_drop}", *shlex.split(options.compress)]
    if kept.exists():
        result = json.loads(kept.read_text())
        if result["words"] == words:
            return result
    if not net.exists():
        whittle(program, "train", *shlex.split(ROWS[name]), "--seed", seed, "--out", net)
    for old in (out.with_name(out.name + ".work")).glob("*"):
        old.unlink()
    result = {**whittle(program, "compress", net, *words, "--seed", seed, "--out", out), "words": words}
    kept.write_text(json.dumps(result) + "\n")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whittle")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("build/promise"))
    parser.add_argument("--compress", default="", help="further options of compress, as one word")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.rows:
        print(f"{name}: whittle train {ROWS[name]}")
        drops, smaller, faster, unsupported = [], [], [], 0
        for seed in range(options.seeds):
            r = one(options.whittle, options.folder, name, seed, options)
            drops.append(100 * (r["test"]["float"]["accuracy"] - r["test"]["kept"]["accuracy"]))
            smaller.append(r["bytes"]["int8"] / r["bytes"]["kept"])
            faster.append(r["latency_us"]["int8"] / r["latency_us"]["kept"])
            unsupported += not r["supported"]
            print(f"  seed {seed:2}  kept {r['chosen']:8} at most {r['validation']['bound']:5.2f}  on test data {drops[-1]:5.2f}"
                  f"  {smaller[-1]:5.2f} times smaller, {faster[-1]:5.2f} times faster than int8"
                  + ("" if r["supported"] else "  (not supported: plain int8)"), flush=True)
        print(f"{name}: {len(drops)} nets, on test data {sum(d > options.max_drop + 1e-9 for d in drops)} lost more than"
              f" {options.max_drop} points, {unsupported} could not be promised anything; median {statistics.median(smaller):.2f}"
              f" times smaller and {statistics.median(faster):.2f} times faster than plain int8")


if __name__ == "__main__":
    main()
