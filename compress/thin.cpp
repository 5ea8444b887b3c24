#include "compress/thin.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "core/ops.h"
#include "datasets/split.h"
#include "prune/compact.h"
#include "prune/mask.h"
#include "prune/select.h"
#include "quant/fake_quant.h"
#include "quant/post_training.h"
#include "train/evaluate.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

using prune::ChannelGraph;

double product(std::span<const real> a, std::span<const real> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                            [](real x, real y) { return static_cast<double>(x) * static_cast<double>(y); });
}

// sum of p dL/dp over the part of p that belongs to an output channel.
double gradient_product(const Parameter& parameter, int64_t channel) {
  if (!parameter.defined() || !parameter.raw.grad().defined()) {
    return 0;
  }
  const auto row = static_cast<size_t>(parameter.shape().elements() / parameter.shape()[0]);
  const size_t begin = static_cast<size_t>(channel) * row;
  return product(parameter.raw.value().values().subspan(begin, row), parameter.raw.grad().values().subspan(begin, row));
}

// What few bits, on the grids that quantization after training would choose, add to the weights.
Tensor rounding_error(const Parameter& weight) {
  const NoGrad no_grad;
  quant::FakeQuant rounding(quant::Role::kWeight, quant::usual_spec(kFewBits, 8).weights, weight.shape());
  rounding.fix(weight.raw.value());
  return sub(rounding.apply(weight.raw), weight.raw).value();
}

double gradient_product(const ChannelGraph::Layer& layer, int64_t channel) {
  if (const Norm& norm = layer.norm(); norm.defined()) {
    return gradient_product(norm.gamma, channel) + gradient_product(norm.beta, channel);
  }
  const WeightedLayer& weighted = *layer.weighted();
  return gradient_product(weighted.weight, channel) + gradient_product(weighted.bias, channel);
}

void forget_gradients(Module& model) {
  for (const NamedParameter& named : model.all_parameters()) {
    named.parameter->raw.zero_grad();
  }
}

// How many channels each layer reads and makes, and the bits of its weights, while classes go one by one and layers are
// rounded.
class Widths {
 public:
  Widths(const ChannelGraph& graph, const WeightBits& bits, const LayerCost& cost)
      : graph_(graph), cost_(cost), touched_(graph.classes()) {
    for (size_t l = 0; l < graph.layers().size(); ++l) {
      const ChannelGraph::Layer& layer = graph.layers()[l];
      const auto fewer = bits.find(layer.path);
      now_.push_back({.in = static_cast<double>(layer.in.size()),
                      .out = static_cast<double>(layer.out.size()),
                      .bits = fewer == bits.end() ? 8 : fewer->second});
      const auto at = [&](int c) -> Change& {
        std::vector<Change>& changes = touched_[static_cast<size_t>(c)];
        if (changes.empty() || changes.back().layer != l) {
          changes.push_back({.layer = l});
        }
        return changes.back();
      };
      for (const int c : layer.in) {
        at(c).in += 1;
      }
      for (const int c : layer.out) {
        at(c).out += 1;
      }
      total_ += of(l, now_[l]);
    }
  }

  double cost() const { return total_; }

  // What goes if this class goes.
  double saved_by(int c) const {
    double saved = 0;
    for (const Change& change : touched_[static_cast<size_t>(c)]) {
      saved += of(change.layer, now_[change.layer]) - of(change.layer, without(change));
    }
    return saved;
  }

  // What is saved if this layer's weights get few bits; 0 if they have.
  double saved_by_rounding(size_t layer) const { return of(layer, now_[layer]) - of(layer, rounded(layer)); }
  void round(size_t layer) {
    total_ -= saved_by_rounding(layer);
    now_[layer] = rounded(layer);
  }

  void remove(int c) {
    total_ -= saved_by(c);
    for (const Change& change : touched_[static_cast<size_t>(c)]) {
      now_[change.layer] = without(change);
    }
  }

 private:
  struct Width {
    double in = 0;
    double out = 0;
    int bits = 8;
  };
  struct Change {
    size_t layer = 0;
    double in = 0;
    double out = 0;
  };

  Width without(const Change& change) const {
    const Width& now = now_[change.layer];
    return {.in = now.in - change.in, .out = now.out - change.out, .bits = now.bits};
  }
  Width rounded(size_t layer) const { return {.in = now_[layer].in, .out = now_[layer].out, .bits = kFewBits}; }

  double of(size_t number, const Width& width) const {
    const ChannelGraph::Layer& layer = graph_.layers()[number];
    const WeightedLayer* const weighted = layer.weighted();
    if (weighted == nullptr) {
      return 0;
    }
    const double out = width.out / static_cast<double>(layer.out.size());
    const double in = layer.role == ChannelGraph::Role::kMixer ? width.in / static_cast<double>(layer.in.size()) : 1;
    return cost_({.path = layer.path,
                  .weights = static_cast<double>(weighted->weight.shape().elements()) * in * out,
                  .macs = static_cast<double>(layer.macs) * in * out,
                  .out = width.out,
                  .bits = width.bits});
  }

  const ChannelGraph& graph_;
  const LayerCost& cost_;
  std::vector<Width> now_;
  std::vector<std::vector<Change>> touched_;  // by class
  double total_ = 0;
};

// A group's channels, the least important first.
struct Queue {
  std::vector<int> classes;
  size_t next = 0;
  size_t last = 0;  // so many may go
};

// As the selection orders them: by the score as it is stored, then by number.
std::vector<Queue> queues_of(const ChannelGraph& graph, const std::vector<double>& importance, double most) {
  std::vector<Queue> queues;
  for (const ChannelGraph::Group& group : graph.groups()) {
    Queue queue{.classes = group.classes};
    std::ranges::sort(queue.classes, {},
                      [&](int c) { return std::pair(static_cast<real>(importance[static_cast<size_t>(c)]), c); });
    queue.last = std::min(queue.classes.size() - 1,
                          static_cast<size_t>(std::floor(most * static_cast<double>(queue.classes.size()))));
    queues.push_back(std::move(queue));
  }
  return queues;
}

// Takes the first channels of each queue, one after the other, out of the net.
int64_t take_out(Module& model, zoo::Description& description, const Shape& input, const ChannelGraph& graph,
                 const std::vector<double>& importance, const std::vector<size_t>& gone) {
  const std::vector<prune::Target> targets = prune::targets(model, input);
  prune::Scores scores;
  prune::SelectOptions options{.granularity = prune::Granularity::channel(), .amount = 0};
  const std::vector<ChannelGraph::Group> groups = graph.groups();
  for (const prune::Target& target : targets) {
    const auto layer = std::ranges::find(graph.layers(), target.path, &ChannelGraph::Layer::path);
    Tensor score = Tensor::zeros({static_cast<int64_t>(layer->out.size())});
    for (size_t i = 0; i < layer->out.size(); ++i) {
      score.mutable_data()[i] = static_cast<real>(importance[static_cast<size_t>(layer->out[i])]);
    }
    scores.emplace(target.name, std::move(score));
    const auto number = static_cast<int>(layer - graph.layers().begin());
    for (size_t g = 0; g < groups.size(); ++g) {
      if (std::ranges::count(groups[g].layers, number) > 0) {
        options.amounts[target.name] = static_cast<double>(gone[g]) / static_cast<double>(groups[g].classes.size());
      }
    }
  }
  prune::attach(model, prune::select_channels(graph, targets, scores, options));
  const prune::Compaction compaction = prune::compact(model, input);
  for (const auto& [path, widths] : compaction.widths) {
    description.widths[path] = widths;
  }
  return compaction.channels;
}

}  // namespace

Importance importance_of(Module& model, const ChannelGraph& graph, const data::Dataset& data, int64_t samples) {
  const EvaluationMode evaluation(model);
  Importance importance{.channels = std::vector<double>(static_cast<size_t>(graph.classes()), 0.0),
                        .rounding = std::vector<double>(graph.layers().size(), 0.0)};
  std::vector<Tensor> errors;  // of rounding, by layer
  for (const ChannelGraph::Layer& layer : graph.layers()) {
    const WeightedLayer* const weighted = layer.weighted();
    errors.push_back(weighted == nullptr ? Tensor() : rounding_error(weighted->weight));
  }
  const std::vector<int64_t> chosen = data::spread_over(data, samples);
  constexpr size_t kBatch = 16;
  for (size_t begin = 0; begin < chosen.size(); begin += kBatch) {
    const auto batch = data.batch(std::span(chosen).subspan(begin, std::min(kBatch, chosen.size() - begin)));
    forget_gradients(model);
    backward(loss_of(model(batch.inputs), batch));
    for (int c = 0; c < graph.classes(); ++c) {
      double sum = 0;
      for (const auto& [layer, channel] : graph.members(c)) {
        sum += graph.fixed(c) ? 0 : gradient_product(graph.layers()[static_cast<size_t>(layer)], channel);
      }
      importance.channels[static_cast<size_t>(c)] += sum * sum;
    }
    for (size_t l = 0; l < errors.size(); ++l) {
      if (errors[l].defined()) {
        const double sum = product(errors[l].values(), graph.layers()[l].weighted()->weight.raw.grad().values());
        importance.rounding[l] += sum * sum;
      }
    }
  }
  forget_gradients(model);
  return importance;
}

Thinned thin(Module& model, zoo::Description& description, WeightBits& bits, const Shape& input,
             const data::Dataset& data, const LayerCost& cost, const ThinOptions& options) {
  const ChannelGraph graph(model, input);
  const Importance importance = importance_of(model, graph, data, options.samples);
  std::vector<Queue> queues = queues_of(graph, importance.channels, options.most_of_group);
  Widths widths(graph, bits, cost);
  Thinned result;
  while (widths.cost() > options.cost) {
    Queue* cheapest = nullptr;
    std::optional<size_t> layer;
    double least = std::numeric_limits<double>::infinity();
    for (Queue& queue : queues) {
      if (queue.next < queue.last) {
        const int c = queue.classes[queue.next];
        const double saved = widths.saved_by(c);
        const double price = importance.channels[static_cast<size_t>(c)] / saved;
        if (saved > 0 && price < least) {
          least = price;
          cheapest = &queue;
        }
      }
    }
    for (size_t l = 0; l < graph.layers().size(); ++l) {
      const double saved = widths.saved_by_rounding(l);
      if (saved > 0 && importance.rounding[l] / saved < least) {
        least = importance.rounding[l] / saved;
        layer = l;
      }
    }
    if (layer.has_value()) {
      widths.round(*layer);
      bits[graph.layers()[*layer].path] = kFewBits;
      ++result.layers;
    } else if (cheapest != nullptr) {
      widths.remove(cheapest->classes[cheapest->next++]);
    } else {
      break;
    }
  }
  std::vector<size_t> gone;
  gone.reserve(queues.size());
  for (const Queue& queue : queues) {
    gone.push_back(queue.next);
  }
  result.reached = widths.cost() <= options.cost;
  if (std::accumulate(gone.begin(), gone.end(), size_t{0}) > 0) {
    result.channels = take_out(model, description, input, graph, importance.channels, gone);
  }
  return result;
}

void thin_evenly(Module& model, zoo::Description& description, const Shape& input, double share) {
  if (ChannelGraph(model, input).groups().empty()) {
    return;
  }
  const std::vector<prune::Target> targets = prune::targets(model, input);
  prune::attach(model, prune::select(model, input, targets, prune::magnitude(targets),
                                     {.granularity = prune::Granularity::channel(), .amount = share}));
  for (const auto& [path, widths] : prune::compact(model, input).widths) {
    description.widths[path] = widths;
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
