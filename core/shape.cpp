#include "core/shape.h"

#include <ostream>

#include "core/error.h"

namespace whittle {

namespace {

std::string dims_text(std::span<const int64_t> dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    text += (i == 0 ? "" : ",") + std::to_string(dims[i]);
  }
  return text + "]";
}

}  // namespace

int64_t checked_product(int64_t a, int64_t b, const char* op) {
  int64_t product = 0;
  require(a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, &product), op, "the product of ", a, " and ", b,
          " is not a valid size");
  return product;
}

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) {
  require(dims.size() <= kMaxRank, "shape", "rank ", dims.size(), " is above the limit of ", kMaxRank);
  rank_ = static_cast<int>(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) {
    require(dims[i] >= 1, "shape", "dimension ", i, " of ", dims_text(dims), " is not positive");
    dims_[i] = dims[i];
    // Both factors are at most 2^48 after the first check, hence the division.
    require(dims[i] <= kMaxElements / elements_, "shape", dims_text(dims), " has more than 2^48 elements");
    elements_ *= dims[i];
  }
}

int Shape::normal_axis(int axis, const char* op) const {
  const int normal = axis < 0 ? axis + rank_ : axis;
  require(normal >= 0 && normal < rank_, op, "axis ", axis, " does not exist in shape ", *this);
  return normal;
}

int64_t Shape::elements(int from, int to) const {
  int64_t product = 1;
  for (int axis = from; axis < to; ++axis) {
    product *= dims_[static_cast<size_t>(axis)];
  }
  return product;
}

Shape Shape::with(int axis, int64_t extent) const {
  std::array<int64_t, kMaxRank> dims = dims_;
  dims[static_cast<size_t>(normal_axis(axis))] = extent;
  return Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank_)));
}

Shape Shape::without(int axis) const {
  const int removed = normal_axis(axis);
  std::array<int64_t, kMaxRank> dims{};
  size_t rank = 0;
  for (int i = 0; i < rank_; ++i) {
    if (i != removed) {
      dims[rank++] = dims_[static_cast<size_t>(i)];
    }
  }
  return Shape(std::span<const int64_t>(dims.data(), rank));
}

std::array<int64_t, Shape::kMaxRank> Shape::strides() const {
  std::array<int64_t, kMaxRank> strides{};
  int64_t stride = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    strides[static_cast<size_t>(axis)] = stride;
    stride *= dims_[static_cast<size_t>(axis)];
  }
  return strides;
}

std::string Shape::str() const { return dims_text(dims()); }

bool operator==(const Shape& a, const Shape& b) { return a.rank_ == b.rank_ && a.dims_ == b.dims_; }

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.str(); }

}  // namespace whittle
