// Taking channels out for good.
//
//   attach(model, select(model, input, layers, magnitude(layers), {.granularity = Granularity::channel()}));
//   const Compaction gone = compact(model, {1, 32, 32, 3});   // smaller tensors, fewer MACs
//   description.widths.merge(gone.widths) ...                  // so that a file rebuilds it: zoo.h
//
// A channel goes if taking it out changes no result, whoever made it so:
//
//   dead      all that makes it or passes it on gives 0: the filter's row is 0, and so are the bias or the
//             norm's gamma and beta. select_channels() sees to that
//   unread    every convolution and linear layer behind it has weights of 0 there
//
// and if it may go at all (channels.h). Results stay what they were but for rounding, since sums have
// fewer terms and may be taken in another order. Of every layer at least one channel stays. Masks
// are cut like what they mask, and dropped where nothing is masked any more.
//
// The model is changed in place; optimizers made before are of no use after. Quantizers come
// later: a model with any transform but masks is refused.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "layers/module.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

struct Compaction {
  std::map<std::string, LayerWidths> widths;  // of the layers that changed, as they are now, by path
  int64_t channels = 0;                       // output channels that were taken out, counted in each layer
};

// `input` is the shape of a batch, usually of one sample. Throws before anything changes.
Compaction compact(Module& model, const Shape& input);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
