// What the tests of the ops have in common: indices one by one, an op run forward
// and backward, and the comparison over thread counts.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/ops.h"
#include "core/parallel.h"
#include "core/train_kernels.h"
#include "tests/support/message.h"

namespace whittle::inline WHITTLE_PRECISION {

using Index = std::vector<int64_t>;

// Calls f(index, position) for every element of `shape` in row-major order.
template <class F>
void for_each_index(const Shape& shape, F f) {
  const std::span<const int64_t> dims = shape.dims();
  Index index(dims.size(), 0);
  for (int64_t position = 0; position < shape.elements(); ++position) {
    f(index, position);
    for (size_t axis = dims.size(); axis-- > 0 && ++index[axis] == dims[axis];) {
      index[axis] = 0;
    }
  }
}

// Where `index` lies in a tensor of `shape`, and where it lies if `shape` is
// broadcast: the last axes count, and an extent of 1 takes every index.
inline int64_t position_of(const Index& index, const Shape& shape) {
  const std::span<const int64_t> dims = shape.dims();
  const size_t missing = index.size() - dims.size();
  int64_t position = 0;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    position = position * dims[axis] + (dims[axis] == 1 ? 0 : index[missing + axis]);
  }
  return position;
}

// |got - want| within what rounding explains: a few units in the last place of
// `scale`, the sum of the magnitudes of what was added; or below the smallest
// normal number, where digits run out.
inline bool close(real got, double want, double scale, double units = 16) {
  using Limits = std::numeric_limits<real>;
  return std::abs(static_cast<double>(got) - want) <=
         units * static_cast<double>(Limits::epsilon()) * scale + static_cast<double>(Limits::min());
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() && a.shape() == b.shape() &&
         (!a.defined() || std::memcmp(a.data(), b.data(), sizeof(real) * static_cast<size_t>(a.elements())) == 0);
}

struct Run {
  Tensor value;
  std::vector<Tensor> gradients;  // undefined where none arrived
};

// f of the inputs as leaves, and the gradients when that of the result is `g`.
inline Run run(const std::function<Variable(std::span<const Variable>)>& f, const std::vector<Tensor>& inputs,
               const std::function<Tensor(const Shape&)>& g) {
  std::vector<Variable> leaves;
  for (const Tensor& input : inputs) {
    leaves.push_back(Variable::leaf(input.clone()));
  }
  const Variable y = f(leaves);
  backward(sum(mul(y, g(y.shape()))));
  Run result{y.value(), {}};
  for (const Variable& leaf : leaves) {
    result.gradients.push_back(leaf.grad());
  }
  return result;
}

// Value and gradients have the same bits for 1, 2, 3, 5 and 8 threads.
inline void check_same_bits_for_any_thread_count(const std::function<Variable(std::span<const Variable>)>& f,
                                                 const std::vector<Tensor>& inputs) {
  const auto g = [](const Shape& shape) { return Tensor::uniform(shape, {.seed = 77}, real(0.5), real(1.5)); };
  set_num_threads(1);
  const Run expected = run(f, inputs, g);
  for (const int threads : {2, 3, 5, 8}) {
    CAPTURE(threads);
    set_num_threads(threads);
    const Run got = run(f, inputs, g);
    CHECK(same_bits(got.value, expected.value));
    for (size_t i = 0; i < inputs.size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(got.gradients[i], expected.gradients[i]));
    }
  }
  set_num_threads(0);
}

// Runs f once with each kernel table that this CPU can use.
template <class F>
void for_each_table(F f) {
  const std::string before = train_kernels().name;
  for (const TrainKernels* table : available_train_kernels()) {
    const std::string name = table->name;
    CAPTURE(name);
    set_train_kernels(name);
    f();
  }
  set_train_kernels(before);
}

// A call that must be refused, and pieces its error text must contain.
struct Misuse {
  std::function<Variable()> call;
  std::vector<const char*> pieces;
};

inline void check_refused(const Misuse& misuse) {
  const std::string text = message_of(misuse.call);
  CAPTURE(text);
  for (const std::string piece : misuse.pieces) {
    CAPTURE(piece);
    CHECK(text.find(piece) != std::string::npos);
  }
  CHECK(text.starts_with('['));
}

}  // namespace whittle::inline WHITTLE_PRECISION
