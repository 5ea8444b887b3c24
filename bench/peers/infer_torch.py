"""A Net as a PyTorch module: of floats, or of PyTorch's quantized modules with our weight codes and grids."""

import dataclasses

import numpy as np
import torch
from torch import nn
from torch.ao.nn import quantized
from torch.ao.nn.intrinsic import quantized as fused
from torch.nn import functional as F


class Graph(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.int8, self.values, self.input, self.output = net.int8, net.values, net.input, net.output
        # Without arrays: torch.compile would trace into those of NumPy.
        self.ops = [dataclasses.replace(op, weights=None, bias=None, weight_scales=None) for op in net.ops]
        self.layers = nn.ModuleDict()
        for op in net.ops:
            if op.weights is not None:
                self.layers[str(op.output)] = quantized_layer(net, op) if net.int8 else float_layer(net, op)

    def forward(self, x):
        values = {self.input: x}
        for op in self.ops:
            inputs = [values[i] for i in op.inputs]
            if str(op.output) in self.layers:
                y = self.layers[str(op.output)](inputs[0])
            elif op.kind == "add":
                y = self.add(op, *inputs)
            elif op.kind == "max_pool":
                y = F.max_pool2d(inputs[0], op.kernel, op.stride, op.padding[:2])
            elif op.kind == "average_pool":  # quantized ones keep their input's grid, which the next layer then reads
                y = torch.flatten(F.adaptive_avg_pool2d(inputs[0], 1), 1)
            else:
                y = torch.flatten(inputs[0], 1)
            values[op.output] = y
        return values[self.output]

    def add(self, op, a, b):
        if self.int8:
            v = self.values[op.output]
            kind = torch.ops.quantized.add_relu if op.relu else torch.ops.quantized.add
            return kind(a, b, v.scale, v.zero + 128)
        return F.relu(a + b) if op.relu else a + b


def weights_of(net, op):
    weights = op.weights.transpose(0, 3, 1, 2) if op.kind == "conv" else net.channels_first(op)
    return torch.from_numpy(np.ascontiguousarray(weights))


def check_padding(op):
    if op.padding[:2] != op.padding[2:]:
        raise ValueError(f"{op.name}: PyTorch's layers pad both sides alike, this one {op.padding}")


def float_layer(net, op):
    weights = weights_of(net, op)
    if op.kind == "conv":
        check_padding(op)
        sizes = (weights.shape[1] * op.groups, len(weights), op.kernel, op.stride, op.padding[:2])
        layer = nn.Conv2d(*sizes, groups=op.groups)
    else:
        layer = nn.Linear(weights.shape[1], len(weights))
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(torch.from_numpy(np.array(op.bias)))
    return nn.Sequential(layer, nn.ReLU(inplace=True)) if op.relu else layer


def quantized_layer(net, op):
    codes = weights_of(net, op)
    scales = torch.from_numpy(op.weight_scales.astype(np.float64))
    weights = torch._make_per_channel_quantized_tensor(codes, scales, torch.zeros(len(codes), dtype=torch.int64), 0)
    if op.kind == "conv":
        check_padding(op)
        kind = fused.ConvReLU2d if op.relu else quantized.Conv2d
        sizes = (codes.shape[1] * op.groups, len(codes), op.kernel, op.stride, op.padding[:2])
        layer = kind(*sizes, groups=op.groups)
    else:
        layer = (fused.LinearReLU if op.relu else quantized.Linear)(codes.shape[1], len(codes))
    layer.set_weight_bias(weights, torch.from_numpy(net.real_bias(op)))
    v = net.values[op.output]
    layer.scale, layer.zero_point = float(v.scale), int(v.zero + 128)
    return layer


def build(net):
    return Graph(net)
