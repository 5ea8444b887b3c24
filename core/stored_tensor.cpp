// The values of a stored tensor: conversion from and to the dtypes of a file.
#include <array>
#include <bit>
#include <cstring>

#include "core/checkpoint.h"
#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

constexpr const char* kOp = "checkpoint";
static_assert(std::endian::native == std::endian::little, "the format is little-endian and so is this code");

// In the order of Dtype.
constexpr std::array<std::string_view, 10> kNames = {"F64", "F32", "F16", "BF16", "I64",
                                                     "I32", "I16", "I8",  "U8",   "BOOL"};
constexpr std::array<int64_t, 10> kBytes = {8, 4, 2, 2, 8, 4, 2, 1, 1, 1};

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31;
  const uint32_t fraction = half & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact in float
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

float bfloat16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

template <class Stored, class Out, class Convert>
void convert(std::span<const std::byte> bytes, Out* out, Convert value_of) {
  for (; !bytes.empty(); bytes = bytes.subspan(sizeof(Stored))) {
    Stored stored{};
    std::memcpy(&stored, bytes.data(), sizeof stored);
    *out++ = static_cast<Out>(value_of(stored));
  }
}

// Integer dtypes only; returns whether this is one.
template <class Out>
bool convert_integers(const StoredTensor& stored, Out* out) {
  const auto same = [](auto value) { return value; };
  switch (stored.dtype) {
    case Dtype::kI64:
      convert<int64_t>(stored.bytes, out, same);
      return true;
    case Dtype::kI32:
      convert<int32_t>(stored.bytes, out, same);
      return true;
    case Dtype::kI16:
      convert<int16_t>(stored.bytes, out, same);
      return true;
    case Dtype::kI8:
      convert<int8_t>(stored.bytes, out, same);
      return true;
    case Dtype::kU8:
      convert<uint8_t>(stored.bytes, out, same);
      return true;
    case Dtype::kBool:
      convert<uint8_t>(stored.bytes, out, [](uint8_t value) { return value != 0; });
      return true;
    default:
      return false;
  }
}

void check_size(const StoredTensor& stored) {
  const auto needed = static_cast<size_t>(stored.shape.elements() * dtype_bytes(stored.dtype));
  require(stored.bytes.size() == needed, kOp, dtype_name(stored.dtype), " ", stored.shape, " needs ", needed,
          " bytes and has ", stored.bytes.size());
}

template <class T>
StoredTensor store(Dtype dtype, const Shape& shape, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  StoredTensor stored{.dtype = dtype, .shape = shape, .bytes = {bytes.begin(), bytes.end()}};
  check_size(stored);
  return stored;
}

}  // namespace

std::string_view dtype_name(Dtype dtype) { return kNames[static_cast<size_t>(dtype)]; }
int64_t dtype_bytes(Dtype dtype) { return kBytes[static_cast<size_t>(dtype)]; }

StoredTensor StoredTensor::from(const Tensor& tensor) {
  require(tensor.defined(), kOp, "an undefined tensor cannot be stored");
  return store(sizeof(real) == 8 ? Dtype::kF64 : Dtype::kF32, tensor.shape(), tensor.values());
}
StoredTensor StoredTensor::from(const Shape& shape, std::span<const int64_t> values) {
  return store(Dtype::kI64, shape, values);
}
StoredTensor StoredTensor::from(const Shape& shape, std::span<const uint8_t> values) {
  return store(Dtype::kU8, shape, values);
}

Tensor StoredTensor::to_tensor() const {
  check_size(*this);
  Tensor tensor = Tensor::empty(shape);
  real* out = tensor.mutable_data();
  const auto same = [](auto value) { return value; };
  switch (dtype) {
    case Dtype::kF64:
      convert<double>(bytes, out, same);
      break;
    case Dtype::kF32:
      convert<float>(bytes, out, same);
      break;
    case Dtype::kF16:
      convert<uint16_t>(bytes, out, half_to_float);
      break;
    case Dtype::kBF16:
      convert<uint16_t>(bytes, out, bfloat16_to_float);
      break;
    default:
      convert_integers(*this, out);
      break;
  }
  return tensor;
}

std::vector<int64_t> StoredTensor::to_integers() const {
  check_size(*this);
  std::vector<int64_t> values(static_cast<size_t>(shape.elements()));
  require(convert_integers(*this, values.data()), kOp, dtype_name(dtype), " ", shape, " holds no integers");
  return values;
}

}  // namespace whittle::inline WHITTLE_PRECISION
