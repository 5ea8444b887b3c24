"""Writes a Net in the file formats of the peers: ONNX (float, and quantized in QDQ form), ncnn, TensorFlow Lite.

The int8 files hold our weight codes with our scales, biases and ranges, so that every peer computes the same net as our
program, up to its own rounding. (ncnn has no zero-points: its activations lie on symmetric grids over the same range.)
"""

import pathlib
import struct

import numpy as np

# ---- ONNX ---------------------------------------------------------------------------------


class OnnxWriter:
    """Images are NCHW. Codes are unsigned, as ONNX Runtime and OpenVINO like them best on x86.

    `codes`: the input of an int8 net is codes; else it is numbers, which the graph quantizes first.
    `rows`: rows [N, C] stay rows; else they are images [N, C, 1, 1], and their products 1x1 convolutions.
    """

    def __init__(self, net, codes=True, rows=True):
        from onnx import TensorProto, helper, numpy_helper

        self.helper, self.numpy_helper, self.types = helper, numpy_helper, TensorProto
        self.net, self.nodes, self.constants, self.rows = net, [], [], rows
        self.tensors = {}  # value -> name of its tensor of numbers
        as_codes = net.int8 and codes
        source = self.tensor("input", net.input, TensorProto.UINT8 if as_codes else TensorProto.FLOAT)
        if as_codes:
            self.tensors[net.input] = self.dequantize("input", net.input)
        elif net.int8:
            self.finish(net.input, "input")
        else:
            self.tensors[net.input] = "input"
        for op in net.ops:
            self.finish(op.output, getattr(self, op.kind)(op))
        extents = self.put(np.int64(net.values[net.output].shape))
        self.node("Reshape", [self.tensors[net.output], extents], output="output")
        result = helper.make_tensor_value_info("output", TensorProto.FLOAT, net.values[net.output].shape)
        graph = helper.make_graph(self.nodes, "net", [source], [result], self.constants)
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def shape(self, value):
        shape = self.net.values[value].shape
        if len(shape) == 4:
            return [shape[i] for i in (0, 3, 1, 2)]
        return shape if self.rows else [*shape, 1, 1]

    def tensor(self, name, value, kind):
        return self.helper.make_tensor_value_info(name, kind, self.shape(value))

    def put(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, kind, inputs, output=None, **attributes):
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def grid(self, value):
        v = self.net.values[value]
        return [self.put(np.float32(v.scale)), self.put(np.uint8(v.zero + 128))]

    def dequantize(self, codes, value):
        return self.node("DequantizeLinear", [codes, *self.grid(value)])

    def finish(self, value, numbers):
        if self.net.int8:
            numbers = self.dequantize(self.node("QuantizeLinear", [numbers, *self.grid(value)]), value)
        self.tensors[value] = numbers

    def factors(self, op, weights):
        if not self.net.int8:
            return [self.put(weights), self.put(op.bias)]
        zeros = self.put(np.zeros(len(weights), np.int8))
        w = self.node("DequantizeLinear", [self.put(weights), self.put(op.weight_scales), zeros], axis=0)
        scales = np.float32(self.net.values[op.inputs[0]].scale) * op.weight_scales
        bias = [self.put(op.bias), self.put(scales), self.put(np.zeros(len(weights), np.int32))]
        return [w, self.node("DequantizeLinear", bias, axis=0)]

    def activated(self, op, numbers):
        return self.node("Relu", [numbers]) if op.relu else numbers

    def conv(self, op):
        inputs = [self.tensors[op.inputs[0]], *self.factors(op, op.weights.transpose(0, 3, 1, 2))]
        sizes = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.padding, "group": op.groups}
        return self.activated(op, self.node("Conv", inputs, **sizes))

    def fully_connected(self, op):
        weights = self.net.channels_first(op)
        if not self.rows:
            inputs = [self.tensors[op.inputs[0]], *self.factors(op, weights.reshape(*weights.shape, 1, 1))]
            return self.activated(op, self.node("Conv", inputs, kernel_shape=[1, 1]))
        return self.activated(op, self.node("Gemm", [self.tensors[op.inputs[0]], *self.factors(op, weights)], transB=1))

    def add(self, op):
        return self.activated(op, self.node("Add", [self.tensors[x] for x in op.inputs]))

    def max_pool(self, op):
        sizes = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.padding}
        return self.node("MaxPool", [self.tensors[op.inputs[0]]], **sizes)

    def average_pool(self, op):
        if op.kernel != self.net.values[op.inputs[0]].shape[1:3]:
            raise ValueError(f"{op.name}: an average pool of a part of the image")
        means = self.node("GlobalAveragePool", [self.tensors[op.inputs[0]]])
        return self.reshape(op, means) if self.rows else means

    def reshape(self, op, numbers=None):
        shape = self.put(np.int64(self.shape(op.output)))
        return self.node("Reshape", [numbers or self.tensors[op.inputs[0]], shape])


def write_onnx(net, path, codes=True, rows=True):
    import onnx

    model = OnnxWriter(net, codes, rows).model
    onnx.checker.check_model(model)
    onnx.save(model, path)


# ---- ncnn ---------------------------------------------------------------------------------

NCNN_FLOATS, NCNN_INT8 = 0, 0x000D4B38  # tags in front of weights


class NcnnWriter:
    """The text of the .param file and the bytes of the .bin file. A line is: type, name, number of inputs and of
    outputs, their names, and numbered fields. A blob has one reader; where it has more, a Split stands between."""

    def __init__(self, net):
        self.net, self.lines, self.blobs, self.weights = net, [], 0, []
        self.copies = {}  # value -> names not yet read
        shape = net.values[net.input].shape[1:]
        fields = {0: shape[1], 1: shape[0], 2: shape[2]} if len(shape) == 3 else {0: shape[0]}
        self.layer("Input", "input", [], "input", fields)
        self.share(net.input, "input")
        for op in net.ops:
            inputs = [self.copies[x].pop() for x in op.inputs]
            name = f"v{op.output}" if op.output != net.output else "output"
            getattr(self, op.kind)(op, inputs, name)
            self.share(op.output, name)
        self.param = f"7767517\n{len(self.lines)} {self.blobs}\n" + "".join(self.lines)
        self.bin = b"".join(self.weights)

    def layer(self, kind, name, inputs, outputs, fields=None):
        outputs = [outputs] if isinstance(outputs, str) else outputs
        told = " ".join(f"{k}={v}" for k, v in (fields or {}).items())
        self.lines.append(f"{kind} {name} {len(inputs)} {len(outputs)} {' '.join([*inputs, *outputs])} {told}\n")
        self.blobs += len(outputs)

    def share(self, value, name):
        readers = sum(op.inputs.count(value) for op in self.net.ops)
        self.copies[value] = [name]
        if readers > 1:
            self.copies[value] = [f"{name}_{i}" for i in range(readers)]
            self.layer("Split", f"{name}_split", [name], list(self.copies[value]))

    def largest(self, value):
        """The real number that ncnn's code 127 stands for."""
        v = self.net.values[value]
        return v.scale * max(127 - v.zero, v.zero + 128)

    def put(self, op, weights, per_channel, requantized):
        """The records that a layer reads, in its order; the field that says how it is quantized."""
        if not self.net.int8:
            self.weights += [struct.pack("<I", NCNN_FLOATS), np.ascontiguousarray(weights, "<f4").tobytes(),
                             op.bias.astype("<f4").tobytes()]  # fmt: skip
            return {}
        codes = np.ascontiguousarray(weights, np.int8).tobytes()
        self.weights += [struct.pack("<I", NCNN_INT8), codes, bytes(-len(codes) % 4)]
        self.weights += [self.net.real_bias(op).astype("<f4").tobytes(), (1 / op.weight_scales).astype("<f4").tobytes()]
        self.weights.append(struct.pack("<f", 127 / self.largest(op.inputs[0])))
        if requantized:
            self.weights.append(struct.pack("<f", 127 / self.largest(op.output)))
        return {8: per_channel + (100 if requantized else 0)}

    def conv(self, op, inputs, name):
        (kh, kw), (sh, sw), (top, left, bottom, right) = op.kernel, op.stride, op.padding
        fields = {0: len(op.weights), 1: kw, 11: kh, 3: sw, 13: sh, 4: left, 15: right, 14: top, 16: bottom, 5: 1,
                  6: op.weights.size}  # fmt: skip
        if op.depthwise:
            fields[7] = op.groups
        # Codes go straight on to a convolution that is alone in reading them.
        readers = self.net.readers(op.output)
        chained = len(readers) == 1 and readers[0].kind == "conv"
        weights = op.weights.transpose(0, 3, 1, 2)
        fields |= self.put(op, weights, 1 if op.depthwise else 2, chained)
        if op.relu:
            fields[9] = 1
        self.layer("ConvolutionDepthWise" if op.depthwise else "Convolution", name, inputs, name, fields)

    def fully_connected(self, op, inputs, name):
        fields = {0: len(op.weights), 1: 1, 2: op.weights.size}
        fields |= self.put(op, self.net.channels_first(op), 2, False)
        if op.relu:
            fields[9] = 1
        self.layer("InnerProduct", name, inputs, name, fields)

    def add(self, op, inputs, name):
        if not op.relu:
            self.layer("BinaryOp", name, inputs, name, {0: 0})
            return
        self.layer("BinaryOp", f"{name}_sum", inputs, f"{name}_sum", {0: 0})
        self.layer("ReLU", name, [f"{name}_sum"], name)

    def max_pool(self, op, inputs, name):
        (kh, kw), (sh, sw), (top, left, bottom, right) = op.kernel, op.stride, op.padding
        fields = {0: 0, 1: kw, 11: kh, 2: sw, 12: sh, 3: left, 14: right, 13: top, 15: bottom, 5: 1}
        self.layer("Pooling", name, inputs, name, fields)

    def average_pool(self, op, inputs, name):
        if op.kernel != self.net.values[op.inputs[0]].shape[1:3]:
            raise ValueError(f"{op.name}: an average pool of a part of the image")
        self.layer("Pooling", name, inputs, name, {0: 1, 4: 1})

    def reshape(self, op, inputs, name):
        self.layer("Flatten", name, inputs, name)


def write_ncnn(net, stem):
    written = NcnnWriter(net)
    pathlib.Path(f"{stem}.param").write_text(written.param)
    pathlib.Path(f"{stem}.bin").write_bytes(written.bin)


# ---- TensorFlow Lite ------------------------------------------------------------------------


class TfliteWriter:
    """LiteRT's package holds the schema as Python classes, which is all it takes: TensorFlow and its converters would
    come to a gigabyte, and would quantize the net their own way."""

    def __init__(self, net):
        from ai_edge_litert import schema_py_generated as schema

        self.s, self.net = schema, net
        self.buffers = [self.buffer(None)]  # the first is empty, for what is computed
        self.tensors, self.operators, self.codes, self.of_value = [], [], [], {}
        self.of_value[net.input] = self.activation("input", net.input)
        for op in net.ops:
            self.of_value[op.output] = self.activation(op.name, op.output)
            getattr(self, op.kind)(op)
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, "main"
        graph.inputs, graph.outputs = [self.of_value[net.input]], [self.of_value[net.output]]
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, "net"
        self.model.operatorCodes, self.model.subgraphs, self.model.buffers = self.codes, [graph], self.buffers

    def pack(self):
        import flatbuffers

        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def buffer(self, array):
        buffer = self.s.BufferT()
        if array is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        return buffer

    def add_tensor(self, name, shape, kind, buffer=0, scales=None, zero=0, axis=0):
        tensor = self.s.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [int(n) for n in shape], kind, buffer
        if scales is not None:
            tensor.quantization = self.s.QuantizationParametersT()
            tensor.quantization.scale = [float(x) for x in scales]
            tensor.quantization.zeroPoint = [zero] * len(scales)
            tensor.quantization.quantizedDimension = axis
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, name, value, shape=None):
        v, kinds = self.net.values[value], self.s.TensorType
        if not self.net.int8:
            return self.add_tensor(name, shape or v.shape, kinds.FLOAT32)
        return self.add_tensor(name, shape or v.shape, kinds.INT8, scales=[v.scale], zero=v.zero)

    def constant(self, name, array, scales=None, axis=0):
        kind = {"int8": self.s.TensorType.INT8, "int32": self.s.TensorType.INT32,
                "float32": self.s.TensorType.FLOAT32}[array.dtype.name]  # fmt: skip
        self.buffers.append(self.buffer(array))
        return self.add_tensor(name, array.shape, kind, len(self.buffers) - 1, scales, axis=axis)

    def operator(self, builtin, inputs, outputs, options_name=None, **fields):
        numbers = [code.builtinCode for code in self.codes]
        if builtin not in numbers:
            code = self.s.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
            if builtin in (self.s.BuiltinOperator.CONV_2D, self.s.BuiltinOperator.DEPTHWISE_CONV_2D):
                code.version = 3  # with weight scales per channel
            self.codes.append(code)
            numbers.append(builtin)
        operator = self.s.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = numbers.index(builtin), inputs, outputs
        if options_name:
            operator.builtinOptionsType = getattr(self.s.BuiltinOptions, options_name)
            operator.builtinOptions = getattr(self.s, options_name + "T")()
            for name, value in fields.items():
                setattr(operator.builtinOptions, name, value)
        self.operators.append(operator)

    def factors(self, op, weights, axis):
        if not self.net.int8:
            return [self.constant(op.name + "/weight", weights), self.constant(op.name + "/bias", op.bias)]
        scales = self.net.values[op.inputs[0]].scale * op.weight_scales
        return [self.constant(op.name + "/weight", weights, op.weight_scales, axis),
                self.constant(op.name + "/bias", op.bias, scales)]  # fmt: skip

    def act(self, op):
        kinds = self.s.ActivationFunctionType
        return kinds.RELU if op.relu else kinds.NONE

    def padded(self, op):
        """Tensor and padding to read. SAME pads the far side more than the near one, ours may be even; then an op
        pads before."""
        x = self.net.values[op.inputs[0]].shape
        same = []
        for extent, kernel, stride in zip(x[1:3], op.kernel, op.stride, strict=True):
            total = max(0, (-(-extent // stride) - 1) * stride + kernel - extent)
            same.append((total // 2, total - total // 2))
        wanted = list(zip(op.padding[:2], op.padding[2:], strict=True))
        source = self.of_value[op.inputs[0]]
        if not any(op.padding):
            return source, self.s.Padding.VALID
        if same == wanted:
            return source, self.s.Padding.SAME
        widths = np.array([(0, 0), *wanted, (0, 0)], np.int32)
        y = self.activation(op.name + "/pad", op.inputs[0], [int(n + sum(w)) for n, w in zip(x, widths, strict=True)])
        inputs = [source, self.constant(op.name + "/widths", widths)]
        self.operator(self.s.BuiltinOperator.PAD, inputs, [y], "PadOptions")
        return y, self.s.Padding.VALID

    def conv(self, op):
        source, padding = self.padded(op)
        fields = {"padding": padding, "strideH": op.stride[0], "strideW": op.stride[1], "dilationHFactor": 1,
                  "dilationWFactor": 1, "fusedActivationFunction": self.act(op)}  # fmt: skip
        output = [self.of_value[op.output]]
        if op.depthwise:
            weights = op.weights.transpose(3, 1, 2, 0)
            self.operator(self.s.BuiltinOperator.DEPTHWISE_CONV_2D, [source, *self.factors(op, weights, 3)], output,
                          "DepthwiseConv2DOptions", depthMultiplier=1, **fields)  # fmt: skip
        else:
            self.operator(self.s.BuiltinOperator.CONV_2D, [source, *self.factors(op, op.weights, 0)], output,
                          "Conv2DOptions", **fields)  # fmt: skip

    def fully_connected(self, op):
        inputs = [self.of_value[op.inputs[0]], *self.factors(op, op.weights, 0)]
        self.operator(self.s.BuiltinOperator.FULLY_CONNECTED, inputs, [self.of_value[op.output]],
                      "FullyConnectedOptions", fusedActivationFunction=self.act(op))  # fmt: skip

    def add(self, op):
        self.operator(self.s.BuiltinOperator.ADD, [self.of_value[x] for x in op.inputs], [self.of_value[op.output]],
                      "AddOptions", fusedActivationFunction=self.act(op))  # fmt: skip

    def max_pool(self, op):
        source, padding = self.padded(op)
        self.operator(self.s.BuiltinOperator.MAX_POOL_2D, [source], [self.of_value[op.output]], "Pool2DOptions",
                      padding=padding, strideH=op.stride[0], strideW=op.stride[1], filterHeight=op.kernel[0],
                      filterWidth=op.kernel[1], fusedActivationFunction=self.s.ActivationFunctionType.NONE)  # fmt: skip

    def average_pool(self, op):
        if op.kernel != self.net.values[op.inputs[0]].shape[1:3]:
            raise ValueError(f"{op.name}: an average pool of a part of the image")
        axes = self.constant(op.name + "/axes", np.array([1, 2], np.int32))
        self.operator(self.s.BuiltinOperator.MEAN, [self.of_value[op.inputs[0]], axes], [self.of_value[op.output]],
                      "ReducerOptions", keepDims=False)  # fmt: skip

    def reshape(self, op):
        shape = self.net.values[op.output].shape
        to = self.constant(op.name + "/shape", np.array(shape, np.int32))
        self.operator(self.s.BuiltinOperator.RESHAPE, [self.of_value[op.inputs[0]], to], [self.of_value[op.output]],
                      "ReshapeOptions", newShape=shape)  # fmt: skip


def write_tflite(net, path):
    pathlib.Path(path).write_bytes(TfliteWriter(net).pack())
