"""A net as every peer's builder reads it: the ops of a program (.wtl) with real scales.

A program keeps the multipliers M = s_x s_w / s_y of its channels, peers want the weight scales s_w = M s_y / s_x.
Images are NHWC and filters OHWI here, as in the program; builders turn them if their peer wants that.
Saved as .npz, so that a worker process reads it with NumPy alone.
"""

import dataclasses
import json

import numpy as np


# How alike the outputs of one net must be. A peer that leaves out a bias or a padding, or reads another weight, is
# near 0. Others differ from us by roundings. ncnn's grids have no zero-points, so behind a ReLU it has half as many
# codes; in a random net of 27 layers that adds up, layer by layer, to 0.65 (mobilenet-0.25) and 0.47 (1.0).
LEAST_ALIKE = {"float": 0.9999, "int8": 0.90, "ncnn": 0.30}


def least_alike(peer, int8):
    return LEAST_ALIKE.get(peer, LEAST_ALIKE["int8"]) if int8 else LEAST_ALIKE["float"]


def likeness(ours, theirs):
    """Correlation over samples and outputs, the mean of each output taken off: so constants do not count."""
    a, b = (y - y.mean(axis=0) for y in (ours.astype(np.float64), theirs.astype(np.float64)))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if np.isfinite(size) and size > 0 else 0.0


@dataclasses.dataclass
class Value:
    shape: list[int]  # the first extent is the batch
    scale: float = 1.0  # of the codes of an int8 net: real = scale (code - zero)
    zero: int = 0


@dataclasses.dataclass
class Op:
    kind: str  # conv, fully_connected, add, max_pool, average_pool or reshape
    name: str
    inputs: list[int]
    output: int
    relu: bool = False
    kernel: list[int] = dataclasses.field(default_factory=list)
    stride: list[int] = dataclasses.field(default_factory=list)
    padding: list[int] = dataclasses.field(default_factory=list)  # top, left, bottom, right
    groups: int = 1
    weights: np.ndarray | None = None  # codes of int8 nets, else numbers
    bias: np.ndarray | None = None
    weight_scales: np.ndarray | None = None

    @property
    def depthwise(self):
        return self.kind == "conv" and self.groups > 1


class Net:
    def __init__(self, int8: bool, values: dict[int, Value], ops: list[Op], source: int, result: int):
        self.int8, self.values, self.ops = int8, values, ops
        self.input, self.output = source, result
        self.flattened = {}  # of a flattened image: the shape it had
        for op in ops:
            if op.kind == "reshape" and len(values[op.inputs[0]].shape) == 4:
                self.flattened[op.output] = values[op.inputs[0]].shape[1:]

    def channels_first(self, op):
        """Weights of a fully connected op for peers whose flattened images are channel by channel."""
        shape = self.flattened.get(op.inputs[0])
        if shape is None or shape[-1] == 1:
            return op.weights
        return op.weights.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(op.weights.shape)

    def readers(self, value):
        return [op for op in self.ops if value in op.inputs]

    def real_bias(self, op):
        if not self.int8:
            return op.bias
        return (op.bias * np.float64(self.values[op.inputs[0]].scale) * op.weight_scales).astype(np.float32)

    def numbers(self, value, codes):
        v = self.values[value]
        return (codes.astype(np.float32) - v.zero) * np.float32(v.scale)

    def results(self, raw):
        """Rows of outputs as numbers, whether they are numbers or our codes."""
        rows = raw.reshape(-1, self.values[self.output].shape[-1])
        return self.numbers(self.output, rows) if rows.dtype == np.int8 else rows

    # ---- Files ----

    def save(self, path):
        arrays, ops = {}, []
        for i, op in enumerate(self.ops):
            fields = dict(vars(op))
            for name in ("weights", "bias", "weight_scales"):
                if (array := fields.pop(name)) is not None:
                    arrays[f"{i}.{name}"] = array
            ops.append(fields)
        told = {"int8": self.int8, "values": {n: vars(v) for n, v in self.values.items()}, "ops": ops,
                "input": self.input, "output": self.output}  # fmt: skip
        np.savez(path, told=json.dumps(told), **arrays)

    @staticmethod
    def load(path):
        with np.load(path) as file:
            told = json.loads(str(file["told"]))
            arrays = {name: file[name] for name in file.files}
        ops = [Op(**fields, **{name: arrays.get(f"{i}.{name}") for name in ("weights", "bias", "weight_scales")})
               for i, fields in enumerate(told["ops"])]  # fmt: skip
        values = {int(n): Value(**fields) for n, fields in told["values"].items()}
        return Net(told["int8"], values, ops, told["input"], told["output"])

    @staticmethod
    def of(program):
        """From an ort.Program: a file and what `whittle inspect --json` tells about it."""
        told = program.json
        int8 = told["integer_only"]
        numbers = [n for n, v in enumerate(program.values) if not v["constant"]]
        values = {n: Value(v["shape"], v.get("scale", 1.0), v.get("zero_point", 0))
                  for n in numbers for v in [program.values[n]]}  # fmt: skip
        ops = []
        for record in told["ops"]:
            y = values[record["output"]]
            sizes = {name: record[name] for name in ("kernel", "stride", "padding", "groups") if name in record}
            op = Op(record["kind"], record["name"], record["inputs"], record["output"], **sizes)
            if op.kind not in ("conv", "fully_connected", "add", "max_pool", "average_pool", "reshape"):
                raise ValueError(f"{program.path}: no peer's builder knows the op {op.kind}")
            if record.get("dilation", [1, 1]) != [1, 1]:
                raise ValueError(f"{program.path}, {op.name}: no peer's builder knows dilations")
            if op.kind in ("conv", "fully_connected", "add"):
                if record["hi"] not in (None, 127):
                    raise ValueError(f"{program.path}, {op.name}: no peer's builder knows limits above")
                op.relu = record["lo"] == (y.zero if int8 else 0)
            if "weights" in record:
                op.weights, op.bias = program.constant(record["weights"]), program.constant(record["bias"])
                if int8:
                    multipliers = program.multipliers(record).astype(np.float64)
                    op.weight_scales = (multipliers * y.scale / values[op.inputs[0]].scale).astype(np.float32)
            ops.append(op)
        return Net(int8, values, ops, told["inputs"][0], told["outputs"][0])
