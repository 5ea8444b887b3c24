"""A peer of `./run bench infer` in a process of its own: loads one net and runs it when told to.

    infer_worker.py PEER STEM THREADS VARIANT LIBRARY

STEM names the files that infer.py wrote for this net, number type and batch; LIBRARY is bench_calls, which times C
functions. With the VARIANT "choose" it times all variants of the peer for a moment, tells the medians, and ends;
"guess" does that for the first one that works. One whose outputs are not ours does not work.
With any other it speaks the protocol of bench_infer (bench/infer_step.cpp); `check` writes outputs in the form that the
peer has them.
"""

import array
import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np
from infer_net import Net, least_alike, likeness

# ---- What all need --------------------------------------------------------------------------


@contextlib.contextmanager
def timed(told, name):
    start = time.perf_counter()
    yield
    told[name] = 1e3 * (time.perf_counter() - start)


def loop(call, runs):
    """Milliseconds of each call from Python."""
    clock, spent = time.perf_counter_ns, array.array("d", bytes(8 * runs))
    for i in range(runs):
        start = clock()
        call()
        spent[i] = clock() - start
    return spent


@functools.cache
def empty_call():
    """What the loop itself costs, in nanoseconds."""
    return statistics.median(loop(int, 2000))


def python_times(call, runs):
    return [max(0.0, ns - empty_call()) / 1e6 for ns in loop(call, runs)]


def folder_of(package):
    return pathlib.Path(next(iter(importlib.util.find_spec(package).submodule_search_locations)))


def channels_first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


class Job:
    def __init__(self, stem, threads, calls):
        self.stem, self.threads = stem, threads
        self.net = Net.load(stem + ".npz")
        self.int8 = self.net.int8
        self.calls = ctypes.CDLL(calls)
        self.calls.time_ort.restype = self.calls.time_status.restype = ctypes.c_int64
        self.shape = self.net.values[self.net.input].shape

    def unsigned(self, codes):
        return (codes.astype(np.int16) + 128).astype(np.uint8)

    def numbers(self, codes):
        return self.net.numbers(self.net.input, codes)

    def samples(self, path):
        return np.fromfile(path, np.int8 if self.int8 else np.float32).reshape(-1, *self.shape)

    def c_times(self, function, *arguments, runs):
        spent = (ctypes.c_double * runs)()
        if function(*arguments, ctypes.c_int64(runs), spent) != runs:
            raise RuntimeError("a run failed")
        return list(spent)


# ---- The peers --------------------------------------------------------------------------------
#
# Each: variants(job) names its settings, the first of which --quick takes; import_library(); load(job, variant);
# set(x) takes our input, codes or numbers, NHWC; times(runs); result().


class OnnxRuntime:
    """By its C interface, whose function table only grows: numbers below are places in it."""

    package = "onnxruntime"
    ERROR, ENV, SESSION, RUN, OPTIONS, LEVEL, INTRA, INTER = 2, 3, 7, 9, 10, 23, 24, 25
    TENSOR, MEMORY, ENTRY = 49, 69, 130
    FLOAT, UINT8, INT8 = 1, 2, 3

    @staticmethod
    def variants(job):
        forms = ["qdq", "qoperator", "qdq numbers"] if job.int8 else ["float"]
        return [form + spin for form in forms for spin in (["", " no-spin"] if job.threads > 1 else [""])]

    def import_library(self):
        (library,) = list((folder_of("onnxruntime") / "capi").glob("libonnxruntime.so*"))[:1]
        self.library = ctypes.CDLL(str(library))

        class Base(ctypes.Structure):
            _fields_ = [("get", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)), ("version", ctypes.c_void_p)]

        self.library.OrtGetApiBase.restype = ctypes.POINTER(Base)
        self.table = ctypes.cast(self.library.OrtGetApiBase().contents.get(17), ctypes.POINTER(ctypes.c_void_p))

    def call(self, number, *arguments):
        status = ctypes.CFUNCTYPE(ctypes.c_void_p, *map(type, arguments))(self.table[number])(*arguments)
        if status:
            told = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self.table[self.ERROR])(status)
            raise RuntimeError(told.decode())

    def make(self, number, *arguments):
        made = ctypes.c_void_p()
        self.call(number, *arguments, ctypes.pointer(made))
        return made

    def load(self, job, variant):
        self.job, self.form = job, variant.removesuffix(" no-spin")
        form = {"qdq": "codes", "qoperator": "qop", "qdq numbers": "numbers", "float": "codes"}[self.form]
        self.file = f"{job.stem}.{form}.onnx"
        env = self.make(self.ENV, ctypes.c_int(3), ctypes.c_char_p(b"bench"))
        options = self.make(self.OPTIONS)
        for number, setting in ((self.LEVEL, 99), (self.INTRA, job.threads), (self.INTER, 1)):
            self.call(number, options, ctypes.c_int(setting))
        if variant.endswith(" no-spin"):
            self.call(self.ENTRY, options, ctypes.c_char_p(b"session.intra_op.allow_spinning"), ctypes.c_char_p(b"0"))
        self.session = self.make(self.SESSION, env, ctypes.c_char_p(self.file.encode()), options)
        exact = self.form == "qoperator"
        net = job.net
        shape = job.shape if len(job.shape) != 4 else [job.shape[i] for i in (0, 3, 1, 2)]
        kinds = (np.int8, self.INT8) if exact else (np.uint8, self.UINT8)
        as_codes = job.int8 and self.form != "qdq numbers"
        self.x = np.zeros(shape, kinds[0] if as_codes else np.float32)
        self.y = np.zeros(net.values[net.output].shape, np.int8 if exact else np.float32)
        memory = self.make(self.MEMORY, ctypes.c_int(0), ctypes.c_int(0))
        tensors = [self.tensor(memory, self.x, kinds[1] if as_codes else self.FLOAT),
                   self.tensor(memory, self.y, self.INT8 if exact else self.FLOAT)]  # fmt: skip
        names = [f"v{net.input}", f"v{net.output}"] if exact else ["input", "output"]
        names = [(ctypes.c_char_p * 1)(name.encode()) for name in names]
        tensors = [(ctypes.c_void_p * 1)(t) for t in tensors]
        run = ctypes.c_void_p(self.table[self.RUN])
        self.arguments = (run, self.session, names[0], tensors[0], names[1], tensors[1])

    def tensor(self, memory, x, kind):
        extents = (ctypes.c_int64 * x.ndim)(*x.shape)
        return self.make(self.TENSOR, memory, ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(x.nbytes), extents,
                         ctypes.c_size_t(x.ndim), ctypes.c_int(kind))  # fmt: skip

    def set(self, x):
        if self.x.dtype == np.uint8:
            x = self.job.unsigned(x)
        elif self.job.int8 and self.x.dtype == np.float32:
            x = self.job.numbers(x)
        self.x[:] = channels_first(x)

    def times(self, runs):
        return self.job.c_times(self.job.calls.time_ort, *self.arguments, runs=runs)

    def result(self):
        return self.y

    def bytes_of_file(self):
        return os.path.getsize(self.file)


class OpenVino:
    """By its C interface. Reads the same ONNX graphs; what is not int8 is computed in float32, not in bfloat16."""

    package = "openvino"

    @staticmethod
    def variants(job):
        # Its int8 products of rows (2026.4.1, AVX-512) give wrong numbers for some shapes, its convolutions do not.
        return ["codes 1x1", "codes", "numbers 1x1"] if job.int8 else ["float"]

    def import_library(self):
        (library,) = list((folder_of("openvino") / "libs").glob("libopenvino_c.so*"))[:1]
        self.library = ctypes.CDLL(str(library))

    def call(self, name, *arguments):
        if getattr(self.library, name)(*arguments) != 0:
            self.library.ov_get_last_err_msg.restype = ctypes.c_char_p
            raise RuntimeError((self.library.ov_get_last_err_msg() or name.encode()).decode())

    def make(self, name, *arguments):
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def load(self, job, variant):
        self.job = job
        form = variant.replace(" ", "") if job.int8 else "codes"
        self.file = f"{job.stem}.{form}.onnx"
        core = self.make("ov_core_create")
        model = self.make("ov_core_read_model", core, self.file.encode(), None)
        settings = {"INFERENCE_NUM_THREADS": job.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": "NO"}  # fmt: skip
        words = [ctypes.c_char_p(str(word).encode()) for pair in settings.items() for word in pair]
        compiled = ctypes.c_void_p()
        count = ctypes.c_size_t(len(words))
        self.call("ov_core_compile_model", core, model, b"CPU", count, ctypes.byref(compiled), *words)
        self.request = self.make("ov_compiled_model_create_infer_request", compiled)
        kind = np.uint8 if form.startswith("codes") and job.int8 else np.float32
        shape = job.shape if len(job.shape) != 4 else [job.shape[i] for i in (0, 3, 1, 2)]
        self.x = self.view("ov_infer_request_get_input_tensor", shape, kind)

    def view(self, name, shape, kind):
        data = self.make("ov_tensor_data", self.make(name, self.request))
        nbytes = int(np.prod(shape)) * np.dtype(kind).itemsize
        return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(data.value), kind).reshape(shape)

    def set(self, x):
        if self.x.dtype == np.uint8:
            x = self.job.unsigned(x)
        elif self.job.int8:
            x = self.job.numbers(x)
        self.x[:] = channels_first(x)

    def times(self, runs):
        function = self.library.ov_infer_request_infer
        return self.job.c_times(self.job.calls.time_status, function, self.request, runs=runs)

    def result(self):
        shape = self.job.net.values[self.job.net.output].shape
        return self.view("ov_infer_request_get_output_tensor", shape, np.float32)

    def bytes_of_file(self):
        return os.path.getsize(self.file)


class Ncnn:
    """Has no batch: samples follow one another."""

    package = "ncnn"

    @staticmethod
    def variants(job):
        return ["packed", "unpacked"]

    def import_library(self):
        import ncnn

        self.ncnn = ncnn

    def load(self, job, variant):
        self.job = job
        self.net = self.ncnn.Net()
        options = self.net.opt
        options.num_threads = job.threads
        options.use_packing_layout = variant == "packed"
        options.use_int8_inference = job.int8
        for name in ("bf16_storage", "fp16_packed", "fp16_storage", "fp16_arithmetic", "vulkan_compute"):
            setattr(options, f"use_{name}", False)
        if self.net.load_param(job.stem + ".param") != 0 or self.net.load_model(job.stem + ".bin") != 0:
            raise RuntimeError(f"ncnn does not load {job.stem}.param")
        self.samples, self.outputs = [], []

    def set(self, x):
        x = channels_first(self.job.numbers(x) if self.job.int8 else x)
        self.samples = [self.ncnn.Mat(np.ascontiguousarray(sample)).clone() for sample in x]

    def step(self):
        self.outputs = []
        for sample in self.samples:
            extractor = self.net.create_extractor()
            extractor.input("input", sample)
            self.outputs.append(extractor.extract("output")[1])

    def times(self, runs):
        return python_times(self.step, runs)

    def result(self):
        return np.stack([np.array(y).reshape(-1) for y in self.outputs])

    def bytes_of_file(self):
        return sum(os.path.getsize(self.job.stem + end) for end in (".param", ".bin"))


class LiteRt:
    """With its XNNPACK delegate, which the interpreter applies by itself."""

    package = "ai_edge_litert"

    @staticmethod
    def variants(job):
        return ["xnnpack", "xnnpack latest"]

    def import_library(self):
        from ai_edge_litert import interpreter

        self.module = interpreter

    def load(self, job, variant):
        self.job = job
        self.file = job.stem + ".tflite"
        self.interpreter = self.module.Interpreter(
            self.file, num_threads=job.threads, experimental_default_delegate_latest_features=variant.endswith("latest")
        )
        self.interpreter.allocate_tensors()
        self.x = self.interpreter.get_input_details()[0]["index"]
        self.y = self.interpreter.get_output_details()[0]["index"]
        self.invoke = self.interpreter._interpreter.Invoke  # without the checks that invoke() does in Python

    def set(self, x):
        self.interpreter.set_tensor(self.x, x)

    def times(self, runs):
        return python_times(self.invoke, runs)

    def result(self):
        return self.interpreter.get_tensor(self.y)

    def bytes_of_file(self):
        return os.path.getsize(self.file)


class PyTorch:
    """int8: its quantized modules with our codes and grids, on each of its engines. Float: eager, frozen, compiled."""

    package = "torch"

    @staticmethod
    def variants(job):
        if job.int8:
            return [f"{engine} {mode}" for mode in ("jit", "eager") for engine in ("onednn", "x86", "fbgemm")]
        layouts = ["channels_last", "contiguous"] if len(job.shape) == 4 and job.shape[-1] > 1 else ["contiguous"]
        modes = ["jit", "eager"] + ([] if os.environ.get("WHITTLE_NO_COMPILE") else ["compile"])
        return [f"{layout} {mode}" for layout in layouts for mode in modes]

    def import_library(self):
        import torch
        import torch.ao.nn.intrinsic.quantized
        import torch.ao.nn.quantized

        self.torch = torch

    def load(self, job, variant):
        import infer_torch

        self.job = job
        self.kind, mode = variant.split()
        self.torch.set_num_threads(job.threads)
        with contextlib.suppress(RuntimeError):  # can be set once in a process
            self.torch.set_num_interop_threads(1)
        if job.int8:
            if self.kind not in self.torch.backends.quantized.supported_engines:
                raise LookupError(f"this PyTorch has no quantized engine {self.kind}")
            self.torch.backends.quantized.engine = self.kind
        self.model = infer_torch.build(job.net).eval()
        if self.kind == "channels_last":
            self.model = self.model.to(memory_format=self.torch.channels_last)
        self.set(np.zeros(job.shape, np.int8 if job.int8 else np.float32))
        with self.torch.inference_mode():
            if mode == "jit":
                self.model = self.torch.jit.freeze(self.torch.jit.trace(self.model, self.x, check_trace=False))
                if not job.int8:
                    self.model = self.torch.jit.optimize_for_inference(self.model)
            elif mode == "compile":
                self.model = self.torch.compile(self.model)
                self.model(self.x)

    def set(self, x):
        torch, v = self.torch, self.job.net.values[self.job.net.input]
        self.x = torch.from_numpy(channels_first(self.job.numbers(x) if self.job.int8 else x))
        if self.job.int8:
            self.x = torch.quantize_per_tensor(self.x, v.scale, v.zero + 128, torch.quint8)
        if self.x.dim() == 4 and self.kind != "contiguous":
            self.x = self.x.contiguous(memory_format=torch.channels_last)

    def times(self, runs):
        with self.torch.inference_mode():
            spent = python_times(lambda: self.model(self.x), runs)
            self.y = self.model(self.x)
        return spent

    def result(self):
        return (self.y.dequantize() if self.y.is_quantized else self.y).numpy()

    def bytes_of_file(self):
        return os.path.getsize(self.job.stem + ".npz")


PEERS = {"onnxruntime": OnnxRuntime, "pytorch": PyTorch, "openvino": OpenVino, "ncnn": Ncnn, "litert": LiteRt}

# ---- The process --------------------------------------------------------------------------------


def memory(field):
    fields = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) / 1024


def mapped_libraries():
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    paths = {fields[5] for line in lines if len(fields := line.split(None, 5)) == 6 and ".so" in fields[5]}
    return {path for path in paths if os.path.exists(path)}


def zeros(job):
    return np.zeros(job.shape, np.int8 if job.int8 else np.float32)


def answers(job, peer, path):
    """Outputs of the samples in a file, as the peer has them."""
    results = []
    for x in job.samples(path):
        peer.set(x)
        peer.times(1)
        results.append(np.array(peer.result()))
    return np.stack(results)


def check(job, name, peer):
    expected = np.fromfile(job.stem + ".expected", np.float32)
    rows = job.net.results(expected)
    alike = likeness(rows, job.net.results(answers(job, peer, job.stem + ".in")))
    if alike < least_alike(name, job.int8):
        raise ValueError(f"computes something else: its outputs correlate with ours by {alike:.3f}")


def prepared(name, job, variant):
    peer = PEERS[name]()
    peer.import_library()
    peer.load(job, variant)
    check(job, name, peer)
    return peer


def first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def choose(name, job, only_first):
    """Medians of the variants that work; why others do not."""
    found, failed = {}, {}
    for variant in PEERS[name].variants(job):
        try:
            peer = prepared(name, job, variant)
            estimate = max(1e-4, min(peer.times(2)))
            peer.times(min(200, int(30 / estimate) + 1))
            found[variant] = statistics.median(peer.times(min(2000, int(120 / estimate) + 3)))
        except Exception as error:  # whatever it is: that all variants fail is told by infer.py
            failed[variant] = first_line(error)
        if found and only_first:
            break
    return {"variants": found, "failed": failed}


def serve(name, job, variant, answer):
    baseline, before = memory("VmRSS"), mapped_libraries()
    told, peer = {"threads": job.threads, "variant": variant}, PEERS[name]()
    with timed(told, "import_ms"):
        peer.import_library()
    with timed(told, "load_ms"):
        peer.load(job, variant)
    peer.set(zeros(job))
    with timed(told, "first_ms"):
        peer.times(1)
    told["library_bytes"] = sum(os.path.getsize(path) for path in mapped_libraries() - before)
    told["file_bytes"] = peer.bytes_of_file()
    told["version"] = importlib.metadata.version(peer.package.replace("_", "-"))
    answer(told)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "check":
            results = answers(job, peer, words[1])
            results.tofile(words[2])
            answer({"type": results.dtype.name})
        else:
            if int(words[1]) > 0:
                peer.times(int(words[1]))
            spent = peer.times(int(words[2]))
            peak = memory("VmHWM")
            answer({"milliseconds": list(spent), "peak_mb": peak, "peak_grown_mb": peak - baseline})


def main():
    name, stem, threads, variant, calls = sys.argv[1:]
    # Peers write what they like to standard output; answers go where it was.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(fields):
        print(json.dumps(fields), file=channel, flush=True)

    job = Job(stem, int(threads), calls)
    if variant in ("choose", "guess"):
        answer(choose(name, job, variant == "guess"))
    else:
        serve(name, job, variant, answer)


if __name__ == "__main__":
    main()
