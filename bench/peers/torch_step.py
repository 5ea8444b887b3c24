"""PyTorch's side of `./run bench train`: the same protocol as bench_train_step, in Python.

    torch_step.py NET CLASSES BATCH THREADS LAYOUT MODE DUMP INPUT...

LAYOUT is contiguous or channels_last, MODE eager or compile, DUMP the file that
bench_train_step wrote: initial weights, inputs and labels, so that both sides start
from the same numbers and their first losses must agree.

The nets are those of layers/zoo, layer by layer and in the order of its parameters.
"""

import array
import json
import math
import pathlib
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

# ---- The nets ---------------------------------------------------------------------


def conv(cin, cout, kernel=3, stride=1, padding=None, groups=1, norm=True, relu=True):
    padding = kernel // 2 if padding is None else padding
    layers = [nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(cout))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, cin, cout, stride=1, branch_relu=False, relu=True, shortcut_norm=True):
        super().__init__()
        self.conv1 = conv(cin, cout, stride=stride)
        self.conv2 = conv(cout, cout, relu=branch_relu)
        self.shortcut = nn.Identity()
        if stride != 1 or cin != cout:
            self.shortcut = conv(cin, cout, 1, stride, norm=shortcut_norm, relu=False)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x):
        return self.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class FirstDense(nn.Linear):
    """Behind a flatten: our weights read its inputs in the order height, width, channel."""

    def __init__(self, channels, height, width, out):
        super().__init__(channels * height * width, out)
        self.image = (height, width, channels)

    def from_ours(self, weight):
        return weight.view(-1, *self.image).permute(0, 3, 1, 2).reshape(weight.shape)


def pooled_head(channels, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def mlp(classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(inplace=True), nn.Linear(256, 128), nn.ReLU(inplace=True),
        nn.Linear(128, classes))  # fmt: skip


def small_cnn(classes):
    return nn.Sequential(
        conv(1, 32, padding=0, norm=False), conv(32, 64, padding=0, norm=False), nn.MaxPool2d(2), nn.Flatten(),
        FirstDense(64, 12, 12, 128), nn.ReLU(inplace=True), nn.Linear(128, classes))  # fmt: skip


def resnet8(classes):
    blocks = [Residual(cin, cout, stride, shortcut_norm=False)
              for cin, cout, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))]  # fmt: skip
    return nn.Sequential(conv(3, 16), *blocks, *pooled_head(64, classes))


def resnet18_3x3(classes):
    blocks, cin = [], 64
    for stage, cout in enumerate((64, 128, 256, 512)):
        blocks += [Residual(cin, cout, 2 if stage else 1), Residual(cout, cout)]
        cin = cout
    return nn.Sequential(conv(3, 64), *blocks, *pooled_head(512, classes))


def resnet9(classes):
    def residual(channels):
        return Residual(channels, channels, branch_relu=True, relu=False)

    return nn.Sequential(
        conv(3, 64), conv(64, 128), nn.MaxPool2d(2), residual(128), conv(128, 256), nn.MaxPool2d(2), conv(256, 512),
        nn.MaxPool2d(2), residual(512), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(512, classes))  # fmt: skip


def separable(cin, cout, stride=1):
    return nn.Sequential(conv(cin, cin, stride=stride, groups=cin), conv(cin, cout, 1))


def ds_cnn(classes):
    blocks = [separable(64, 64) for _ in range(4)]
    return nn.Sequential(conv(1, 64, (10, 4), 2, (5, 1)), *blocks, *pooled_head(64, classes))


def mobilenet_v1(classes, width=0.25):
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    channels = int(32 * width)
    layers = [conv(3, channels, stride=2)]
    for out, stride in rows:
        layers.append(separable(channels, int(out * width), stride))
        channels = int(out * width)
    return nn.Sequential(*layers, *pooled_head(channels, classes))


NETS = {"mlp": mlp, "small-cnn": small_cnn, "resnet8": resnet8, "resnet18-3x3": resnet18_3x3, "resnet9": resnet9,
        "ds-cnn": ds_cnn, "mobilenet-v1": mobilenet_v1}  # fmt: skip

# ---- The same start ---------------------------------------------------------------


def load(model, dump, batch, input_shape):
    """Sets the model's parameters; returns inputs (NCHW, still with our strides) and labels."""
    raw = bytearray(pathlib.Path(dump).read_bytes())
    count = len(raw) // 4
    floats = torch.frombuffer(raw, dtype=torch.float32)
    at = 0
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                values = floats[at : at + parameter.numel()]
                at += parameter.numel()
                if parameter.dim() == 4:  # ours: out, height, width, in
                    out, cin, h, w = parameter.shape
                    values = values.view(out, h, w, cin).permute(0, 3, 1, 2)
                elif parameter.dim() == 2 and isinstance(module, FirstDense):
                    values = module.from_ours(values.view(parameter.shape))
                parameter.copy_(values.reshape(parameter.shape))
    images = floats[at : at + batch * math.prod(input_shape)].view(batch, *input_shape).permute(0, 3, 1, 2)
    at += images.numel()
    if count != at + batch:
        sys.exit(f"torch_step.py: {dump} holds {count} numbers, this net and batch need {at + batch}")
    return images, torch.frombuffer(raw, dtype=torch.int32)[at:].long()


# ---- Steps ------------------------------------------------------------------------


def memory():
    fields = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def faster_sgd(model, loss_of, images, labels):
    """SGD comes in several implementations; tries them with rate 0, which changes nothing."""
    loss_of(images, labels).backward()
    times = {}
    for kind in ({"foreach": True}, {"fused": True}):
        trial = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, **kind)
        spent = []
        for _ in range(7):
            start = time.perf_counter()
            trial.step()
            spent.append(time.perf_counter() - start)
        times[statistics.median(spent)] = kind
    best = times[min(times)]
    return torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, **best), next(iter(best))


def main():
    net, classes, batch, threads, layout, mode, dump, *input_shape = sys.argv[1:]
    batch, threads, input_shape = int(batch), int(threads), [int(n) for n in input_shape]
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    baseline = memory()[0]

    model = NETS[net](int(classes))
    images, labels = load(model, dump, batch, input_shape)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    else:
        images = images.contiguous()
    model.train()

    def loss_of(images, labels):
        return F.cross_entropy(model(images), labels)

    if mode == "compile":
        loss_of = torch.compile(loss_of)

    # Norms' running statistics move in the trial; training does not read them.
    sgd, kind = faster_sgd(model, loss_of, images, labels)

    def step():
        loss = loss_of(images, labels)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        return loss.item()

    def answer(fields):
        print(json.dumps(fields), flush=True)

    answer({"parameters": sum(p.numel() for p in model.parameters()), "sgd": kind, "threads": torch.get_num_threads()})
    for line in sys.stdin:
        _, warm, steps = line.split()
        losses = [step() for _ in range(int(warm))]
        milliseconds = array.array("d")
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in range(int(steps)):
            start = time.perf_counter()
            losses.append(step())
            milliseconds.append((time.perf_counter() - start) * 1e3)
        cpus = (time.process_time() - cpu) / (time.perf_counter() - begin)
        now, peak = memory()
        answer({"milliseconds": milliseconds.tolist(), "first_loss": losses[0], "last_loss": losses[-1], "cpus": cpus,
                "grown_mb": now - baseline, "peak_grown_mb": peak - baseline})  # fmt: skip


if __name__ == "__main__":
    main()
