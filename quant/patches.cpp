#include "quant/patches.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "layers/conv2d.h"
#include "quant/tap.h"

namespace whittle::inline WHITTLE_PRECISION::quant {

namespace {

// Where a convolution computes, and what it reads there.
struct Window {
  Size2 kernel{1, 1};
  Size2 stride{1, 1};
  Size2 dilation{1, 1};
  Padding padding{};
};

Window window_of(const WeightedLayer& layer) {
  const auto* const conv = dynamic_cast<const Conv2d*>(&layer);
  return conv == nullptr ? Window{}
                         : Window{conv->options().kernel, conv->options().stride, conv->options().dilation,
                                  conv->options().padding};
}

int64_t groups_of(const WeightedLayer& layer) {
  const auto* const conv = dynamic_cast<const Conv2d*>(&layer);
  return conv == nullptr ? 1 : conv->options().groups;
}

class Collector {
 public:
  Collector(const WeightedLayer& layer, RngKey key, int64_t per_sample)
      : window_(window_of(layer)),
        is_convolution_(dynamic_cast<const Conv2d*>(&layer) != nullptr),
        key_(key),
        per_sample_(is_convolution_ ? per_sample : 1) {}

  void take(const Tensor& x) {
    // A linear layer's rows are pictures of one pixel.
    const int64_t channels = x.dim(-1);
    const int64_t h = is_convolution_ ? x.dim(1) : 1;
    const int64_t w = is_convolution_ ? x.dim(2) : 1;
    const int64_t pictures = x.elements() / (h * w * channels);
    channels_ = channels;
    const int64_t rows = window_positions(h, window_.padding.top, window_.padding.bottom, window_.kernel.h,
                                          window_.stride.h, window_.dilation.h);
    const int64_t columns = window_positions(w, window_.padding.left, window_.padding.right, window_.kernel.w,
                                             window_.stride.w, window_.dilation.w);
    for (int64_t n = 0; n < pictures; ++n) {
      for (int64_t k = 0; k < per_sample_; ++k) {
        const auto place = static_cast<int64_t>(
            below(key_, static_cast<uint64_t>(seen_ * per_sample_ + k), static_cast<uint64_t>(rows * columns)));
        append(x.data() + n * h * w * channels, h, w, place / columns, place % columns);
      }
      ++seen_;
    }
  }

  Tensor patches() const {
    const int64_t row = window_.kernel.h * window_.kernel.w * channels_;
    require(row > 0 && !values_.empty(), "patches", "there are no calibration data");
    return Tensor::from({static_cast<int64_t>(values_.size()) / row, window_.kernel.h, window_.kernel.w, channels_},
                        values_);
  }

 private:
  void append(const real* picture, int64_t h, int64_t w, int64_t i, int64_t j) {
    for (int64_t u = 0; u < window_.kernel.h; ++u) {
      for (int64_t v = 0; v < window_.kernel.w; ++v) {
        const int64_t y = i * window_.stride.h + u * window_.dilation.h - window_.padding.top;
        const int64_t x = j * window_.stride.w + v * window_.dilation.w - window_.padding.left;
        if (y < 0 || y >= h || x < 0 || x >= w) {
          values_.insert(values_.end(), static_cast<size_t>(channels_), real(0));
        } else {
          const real* const pixel = picture + (y * w + x) * channels_;
          values_.insert(values_.end(), pixel, pixel + channels_);
        }
      }
    }
  }

  Window window_;
  bool is_convolution_;
  RngKey key_;
  int64_t per_sample_;
  int64_t channels_ = 0;
  int64_t seen_ = 0;
  std::vector<real> values_;
};

}  // namespace

std::map<const WeightedLayer*, Tensor> sampled_patches(Module& model, const Batches& batches,
                                                       std::span<WeightedLayer* const> layers,
                                                       const PatchOptions& options) {
  require(options.per_sample >= 1, "patches", options.per_sample, " places of a sample are not at least 1");
  const EvaluationMode evaluation(model);
  const NoGrad no_grad;
  std::map<const WeightedLayer*, Collector> collectors;
  std::vector<std::unique_ptr<Plugged>> taps;
  for (const auto& [path, module] : model.modules()) {
    auto* const layer = dynamic_cast<WeightedLayer*>(module);
    if (layer == nullptr || std::ranges::find(layers, layer) == layers.end()) {
      continue;
    }
    Collector& collector =
        collectors.try_emplace(layer, *layer, RngKey{options.seed}.child(path), options.per_sample).first->second;
    const auto look = [&collector, layer](const Variable& x) {
      // The tap sits in front of the chain's quantizer.
      Transform* const quantizer = layer->input.at(Stage::kFakeQuant);
      collector.take(quantizer == nullptr ? x.value() : quantizer->apply(x).value());
    };
    taps.push_back(std::make_unique<Plugged>(layer->input, std::make_shared<Tap>(look)));
  }
  const auto next = batches();
  for (Tensor batch = next(); batch.defined(); batch = next()) {
    require(batch.all_finite(), "patches", "the calibration data hold NaN or infinity");
    model(batch);
  }
  std::map<const WeightedLayer*, Tensor> found;
  for (const auto& [layer, collector] : collectors) {
    found.emplace(layer, collector.patches());
  }
  return found;
}

Variable sums_over(const WeightedLayer& layer, const Tensor& patches, const Variable& weight) {
  const int64_t n = patches.dim(0);
  const int64_t out = weight.shape()[0];
  const int64_t groups = groups_of(layer);
  if (groups == 1) {
    const int64_t row = patches.elements() / n;
    return linear(Variable(patches.reshape({n, row})), reshape(weight, {out, row}));
  }
  return reshape(conv2d(Variable(patches), weight, {}, {.groups = groups}), {n, out});
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant
