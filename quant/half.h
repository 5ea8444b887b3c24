// Weights rounded to binary16: half the bytes, float arithmetic.
//
// Nothing is scaled and nothing is calibrated. Magnitudes above 65,504 are refused, those
// below 2^-24 become 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parameter.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

// The binary16 number nearest to x, ties to even, as binary32. Infinity beyond its range.
float to_half(float x);
// Its sixteen bits.
uint16_t half_bits(float x);

class Half : public Transform {
 public:
  std::string_view kind() const override { return "half"; }
  Stage stage() const override { return Stage::kFakeQuant; }
  Variable apply(const Variable& x) override;  // gx = g
  Json spec() const override;
};

// Rounds the weights of all convolution and linear layers, norms folded, but for those in `skip`.
void prepare_half(Module& model, const std::vector<std::string>& skip = {});
void add_half_kind(TransformKinds& kinds);

}  // namespace whittle::inline WHITTLE_PRECISION::quant
