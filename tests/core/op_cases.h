// The cases every op is checked with: how to make a random instance of the op.
//
// The same list serves two tests. In the double twin each instance's gradient is
// compared with central differences (test_gradcheck.cpp); and the float twin's
// values and gradients are compared with the double twin's on identical inputs
// (test_twins.cpp). To add an op, add an OpCase to op_cases_<group>.cpp.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/ops.h"
#include "core/rng.h"

namespace whittle::inline WHITTLE_PRECISION {

// One concrete call: inputs, and the op as a function of them.
struct OpInstance {
  std::string description;     // shapes and options, for failure messages
  std::vector<Tensor> inputs;  // all of them are differentiated
  std::function<Variable(std::span<const Variable>)> run;
};

struct OpCase {
  std::string op;  // the function's name in core/ops.h
  // Largest allowed difference between the twins, relative to the largest
  // magnitude of the double result: about 2^-24 times the length of a sum.
  double value_bound = 1e-6;
  double gradient_bound = 1e-6;
  std::function<OpInstance(Rng&)> make;
};

// ---- helpers for writing cases. Numbers are rounded to float, so that both
// twins see the same inputs. ----------------------------------------------------

// A small extent: 1 often, odd and even alike.
int64_t some_extent(Rng& rng, int64_t most = 7);
// A number of channels: mostly few, sometimes more than a vector has lanes.
int64_t some_channels(Rng& rng);
Tensor some_tensor(Rng& rng, const Shape& shape, double low = -2, double high = 2);
// Values in [low, high] no closer than 0.02 to any of `kinks`.
Tensor tensor_away_from(Rng& rng, const Shape& shape, std::initializer_list<double> kinks, double low, double high);
// All values at least 0.02 apart from each other, in random order: for max.
Tensor distinct_tensor(Rng& rng, const Shape& shape);

std::vector<OpCase> op_cases_matmul();
std::vector<OpCase> op_cases_arith();
std::vector<OpCase> op_cases_activation();
std::vector<OpCase> op_cases_conv();
std::vector<OpCase> op_cases_pool();
std::vector<OpCase> op_cases_norm();
std::vector<OpCase> op_cases_loss();
std::vector<OpCase> op_cases_shape();
std::vector<OpCase> op_cases_reduce();
std::vector<OpCase> op_cases_random();

std::vector<OpCase> all_op_cases();

}  // namespace whittle::inline WHITTLE_PRECISION
