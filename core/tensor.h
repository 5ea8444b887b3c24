// A dense block of numbers with a shape: `real`, row-major, contiguous.
//
// A Tensor is a handle. Copies share storage; reshape() is the only view; an
// operation never writes into a tensor it was given. The only in-place writes
// are to a tensor its maker has just created, and to a Parameter's raw value
// by an optimizer or a loader, both through mutable_data().
//
// There is no dtype, no stride, no device. Images are NHWC and filters OHWI,
// everywhere. Integers exist as int32_t labels and inside deployment, not here.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "core/real.h"
#include "core/rng.h"
#include "core/shape.h"

namespace whittle::inline WHITTLE_PRECISION {

// Reference-counted storage from the pool: one block holds the count and the
// 64-byte-aligned elements. Counting is thread-safe, the elements are not.
class Storage {
 public:
  Storage() = default;
  explicit Storage(int64_t elements);
  Storage(const Storage& other) noexcept : header_(other.header_) { retain(); }
  Storage(Storage&& other) noexcept : header_(other.header_) { other.header_ = nullptr; }
  Storage& operator=(Storage other) noexcept {
    std::swap(header_, other.header_);
    return *this;
  }
  ~Storage() { release(); }

  real* data() const;
  int64_t use_count() const;
  explicit operator bool() const { return header_ != nullptr; }
  friend bool operator==(const Storage&, const Storage&) = default;

 private:
  struct Header;
  void retain() noexcept;
  void release() noexcept;
  Header* header_ = nullptr;
};

class Tensor {
 public:
  Tensor() = default;  // undefined: no storage, defined() is false

  static Tensor empty(const Shape& shape);  // NaN-filled in debug builds, unspecified otherwise
  static Tensor zeros(const Shape& shape);
  static Tensor full(const Shape& shape, real value);
  static Tensor scalar(real value);
  static Tensor of(const Shape& shape, std::initializer_list<real> values);
  static Tensor from(const Shape& shape, std::span<const real> values);

  // Element i is drawn from (key, i): the same numbers for any thread count.
  static Tensor uniform(const Shape& shape, RngKey key, real low = 0, real high = 1);
  static Tensor normal(const Shape& shape, RngKey key, real mean = 0, real deviation = 1);

  bool defined() const { return static_cast<bool>(storage_); }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }

  const real* data() const { return storage_.data(); }
  real* mutable_data() { return storage_.data(); }
  std::span<const real> values() const { return {data(), static_cast<size_t>(elements())}; }
  std::span<real> mutable_values() { return {mutable_data(), static_cast<size_t>(elements())}; }
  real at(std::initializer_list<int64_t> index) const;  // checked; for tests and printing
  real item() const;                                    // the only element; throws if there are more

  Tensor reshape(const Shape& shape) const;  // shares storage; same number of elements
  Tensor clone() const;                      // own storage
  bool shares_storage_with(const Tensor& other) const { return defined() && storage_ == other.storage_; }
  bool is_unique() const { return storage_.use_count() == 1; }

  bool all_finite() const;

 private:
  Tensor(Storage storage, const Shape& shape) : storage_(std::move(storage)), shape_(shape) {}
  Storage storage_;
  Shape shape_;
};

// target += addend, elementwise, in place. For makers of new tensors and the
// gradient accumulator only.
void add_in_place(Tensor& target, const Tensor& addend);

}  // namespace whittle::inline WHITTLE_PRECISION
