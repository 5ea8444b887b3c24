#include "compress/adaround.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/ops.h"
#include "core/parallel.h"
#include "layers/trace.h"
#include "optim/adam.h"
#include "quant/fake_quant.h"
#include "quant/patches.h"
#include "quant/prepare.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

using quant::FakeQuant;

constexpr double kStretch = 1.2;  // zeta - gamma of the paper, with zeta = 1.1 and gamma = -0.1
constexpr double kLow = -0.1;

double stretched(double v) { return kStretch / (1 + std::exp(-v)) + kLow; }

// One layer's weight between its codes.
class Cells {
 public:
  Cells(const Tensor& weight, const Grids& grids) : weight_(weight), grids_(grids) {
    const auto n = static_cast<size_t>(weight.elements());
    length_ = weight.elements() / static_cast<int64_t>(grids.size());
    below_.resize(n);
    start_ = Tensor::empty(weight.shape());
    for (size_t i = 0; i < n; ++i) {
      const double t = static_cast<double>(value(i)) / static_cast<double>(grid(i).scale);
      below_[i] = std::floor(t);
      const double rest = t - below_[i];
      start_.mutable_data()[i] = static_cast<real>(-std::log(kStretch / (rest - kLow) - 1));
    }
  }

  const Tensor& start() const { return start_; }  // V with which w~ is w, within the grid
  int64_t size() const { return weight_.elements(); }

  // w~ of V, with its gradient.
  Variable soft(const Variable& v) const {
    Tensor weight = Tensor::empty(weight_.shape());
    Tensor slope = Tensor::empty(weight_.shape());
    parallel_ranges(size(), kElementGrain, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const auto i = static_cast<size_t>(k);
        const Grid& g = grid(i);
        const double s = stretched(static_cast<double>(v.value().data()[i]));
        const double h = std::clamp(s, 0.0, 1.0);
        const double low = g.qmin - g.zero_point;
        const double high = g.qmax - g.zero_point;
        const double code = below_[i] + h;
        const double scale = stays(i) ? 0 : static_cast<double>(g.scale);
        weight.mutable_data()[i] = static_cast<real>(scale * std::clamp(code, low, high));
        const double sigmoid = (s - kLow) / kStretch;
        const bool moves = s > 0 && s < 1 && code > low && code < high;
        slope.mutable_data()[i] = static_cast<real>(moves ? scale * kStretch * sigmoid * (1 - sigmoid) : 0);
      }
    });
    return make_op("soft_rounding", weight, {&v, 1}, [slope](const Tensor& g) -> Gradients {
      const NoGrad no_grad;
      return {mul(Variable(g), Variable(slope)).value()};
    });
  }

  // Adds the gradient of lambda mean(1 - |2 h - 1|^beta) to that of V.
  void add_regularizer(Variable& v, double lambda, double beta) const {
    Tensor gradient = v.grad().clone();
    const double share = lambda / static_cast<double>(size());
    parallel_ranges(size(), kElementGrain, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const double s = stretched(static_cast<double>(v.value().data()[k]));
        if (s <= 0 || s >= 1 || stays(static_cast<size_t>(k))) {
          continue;
        }
        const double away = 2 * s - 1;
        const double sigmoid = (s - kLow) / kStretch;
        const double of_h = -2 * beta * std::pow(std::abs(away), beta - 1) * (away < 0 ? -1 : 1);
        gradient.mutable_data()[k] += static_cast<real>(share * of_h * kStretch * sigmoid * (1 - sigmoid));
      }
    });
    v.set_grad(gradient);
  }

  std::vector<int32_t> nearest_codes() const {
    std::vector<int32_t> codes(below_.size());
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = arithmetic::quantize(value(i), grid(i));
    }
    return codes;
  }
  std::vector<int32_t> learned_codes(const Tensor& v) const {
    std::vector<int32_t> codes = nearest_codes();
    for (size_t i = 0; i < codes.size(); ++i) {
      const Grid& g = grid(i);
      if (!stays(i)) {
        const double up = stretched(static_cast<double>(v.data()[i])) >= 0.5 ? 1 : 0;
        codes[i] = static_cast<int32_t>(std::clamp(below_[i] + up, static_cast<double>(g.qmin - g.zero_point),
                                                   static_cast<double>(g.qmax - g.zero_point))) +
                   g.zero_point;
      }
    }
    return codes;
  }
  Tensor values_of(const std::vector<int32_t>& codes) const {
    Tensor values = Tensor::empty(weight_.shape());
    for (size_t i = 0; i < codes.size(); ++i) {
      values.mutable_data()[i] = static_cast<real>(arithmetic::dequantize(codes[i], grid(i)));
    }
    return values;
  }
  bool stays(size_t i) const { return weight_.data()[i] == 0; }

 private:
  float value(size_t i) const { return static_cast<float>(weight_.data()[i]); }
  const Grid& grid(size_t i) const { return grids_[i / static_cast<size_t>(length_)]; }

  Tensor weight_;
  Grids grids_;
  int64_t length_ = 0;
  std::vector<double> below_;  // floor(w / S)
  Tensor start_;
};

// What a layer gives on rows, with this weight.
Variable output_of(const WeightedLayer& layer, const Tensor& rows, const Variable& weight, const Tensor& bias) {
  const Variable sums = quant::sums_over(layer, rows, weight);
  return bias.defined() ? add(sums, Variable(bias), layer.act()) : activate(sums, layer.act());
}

// Mean squared error of each output channel.
std::vector<double> channel_errors(const Tensor& found, const Tensor& wanted) {
  const int64_t channels = wanted.dim(1);
  std::vector<double> errors(static_cast<size_t>(channels), 0);
  for (int64_t i = 0; i < wanted.elements(); ++i) {
    const double d = static_cast<double>(found.data()[i]) - static_cast<double>(wanted.data()[i]);
    errors[static_cast<size_t>(i % channels)] += d * d;
  }
  for (double& error : errors) {
    error /= static_cast<double>(wanted.dim(0));
  }
  return errors;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) {
    sum += v;
  }
  return sum / static_cast<double>(values.size());
}

Tensor rows_at(const Tensor& rows, const std::vector<int64_t>& places) {
  std::vector<int64_t> extents(rows.shape().dims().begin(), rows.shape().dims().end());
  extents[0] = static_cast<int64_t>(places.size());
  Tensor chosen = Tensor::empty(Shape(extents));
  const int64_t length = rows.elements() / rows.dim(0);
  for (size_t k = 0; k < places.size(); ++k) {
    std::copy_n(rows.data() + places[k] * length, length, chosen.mutable_data() + static_cast<int64_t>(k) * length);
  }
  return chosen;
}

// V after training.
Tensor learn(const WeightedLayer& layer, const Cells& cells, const Tensor& rows, const Tensor& wanted,
             const Tensor& bias, double nearest, const AdaRoundOptions& options, RngKey key) {
  Parameter v(cells.start().clone());
  optim::Adam adam({{"v", &v}}, {.rate = options.rate});
  const int64_t batch = std::min(options.batch, rows.dim(0));
  const auto warm = static_cast<int64_t>(options.warm_up * static_cast<double>(options.steps));
  std::vector<int64_t> places(static_cast<size_t>(batch));
  for (int64_t step = 0; step < options.steps; ++step) {
    for (size_t k = 0; k < places.size(); ++k) {
      places[k] =
          static_cast<int64_t>(below(key, static_cast<uint64_t>(step * batch) + k, static_cast<uint64_t>(rows.dim(0))));
    }
    const Variable given = output_of(layer, rows_at(rows, places), cells.soft(v.raw), bias);
    const Variable loss = affine(mse_loss(given, Variable(rows_at(wanted, places))), static_cast<real>(1 / nearest), 0);
    adam.zero_grad();
    backward(loss);
    if (step >= warm) {
      const double gone =
          static_cast<double>(step - warm) / static_cast<double>(std::max<int64_t>(1, options.steps - warm));
      const double beta =
          options.beta_end + (options.beta_begin - options.beta_end) * 0.5 * (1 + std::cos(gone * 3.141592653589793));
      cells.add_regularizer(v.raw, options.regularizer, beta);
    }
    adam.step();
  }
  return v.raw.value().clone();
}

// Raw values that are rounded to these codes: the codes' numbers, before the fold.
void move_weight(WeightedLayer& layer, const std::string& path, const Cells& cells, const std::vector<int32_t>& codes,
                 const std::vector<int32_t>& nearest) {
  const Tensor values = cells.values_of(codes);
  const Tensor factor = layer.fold() != nullptr ? layer.norm.factor().value() : Tensor();
  Tensor raw = layer.weight.raw.value().clone();
  const int64_t row = raw.elements() / raw.dim(0);
  for (int64_t i = 0; i < raw.elements(); ++i) {
    if (codes[static_cast<size_t>(i)] != nearest[static_cast<size_t>(i)]) {
      raw.mutable_data()[i] = values.data()[i] / (factor.defined() ? factor.data()[i / row] : real(1));
    }
  }
  const Tensor before = layer.weight.raw.value().clone();
  layer.weight.raw.assign(raw);
  const Tensor now = layer.effective_weight().value();
  for (int64_t i = 0; i < raw.elements(); ++i) {
    if (now.data()[i] != values.data()[i]) {
      layer.weight.raw.assign(before);
      fail("adaround", "the weight of '", path, "' cannot be moved: its norm's factor is too small");
    }
  }
}

void check(const AdaRoundOptions& o) {
  require(o.steps >= 1 && o.batch >= 1, "adaround", o.steps, " steps of ", o.batch, " rows are not at least 1 of 1");
  require(o.rate > 0 && o.regularizer >= 0 && o.warm_up >= 0 && o.warm_up < 1 && o.beta_end > 0 &&
              o.beta_begin >= o.beta_end,
          "adaround", "rate, regularizer, warm_up or beta make no sense");
}

// Quantizers off while it lives.
class InFloat {
 public:
  explicit InFloat(Module& model) : quantizers_(quant::quantizers(model)) { turn(false); }
  ~InFloat() { turn(true); }
  InFloat(const InFloat&) = delete;
  InFloat& operator=(const InFloat&) = delete;

 private:
  void turn(bool on) {
    for (const quant::NamedQuantizer& named : quantizers_) {
      named.quantizer->turn(on);
    }
  }
  std::vector<quant::NamedQuantizer> quantizers_;
};

}  // namespace

std::vector<RoundedLayer> adaround(Module& model, const Shape& input, const quant::Batches& batches,
                                   const AdaRoundOptions& options) {
  check(options);
  require(static_cast<bool>(batches), "adaround", "learning how to round needs calibration data");
  const EvaluationMode evaluation(model);
  struct Job {
    std::string path;
    WeightedLayer* layer;
  };
  std::vector<Job> jobs;  // in the order of execution
  std::vector<WeightedLayer*> layers;
  {
    const NoGrad no_grad;
    for (const TracedCall& call : trace(model, input).calls) {
      auto* const layer = dynamic_cast<WeightedLayer*>(call.module);
      const FakeQuant* const quantizer = layer == nullptr ? nullptr : layer->weight.chain.find<FakeQuant>();
      if (quantizer == nullptr || std::ranges::find(layers, layer) != layers.end()) {
        continue;
      }
      require(quantizer->phase() == quant::Phase::kFixed && quantizer->tensor_spec().bits >= 2, "adaround",
              "the weight of '", call.path, "' is not on a fixed grid of 2 to 16 bits");
      jobs.push_back({call.path, layer});
      layers.push_back(layer);
    }
  }
  require(!jobs.empty(), "adaround", "no weight is on an affine grid");

  const quant::PatchOptions patch_options{.per_sample = options.per_sample, .seed = options.seed};
  std::map<const WeightedLayer*, Tensor> wanted;
  {
    const InFloat in_float(model);
    const NoGrad no_grad;
    const auto rows = quant::sampled_patches(model, batches, layers, patch_options);
    for (const Job& job : jobs) {
      const Variable bias = job.layer->effective_bias();
      wanted[job.layer] = output_of(*job.layer, rows.at(job.layer), job.layer->effective_weight(),
                                    bias.defined() ? bias.value() : Tensor())
                              .value();
    }
  }

  std::vector<RoundedLayer> report;
  for (const Job& job : jobs) {
    if (options.progress) {
      options.progress(job.path);
    }
    WeightedLayer& layer = *job.layer;
    WeightedLayer* const alone[] = {&layer};
    const Tensor rows = quant::sampled_patches(model, batches, alone, patch_options).at(&layer);
    const Tensor& target = wanted.at(&layer);
    Tensor weight;
    Tensor bias;
    {
      const NoGrad no_grad;
      weight = quant::unquantized_weight(layer).value();
      bias = layer.effective_bias().defined() ? layer.effective_bias().value() : Tensor();
    }
    const Cells cells(weight, *layer.weight.chain.find<FakeQuant>()->grids());
    const auto errors_of = [&](const std::vector<int32_t>& codes) {
      const NoGrad no_grad;
      return channel_errors(output_of(layer, rows, Variable(cells.values_of(codes)), bias).value(), target);
    };
    const std::vector<int32_t> nearest = cells.nearest_codes();
    const std::vector<double> before = errors_of(nearest);
    RoundedLayer row{.layer = job.path, .nearest = mean_of(before), .learned = mean_of(before)};
    if (row.nearest > 0) {
      const RngKey key = RngKey{options.seed}.child("adaround").child(job.path);
      std::vector<int32_t> codes =
          cells.learned_codes(learn(layer, cells, rows, target, bias, row.nearest, options, key));
      std::vector<double> after = errors_of(codes);
      const size_t length = codes.size() / after.size();
      for (size_t c = 0; c < after.size(); ++c) {
        if (!(after[c] < before[c])) {
          std::copy_n(nearest.begin() + static_cast<std::ptrdiff_t>(c * length), length,
                      codes.begin() + static_cast<std::ptrdiff_t>(c * length));
          after[c] = before[c];
        }
      }
      for (size_t i = 0; i < codes.size(); ++i) {
        row.changed += codes[i] != nearest[i] ? 1 : 0;
      }
      const NoGrad no_grad;
      move_weight(layer, job.path, cells, codes, nearest);
      row.learned = mean_of(after);
    }
    report.push_back(std::move(row));
  }
  return report;
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
