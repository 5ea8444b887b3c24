// Masks: which weights stay.
//
//   prune::attach(model, {{"conv1.weight", mask}});    // from now on the layer reads 0 where the mask is 0
//   prune::masks(model);                               // all masks, by the parameter's name
//   prune::make_permanent(model);                      // writes the zeros into the weights, drops the masks
//
// A mask is plain data, one byte an element, keyed by the parameter's name. Attached, it
// is a transform at Stage::kMask: the layer reads the raw value or exactly +0, and the
// gradient of a pruned raw value is exactly 0, whatever stands there (0 times infinity
// would be no zero). The optimizer may still move a pruned raw value by momentum or
// decay; nobody reads it. A quantizer behind the mask sees exact zeros.
//
// How masks are chosen is score.h and select.h, when is schedule.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/parameter.h"
#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

struct Mask {
  Shape shape;
  std::vector<uint8_t> keep;  // row-major: 1 stays, 0 goes

  static Mask ones(const Shape& shape);
  static Mask of(const Tensor& zeros_and_ones);   // refuses any other number
  static Mask of_nonzeros(const Tensor& values);  // what is 0 goes
  Tensor to_tensor() const;
  int64_t kept() const;
  int64_t pruned() const { return shape.elements() - kept(); }

  friend bool operator==(const Mask&, const Mask&) = default;
};

using MaskSet = std::map<std::string, Mask>;  // by the parameter's name: "conv1.weight"

// keep ? x : 0      gx = keep ? g : 0
Variable masked(const Variable& x, const std::shared_ptr<const Mask>& mask);

// What sits in a chain. Saved as "conv1.weight/mask", one byte (BOOL) an element.
class MaskTransform : public Transform {
 public:
  explicit MaskTransform(Mask mask);  // throws unless it has an entry, 0 or 1, for every element of its shape

  const Mask& mask() const { return *mask_; }

  std::string_view kind() const override { return "mask"; }
  Stage stage() const override { return Stage::kMask; }
  Variable apply(const Variable& x) override { return masked(x, mask_); }
  Json spec() const override;
  void visit_state(const std::function<void(std::string_view name, Tensor& state)>& visit) override;
  StoredTensor stored(const Tensor& state) const override;

 private:
  std::shared_ptr<const Mask> mask_;  // shared with the tape
};

// So that a checkpoint's masks come back.
void add_mask_kind(TransformKinds& kinds);

const Mask* mask_of(const Parameter& parameter);  // null: it has none
void set_mask(Parameter& parameter, Mask mask);   // in place of the one it may have
void drop_mask(Parameter& parameter);             // the raw value shows again

// Of the model's parameters. attach() leaves those alone that the set does not name and
// throws, before anything changes, if it names one that there is not or of another shape.
MaskSet masks(Module& model);
void attach(Module& model, const MaskSet& set);
void replace_masks(Module& model, const MaskSet& set);  // the same, but no other parameter keeps a mask

// Pruned raw values become 0 and the masks go. Values stay as they are, to the bit.
void make_permanent(Module& model);

// ---- Tables -------------------------------------------------------------------------

struct SparsityRow {
  std::string name;  // of the parameter
  Shape shape;
  int64_t elements = 0;
  int64_t zeros = 0;  // pruned, or 0 without a mask
  bool masked = false;
};

// Every parameter that has a mask, and every weight of a convolution or linear layer.
std::vector<SparsityRow> sparsity(Module& model);
double sparsity_of(std::span<const SparsityRow> rows);  // zeros / elements, 0 of no rows
std::string to_text(std::span<const SparsityRow> rows);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
