// Programs run sample by sample, numbers in and numbers out, and compared with their models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deploy/lower.h"
#include "layers/module.h"

namespace whittle {

// The program's result for every sample of a batch, in the shape `result`: codes are made of
// inputs, and numbers of result codes, by A2 and A3.
Tensor run_program(const std::vector<uint8_t>& file, const Tensor& batch, const Shape& result);

// Lowers the model, runs both on the batch and says what differs: "" if no bit does.
// `compared` counts numbers, `integer_only` programs without a float.
struct Tally {
  int64_t numbers = 0;
  int64_t integer_only = 0;
};
std::string program_differences(Module& model, const Tensor& batch, Tally* tally = nullptr);

Shape sample_of(const Tensor& batch);  // its shape without the first extent

}  // namespace whittle
