"""Programs (.wtl) beside ONNX Runtime, byte for byte: ./run bench exact PROGRAM.wtl

    ort.py --whittle COMMAND compare PROGRAM.wtl [--data-dir FOLDER] [--samples N] [--onnx FILE]
    ort.py --whittle COMMAND golden FOLDER

`compare` writes an integer program as an ONNX graph of QOperators on signed 8-bit codes, runs both on the test part of
the program's data set, one image at a time, and counts output bytes that differ. It fails if there is one.

`golden` runs every FOLDER/NAME.wtl on the bytes of FOLDER/NAME.in and writes ONNX Runtime's answer to FOLDER/NAME.out,
a line of codes for each sample, which tests read where there is no ONNX Runtime.

The graph comes from `whittle inspect --json` and the constants of the file. A program holds the multiplier M of each
output channel (A8 of docs/arithmetic.md), no weight scales: 1, M and 1 as the scales of input, weights and output make
fl(fl(1 M) / 1) = M of them. Images are NCHW here.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

INSTALL = "python3 -m pip install onnx onnxruntime"
try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as missing:
    sys.exit(f"ort.py: {missing}. Install what is needed: {INSTALL}")

NUMPY = {"s8": np.int8, "s16": np.int16, "s32": np.int32, "f32": np.float32, "u32": np.uint32}
BITS = {"s4": 4, "s2": 2}  # of weights that share a byte
ONNX = {"s8": TensorProto.INT8, "f32": TensorProto.FLOAT}
OURS = "com.microsoft"  # domain of ONNX Runtime's own operators
NCHW_AXIS = [0, 2, 3, 1]  # of an NHWC axis


class Program:
    """A .wtl file: its records by `whittle inspect --json`, its constants from the bytes."""

    def __init__(self, command, path):
        told = subprocess.run([command, "inspect", path, "--json"], capture_output=True, text=True)
        if told.returncode != 0:
            sys.exit(told.stderr.strip())
        self.path = path
        self.json = json.loads(told.stdout.splitlines()[-1])
        self.values = self.json["values"]
        self.bytes = pathlib.Path(path).read_bytes()

    def constant(self, number):
        value = self.values[number]
        if value["type"] in BITS:
            return self.codes(value, BITS[value["type"]])
        count = int(np.prod(value["shape"]))
        return np.frombuffer(self.bytes, NUMPY[value["type"]], count, value["at"]).reshape(value["shape"])

    def codes(self, value, bits):
        """Two or four codes share a byte, lowest bits first; each row begins at a byte."""
        rows, row = value["shape"][0], int(np.prod(value["shape"][1:]))
        row_bytes = -(-row * bits // 8)
        stored = np.frombuffer(self.bytes, np.uint8, rows * row_bytes, value["at"]).reshape(rows, row_bytes, 1)
        above = np.arange(8 - bits, -1, -bits, dtype=np.uint8)  # bits of the byte above each of its codes
        codes = (stored << above).view(np.int8) >> (8 - bits)
        return codes.reshape(rows, -1)[:, :row].reshape(value["shape"])

    def multipliers(self, op):
        return self.constant(op["multipliers"]).view(np.float32)

    def sample_bytes(self, number):
        value = self.values[number]
        return int(np.prod(value["shape"])) * np.dtype(NUMPY[value["type"]]).itemsize


class Graph:
    """The same as an ONNX model. Value number n is the tensor v<n>."""

    def __init__(self, program):
        self.p = program
        self.nodes, self.constants = [], []
        self.flattened = {}  # of a flattened image that lies channel by channel: its height, width and channels
        self.inputs = [self.tensor(v) for v in program.json["inputs"]]
        self.outputs = [self.tensor(v) for v in program.json["outputs"]]
        for op in program.json["ops"]:
            write = getattr(self, op["kind"], None)
            if write is None:
                sys.exit(f"ort.py: {program.path}: ONNX Runtime has no {op['kind']} with the same arithmetic")
            write(op)

    def model(self):
        graph = helper.make_graph(self.nodes, "program", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(OURS, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.checker.check_model(model)
        return model

    # ---- Pieces --------------------------------------------------------------------------

    def shape(self, value):
        shape = self.p.values[value]["shape"]
        return [shape[i] for i in (0, 3, 1, 2)] if len(shape) == 4 else shape

    def tensor(self, value):
        kind = self.p.values[value]["type"]
        if kind not in ONNX:
            sys.exit(f"ort.py: {self.p.path}: ONNX Runtime has no {kind} activations")
        return helper.make_tensor_value_info(f"v{value}", ONNX[kind], self.shape(value))

    def put(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def scale(self, number=1.0):
        return self.put(np.float32(number))

    def zero(self, value):
        return self.put(np.int8(self.p.values[value]["zero_point"]))

    def add_node(self, kind, inputs, output=None, domain="", **attributes):
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def limited(self, op, make):
        """`make` writes the codes to a tensor of a given name; a narrower range than int8's is cut behind it (A11)."""
        result = f"v{op['output']}"
        if (op["lo"], op["hi"]) == (-128, 127):
            make(result)
        else:
            codes = make(None)
            self.add_node("Clip", [codes, self.put(np.int8(op["lo"])), self.put(np.int8(op["hi"]))], result)

    # ---- Ops, by their names in `inspect` ----------------------------------------------------

    def conv(self, op):
        weights = self.p.constant(op["weights"]).transpose(0, 3, 1, 2)
        self.product(op, weights, self.p.multipliers(op), self.p.constant(op["bias"]), op["groups"], op["dilation"])

    def product(self, op, weights, multipliers, bias, groups, dilation):
        x, y = op["inputs"][0], op["output"]
        inputs = [f"v{x}", self.scale(), self.zero(x), self.put(weights), self.put(multipliers), self.put(np.int8(0))]
        inputs += [self.scale(), self.zero(y), self.put(bias)]
        self.limited(
            op,
            lambda name: self.add_node(
                "QLinearConv",
                inputs,
                name,
                kernel_shape=op["kernel"],
                strides=op["stride"],
                dilations=dilation,
                pads=op["padding"],
                group=groups,
            ),
        )

    def fully_connected(self, op):
        x, y = op["inputs"][0], op["output"]
        weights = self.p.constant(op["weights"])
        if x in self.flattened:
            turned = weights.reshape(-1, *self.flattened[x]).transpose(0, 3, 1, 2)
            weights = turned.reshape(weights.shape)
        rows = self.nhwc(x)
        if len(self.shape(x)) != 2:
            rows = self.add_node("Reshape", [rows, self.put(np.int64([self.shape(x)[0], -1]))])
        zeros = np.zeros(len(weights), np.int8)
        inputs = [rows, self.scale(), self.zero(x), self.put(weights), self.put(self.p.multipliers(op))]
        inputs += [self.put(zeros), self.put(self.p.constant(op["bias"])), self.scale(), self.zero(y)]
        self.limited(op, lambda name: self.add_node("QGemm", inputs, name, OURS, transB=1))

    def add(self, op):
        (a, b), y = op["inputs"], op["output"]
        offset, *ratios = np.uint32(op["parameters"][:3]).view(np.float32)
        zeros = [np.float32(self.p.values[v]["zero_point"]) for v in (a, b, y)]
        if offset != zeros[2] - (ratios[0] * zeros[0] + ratios[1] * zeros[1]):
            sys.exit(f"ort.py: {self.p.path}, {op['name']}: the offset of the sum does not follow from its ratios")
        inputs = [f"v{a}", self.scale(ratios[0]), self.zero(a), f"v{b}", self.scale(ratios[1]), self.zero(b)]
        inputs += [self.scale(), self.zero(y)]
        self.limited(op, lambda name: self.add_node("QLinearAdd", inputs, name, OURS))

    def max_pool(self, op):
        inputs = [f"v{op['inputs'][0]}"]
        pads = {"kernel_shape": op["kernel"], "strides": op["stride"], "pads": op["padding"]}
        self.limited(op, lambda name: self.flat(op, lambda n: self.add_node("MaxPool", inputs, n, **pads), name))

    def average_pool(self, op):
        x, y = op["inputs"][0], op["output"]
        if op["kernel"] == self.shape(x)[2:] and not any(op["padding"]):
            inputs = [f"v{x}", self.scale(self.p.values[x]["scale"]), self.zero(x)]
            inputs += [self.scale(self.p.values[y]["scale"]), self.zero(y)]
            node = lambda name: self.add_node("QLinearGlobalAveragePool", inputs, name, OURS, channels_last=0)
            self.limited(op, lambda name: self.flat(op, node, name))
        elif not any(op["padding"]):  # its sum and M are those of a depthwise convolution by ones
            channels = self.shape(x)[1]
            ones = np.ones([channels, 1, *op["kernel"]], np.int8)
            multipliers = np.repeat(self.p.multipliers(op), channels)
            self.product(op, ones, multipliers, np.zeros(channels, np.int32), channels, [1, 1])
        else:
            sys.exit(f"ort.py: {self.p.path}, {op['name']}: ONNX Runtime has no padded average pool like ours")

    def flat(self, op, make, name):
        """A pool over the whole image may leave out its two extents of 1."""
        shape = self.shape(op["output"])
        if len(shape) == 4:
            return make(name)
        return self.add_node("Reshape", [make(None), self.put(np.int64(shape))], name)

    def concat(self, op):
        axis = op["parameters"][0]
        axis = NCHW_AXIS[axis] if len(self.shape(op["output"])) == 4 else axis
        self.add_node("Concat", [f"v{x}" for x in op["inputs"]], f"v{op['output']}", axis=axis)

    def table(self, op):
        index = self.add_node("Cast", [f"v{op['inputs'][0]}"], to=TensorProto.INT32)
        index = self.add_node("Add", [index, self.put(np.int32(128))])
        self.add_node("Gather", [self.put(self.p.constant(op["table"])), index], f"v{op['output']}")

    def rescale(self, op):
        """A convolution with the one weight 1."""
        x, y = op["inputs"][0], op["output"]
        line = self.add_node("Reshape", [f"v{x}", self.put(np.int64([1, 1, 1, -1]))])
        inputs = [line, self.scale(), self.zero(x), self.put(np.ones([1, 1, 1, 1], np.int8))]
        inputs += [self.put(self.p.multipliers(op)), self.put(np.int8(0)), self.scale(), self.zero(y)]
        shape = self.put(np.int64(self.shape(y)))
        node = lambda name: self.add_node("Reshape", [self.add_node("QLinearConv", inputs), shape], name)
        self.limited(op, node)

    def reshape(self, op):
        x, y = op["inputs"][0], op["output"]
        shape = self.p.values[y]["shape"]
        if len(shape) == 2 and len(self.shape(x)) == 4 and self.only_products_read(y):
            self.flattened[y] = self.p.values[x]["shape"][1:]
            self.add_node("Reshape", [f"v{x}", self.put(np.int64(shape))], f"v{y}")
            return
        flat = self.add_node("Reshape", [self.nhwc(op["inputs"][0]), self.put(np.int64(shape))])
        if len(shape) == 4:
            self.add_node("Transpose", [flat], f"v{op['output']}", perm=[0, 3, 1, 2])
        else:
            self.add_node("Identity", [flat], f"v{op['output']}")

    def only_products_read(self, value):
        """Then their weights can be turned instead of the image."""
        readers = [op["kind"] for op in self.p.json["ops"] if value in op["inputs"]]
        return set(readers) == {"fully_connected"} and value not in self.p.json["outputs"]

    def quantize(self, op):
        y = op["output"]
        scale = self.scale(self.p.values[y]["scale"])
        self.add_node("QuantizeLinear", [f"v{op['inputs'][0]}", scale, self.zero(y)], f"v{y}")

    def dequantize(self, op):
        x = op["inputs"][0]
        scale = self.scale(self.p.values[x]["scale"])
        self.add_node("DequantizeLinear", [f"v{x}", scale, self.zero(x)], f"v{op['output']}")

    def nhwc(self, value):
        if len(self.shape(value)) != 4:
            return f"v{value}"
        return self.add_node("Transpose", [f"v{value}"], perm=[0, 2, 3, 1])


class Session:
    def __init__(self, program, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.program = program
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.inputs, self.outputs = program.json["inputs"], program.json["outputs"]
        self.in_bytes = sum(program.sample_bytes(v) for v in self.inputs)
        self.out_bytes = sum(program.sample_bytes(v) for v in self.outputs)

    def run(self, sample):
        """From the bytes of one sample to those of its outputs, both as the program lays them out."""
        feeds, at = {}, 0
        for v in self.inputs:
            value = self.program.values[v]
            count = int(np.prod(value["shape"]))
            x = np.frombuffer(sample, NUMPY[value["type"]], count, at).reshape(value["shape"])
            feeds[f"v{v}"] = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
            at += self.program.sample_bytes(v)
        results = self.session.run([f"v{v}" for v in self.outputs], feeds)
        return b"".join((y.transpose(0, 2, 3, 1) if y.ndim == 4 else y).tobytes() for y in results)


def compare(arguments):
    program = Program(arguments.whittle, arguments.program)
    model = Graph(program).model()
    if arguments.onnx:
        onnx.save(model, arguments.onnx)
    session = Session(program, model)
    with tempfile.TemporaryDirectory() as folder:
        codes = pathlib.Path(folder) / "codes"
        command = [arguments.whittle, "eval", arguments.program, "--save-codes", str(codes)]
        if arguments.data_dir:
            command += ["--data-dir", arguments.data_dir]
        if subprocess.run(command).returncode != 0:
            sys.exit(1)
        inputs = codes.with_suffix(".in").read_bytes()
        expected = codes.with_suffix(".out").read_bytes()
    samples = min(arguments.samples, len(inputs) // session.in_bytes)
    differing_bytes = differing_samples = 0
    for i in range(samples):
        ours = expected[i * session.out_bytes : (i + 1) * session.out_bytes]
        theirs = session.run(inputs[i * session.in_bytes : (i + 1) * session.in_bytes])
        differ = sum(a != b for a, b in zip(ours, theirs, strict=True))
        differing_bytes += differ
        differing_samples += differ > 0
    print(
        f"{arguments.program}: {differing_bytes} of {samples * session.out_bytes} output bytes differ,"
        f" on {differing_samples} of {samples} samples"
        f" (ONNX Runtime {onnxruntime.__version__}, {platform.machine()}, one thread, batch 1)"
    )
    sys.exit(differing_bytes > 0)


def golden(arguments):
    for path in sorted(pathlib.Path(arguments.folder).glob("*.wtl")):
        program = Program(arguments.whittle, str(path))
        session = Session(program, Graph(program).model())
        inputs = path.with_suffix(".in").read_bytes()
        with open(path.with_suffix(".out"), "w") as file:
            for at in range(0, len(inputs), session.in_bytes):
                codes = np.frombuffer(session.run(inputs[at : at + session.in_bytes]), np.int8)
                print(*codes, file=file)
        print(f"{path.name}: {len(inputs) // session.in_bytes} samples of {session.out_bytes} codes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--whittle", default="whittle", help="the whittle command")
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("compare", help="count differing bytes on a data set")
    verb.add_argument("program")
    verb.add_argument("--samples", type=int, default=10_000, help="at most so many of the test part")
    verb.add_argument("--onnx", help="keep the graph in this file")
    verb.add_argument("--data-dir", help="folder of the data files (default: $WHITTLE_DATA)")
    verb.set_defaults(run=compare)
    verb = verbs.add_parser("golden", help="write what ONNX Runtime answers, for tests")
    verb.add_argument("folder")
    verb.set_defaults(run=golden)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
