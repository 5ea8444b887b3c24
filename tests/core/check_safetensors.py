"""Checks our files with the safetensors package, and makes files for us to read.

    python3 check_safetensors.py FOLDER

FOLDER holds ours.safetensors and expected.json, which says what is in it. Writes
theirs.safetensors, and rewritten.safetensors: our file, changed and saved by the
package with our metadata kept. Called by a test case of test_checkpoint.cpp when
WHITTLE_TEST_PYTHON is set; needs the packages numpy and safetensors.
"""

import json
import pathlib
import sys

import numpy
import safetensors
import safetensors.numpy

NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
               "U8": "u1", "BOOL": "?"}


def main():
    folder = pathlib.Path(sys.argv[1])
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    ours = folder / "ours.safetensors"

    # The parser of the package, without numpy: names, dtypes, shapes, bytes.
    found = dict(safetensors.deserialize(ours.read_bytes()))
    assert set(found) == set(expected["tensors"]), (sorted(found), sorted(expected["tensors"]))
    for name, tensor in expected["tensors"].items():
        assert found[name]["dtype"] == tensor["dtype"], (name, found[name]["dtype"])
        assert list(found[name]["shape"]) == tensor["shape"], (name, found[name]["shape"])
        assert bytes(found[name]["data"]).hex() == tensor["hex"], name

    # What a user of the package does: open lazily, get arrays and metadata.
    arrays = {}
    with safetensors.safe_open(ours, framework="numpy") as file:
        metadata = file.metadata()
        for name, tensor in expected["tensors"].items():
            if tensor["dtype"] not in NUMPY_TYPES:  # numpy has no bfloat16
                continue
            arrays[name] = file.get_tensor(name)
            right = numpy.frombuffer(bytes.fromhex(tensor["hex"]), NUMPY_TYPES[tensor["dtype"]])
            right = right.reshape(tensor["shape"])
            assert arrays[name].dtype == right.dtype and arrays[name].shape == right.shape, name
            assert arrays[name].tobytes() == right.tobytes(), name
    for key, value in expected["metadata"].items():
        assert metadata[key] == value, key
    assert metadata["whittle.format"] == "1"

    theirs = {
        "f32": numpy.arange(6, dtype=numpy.float32).reshape(2, 3) / 2,
        "f16": numpy.array([1.5, -65504], dtype=numpy.float16),
        "i64": numpy.array([-1, 10**12], dtype=numpy.int64),
        "scalar": numpy.array(3.0, dtype=numpy.float64),
    }
    safetensors.numpy.save_file(theirs, folder / "theirs.safetensors", metadata={"made by": "python 木"})
    arrays["conv1.weight"] = arrays["conv1.weight"] * 2
    safetensors.numpy.save_file(arrays, folder / "rewritten.safetensors", metadata=metadata)
    print(f"checked {len(found)} tensors with safetensors {safetensors.__version__}, numpy {numpy.__version__}")


if __name__ == "__main__":
    main()
