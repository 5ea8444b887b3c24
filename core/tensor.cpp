#include "core/tensor.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <new>

#include "core/error.h"
#include "core/loops.h"
#include "core/pool.h"
#include "core/train_kernels.h"

namespace whittle::inline WHITTLE_PRECISION {

// One cache line in front of the elements, so that they stay aligned to 64 bytes.
struct alignas(64) Storage::Header {
  std::atomic<int64_t> references;
  size_t bytes;  // of the whole block
  real* elements() { return reinterpret_cast<real*>(this + 1); }
};

Storage::Storage(int64_t elements) {
  const size_t bytes = sizeof(Header) + static_cast<size_t>(elements) * sizeof(real);
  header_ = new (pool_allocate(bytes)) Header{.references = 1, .bytes = bytes};
}

real* Storage::data() const { return header_ == nullptr ? nullptr : header_->elements(); }

int64_t Storage::use_count() const {
  return header_ == nullptr ? 0 : header_->references.load(std::memory_order_acquire);
}

void Storage::retain() noexcept {
  if (header_ != nullptr) {
    header_->references.fetch_add(1, std::memory_order_relaxed);
  }
}

void Storage::release() noexcept {
  if (header_ != nullptr && header_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    const size_t bytes = header_->bytes;
    header_->~Header();
    pool_release(header_, bytes);
  }
}

namespace {

template <class Draw>
Tensor drawn(const Shape& shape, Draw draw) {
  Tensor t = Tensor::empty(shape);
  real* out = t.mutable_data();
  parallel_ranges(shape.elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = static_cast<real>(draw(static_cast<uint64_t>(i)));
    }
  });
  return t;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape) {
  Tensor t(Storage(shape.elements()), shape);
#ifndef NDEBUG  // whoever reads before writing meets a NaN
  std::ranges::fill(t.mutable_values(), std::numeric_limits<real>::quiet_NaN());
#endif
  return t;
}

Tensor Tensor::zeros(const Shape& shape) { return full(shape, 0); }

Tensor Tensor::full(const Shape& shape, real value) {
  Tensor t(Storage(shape.elements()), shape);
  std::ranges::fill(t.mutable_values(), value);
  return t;
}

Tensor Tensor::scalar(real value) { return full(Shape(), value); }

Tensor Tensor::of(const Shape& shape, std::initializer_list<real> values) {
  return from(shape, std::span(values.begin(), values.size()));
}

Tensor Tensor::from(const Shape& shape, std::span<const real> values) {
  require(static_cast<int64_t>(values.size()) == shape.elements(), "tensor", values.size(), " values given for shape ",
          shape, " of ", shape.elements(), " elements");
  Tensor t = empty(shape);
  std::ranges::copy(values, t.mutable_data());
  return t;
}

Tensor Tensor::uniform(const Shape& shape, RngKey key, real low, real high) {
  return drawn(shape, [=](uint64_t i) {
    return static_cast<double>(low) + (static_cast<double>(high) - static_cast<double>(low)) * whittle::uniform(key, i);
  });
}

Tensor Tensor::normal(const Shape& shape, RngKey key, real mean, real deviation) {
  return drawn(shape, [=](uint64_t i) {
    return static_cast<double>(mean) + static_cast<double>(deviation) * whittle::normal(key, i);
  });
}

real Tensor::at(std::initializer_list<int64_t> index) const {
  require(defined() && static_cast<int>(index.size()) == rank(), "tensor", "an index of ", index.size(),
          " numbers does not fit shape ", shape_);
  int64_t offset = 0;
  int axis = 0;
  for (const int64_t i : index) {
    require(i >= 0 && i < dim(axis), "tensor", "index ", i, " is outside axis ", axis, " of shape ", shape_);
    offset = offset * dim(axis++) + i;
  }
  return data()[offset];
}

real Tensor::item() const {
  require(defined() && elements() == 1, "tensor", "item() needs exactly one element, shape is ", shape_);
  return *data();
}

Tensor Tensor::reshape(const Shape& shape) const {
  require(defined() && shape.elements() == elements(), "reshape", "shape ", shape_, " has ", elements(), " elements, ",
          shape, " has ", shape.elements());
  return {storage_, shape};
}

Tensor Tensor::clone() const {
  if (!defined()) {
    return {};
  }
  Tensor copy(Storage(elements()), shape_);
  std::copy_n(data(), elements(), copy.mutable_data());
  return copy;
}

bool Tensor::all_finite() const {
  return std::ranges::all_of(values(), [](real x) { return std::isfinite(x); });
}

void add_in_place(Tensor& target, const Tensor& addend) {
  assert(target.shape() == addend.shape());
  real* sum = target.mutable_data();
  const real* more = addend.data();
  parallel_ranges(target.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
    train_kernels().loops.add_to(more + begin, end - begin, sum + begin);
  });
}

}  // namespace whittle::inline WHITTLE_PRECISION
