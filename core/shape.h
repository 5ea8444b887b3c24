// The extents of a tensor: up to eight dimensions, each at least 1.
//
// A Shape is valid once it exists: construction checks every dimension and
// that the number of elements fits in 2^48, so no later product of dimensions
// can overflow. There are no empty tensors; an axis of length 0 is refused.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>

namespace whittle {

class Shape {
 public:
  static constexpr int kMaxRank = 8;
  static constexpr int64_t kMaxElements = int64_t{1} << 48;

  Shape() = default;  // rank 0: a scalar, one element
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t elements() const { return elements_; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }

  // Extent along `axis`; negative axes count from the end, so s[-1] is the
  // channel axis of NHWC. Throws if there is no such axis.
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(normal_axis(axis))]; }

  // The same axis as a number in [0, rank). `op` names the caller in the error.
  int normal_axis(int axis, const char* op = "shape") const;

  // Number of elements in the axes [from, to).
  int64_t elements(int from, int to) const;

  // A copy with one extent replaced, inserted or removed.
  Shape with(int axis, int64_t extent) const;
  Shape without(int axis) const;

  // Element strides of the row-major layout, one per axis.
  std::array<int64_t, kMaxRank> strides() const;

  std::string str() const;  // "[2,3]", "[]" for a scalar

  friend bool operator==(const Shape&, const Shape&);

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int64_t elements_ = 1;
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream&, const Shape&);

// The product of two non-negative sizes, or an Error that names `op`. For sizes
// that come from files and options before a Shape exists.
int64_t checked_product(int64_t a, int64_t b, const char* op);

}  // namespace whittle
