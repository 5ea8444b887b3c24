"""A recipe that prunes without training failed when prune began to refuse a --seed of which nothing would come:
`./run results` gave it to every step. So every step of bench/recipes.toml is asked here whether the command takes its
words, and a small recipe goes from end to end.

    test_recipes.py WHITTLE
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHITTLE = pathlib.Path(sys.argv.pop())


def load_recipes_py():
    spec = importlib.util.spec_from_file_location("recipes", ROOT / "bench" / "recipes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipes_py = load_recipes_py()

SMALL = """
[net]
train = "--model lenet-300-100 --data glyphs --first 200 --epochs 1"

[cut]
base = "net"
steps = ["prune {in} --amount 0.5 --scope global", "quantize {in} --bits 8 --data glyphs --first 100",
         "prune {in} --amount 0.6 --epochs 1 --data glyphs --first 200"]
"""


class Recipes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.environ["WHITTLE_CACHE"] = folder.name
        os.environ["WHITTLE_RUNS"] = ""

    def test_every_step_is_understood(self):
        """Its options are read and judged before its model is, which is not there."""
        recipes = tomllib.loads((ROOT / "bench" / "recipes.toml").read_text())
        steps = 0
        for name, recipe in recipes.items():
            if "base" not in recipe:
                continue
            net = recipes_py.net_of(recipes, name, 0)
            for number in range(len(net.steps)):
                words = net.command(number)
                missing = words[words.index("--from") + 1] if "--from" in words else words[1]
                run = subprocess.run([WHITTLE, *words], capture_output=True, text=True)
                with self.subTest(recipe=name, words=" ".join(words)):
                    self.assertEqual(run.returncode, 1, run.stderr)
                    self.assertIn(f"cannot read {missing}", run.stderr)
                steps += 1
        self.assertGreater(steps, 50)

    def test_from_end_to_end(self):
        recipes = tomllib.loads(SMALL)
        record = recipes_py.net_of(recipes, "cut", 3).train(WHITTLE)
        self.assertEqual(record["sha256"], recipes_py.net_of(recipes, "cut", 3).record()["sha256"])
        self.assertGreater(record["ratios"]["weights"], 2)
        for name in ("net-seed3", "cut-seed3.step1", "cut-seed3.step2", "cut-seed3"):
            self.assertTrue((self.folder / f"{name}.safetensors").exists(), name)


if __name__ == "__main__":
    unittest.main()
