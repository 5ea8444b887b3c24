#include "prune/select.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <vector>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

// ---- Granularity ------------------------------------------------------------------------

namespace {

constexpr int64_t kLargestBlock = 1 << 16;

bool is_extent(int64_t n) { return n >= 1 && n <= kLargestBlock; }

// "2:4x16" with separator ':' -> 2 and the rest "4x16"; the whole text if there is none.
std::pair<std::string_view, std::string_view> cut(std::string_view text, char separator) {
  const size_t at = text.find(separator);
  return at == std::string_view::npos ? std::pair{text, std::string_view()}
                                      : std::pair{text.substr(0, at), text.substr(at + 1)};
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

}  // namespace

Granularity Granularity::block(int64_t rows, int64_t columns) {
  require(is_extent(rows) && is_extent(columns), "prune", "a block of ", rows, "x", columns,
          " is not between 1x1 and 65536x65536");
  return {.kind = Kind::kBlock, .rows = rows, .columns = columns};
}

Granularity Granularity::pattern(int64_t n, int64_t m, int64_t rows) {
  require(n >= 1 && n < m && is_extent(m), "prune", "the pattern ", n, ":", m,
          " does not keep at least 1 and fewer than all of each group");
  require(is_extent(rows), "prune", "a pattern cannot be shared by ", rows, " output channels");
  return {.kind = Kind::kPattern, .rows = rows, .n = n, .m = m};
}

Granularity Granularity::parse(std::string_view text) {
  const auto [kind, rest] = cut(text, ':');
  if (text == "element") {
    return element();
  }
  if (text == "channel" || text == "filter") {
    return channel();
  }
  if (kind == "block") {
    const auto [rows, columns] = cut(rest, 'x');
    if (const auto r = number(rows), c = number(columns); r && c) {
      return block(*r, *c);
    }
  }
  if (kind == "nm") {
    const auto [n, tail] = cut(rest, ':');
    const bool shared = tail.find('x') != std::string_view::npos;
    const auto [m, rows] = cut(tail, 'x');
    const auto shared_by = shared ? number(rows) : std::optional<int64_t>(1);
    if (const auto a = number(n), b = number(m); a && b && shared_by) {
      return pattern(*a, *b, *shared_by);
    }
  }
  fail("prune", "there is no granularity '", text,
       "'; there are element, block:ROWSxCOLUMNS, nm:N:M, nm:N:MxROWS and channel");
}

std::string Granularity::text() const {
  switch (kind) {
    case Kind::kElement:
      return "element";
    case Kind::kBlock:
      return "block:" + std::to_string(rows) + "x" + std::to_string(columns);
    case Kind::kPattern:
      return "nm:" + std::to_string(n) + ":" + std::to_string(m) + (rows > 1 ? "x" + std::to_string(rows) : "");
    case Kind::kChannel:
      return "channel";
  }
  return "?";
}

// ---- Choosing --------------------------------------------------------------------------

namespace {

void check(const SelectOptions& o) {
  require(o.amount >= 0 && o.amount < 1, "prune", "the amount ", o.amount, " is not in [0, 1)");
  require(!o.count.has_value() || *o.count >= 0, "prune", "the count ", o.count.value_or(0), " is negative");
  require(o.power > 0, "prune", "the power ", o.power, " is not positive");
  require(o.scope == Scope::kLocal || o.amounts.empty(), "prune", "amounts by layer have no meaning in global scope");
  for (const auto& [name, amount] : o.amounts) {
    require(amount >= 0 && amount < 1, "prune", "the amount ", amount, " of '", name, "' is not in [0, 1)");
  }
}

// How many of n units are to be gone. Halves to even, as in Python's round().
int64_t wanted(const SelectOptions& o, double amount, int64_t n, const std::string& what) {
  require(!o.count.has_value() || *o.count <= n, "prune", "the count ", o.count.value_or(0), " exceeds the ", n,
          " units of ", what);
  return o.count.value_or(static_cast<int64_t>(std::nearbyint(amount * static_cast<double>(n))));
}

struct Candidate {
  double score;
  int64_t unit;
  friend bool operator<(const Candidate& a, const Candidate& b) {
    return a.score < b.score || (a.score == b.score && a.unit < b.unit);
  }
};

// The k lowest, in no order.
std::span<const Candidate> lowest(std::vector<Candidate>& candidates, int64_t k) {
  const auto count = static_cast<size_t>(std::clamp<int64_t>(k, 0, static_cast<int64_t>(candidates.size())));
  if (count < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count), candidates.end());
  }
  return {candidates.data(), count};
}

// (mean s^p)^(1/p) of what is added. Negative scores come with p = 1 alone: check_signs().
class PowerMean {
 public:
  explicit PowerMean(double power) : power_(power) {}
  double term(double s) const { return power_ == 1 || std::isinf(power_) ? s : std::pow(s, power_); }
  double joined(double sum, double s) const { return std::isinf(power_) ? std::max(sum, term(s)) : sum + term(s); }
  double result(double sum, int64_t count) const {
    if (std::isinf(power_)) {
      return sum;
    }
    const double mean = sum / static_cast<double>(count);
    return power_ == 1 ? mean : std::pow(mean, 1 / power_);
  }

 private:
  double power_;
};

// A filter bank as a table: `rows` output channels, `taps` positions, `columns` input channels.
struct Layout {
  explicit Layout(const Shape& shape)
      : rows(shape[0]), columns(shape[-1]), taps(shape.elements() / (shape[0] * shape[-1])) {}
  int64_t index(int64_t row, int64_t tap, int64_t column) const { return (row * taps + tap) * columns + column; }
  int64_t rows;
  int64_t columns;
  int64_t taps;
};

Mask current(const Target& target) {
  const Mask* const mask = mask_of(target.weight());
  return mask != nullptr ? *mask : Mask::ones(target.weight().shape());
}

const Tensor* score_of(const Target& target, const Scores& scores) {
  const auto found = scores.find(target.name);
  if (found == scores.end()) {
    return nullptr;
  }
  require(std::ranges::none_of(found->second.values(), [](real s) { return std::isnan(s); }), "prune", "a score of '",
          target.name, "' is not a number");
  return &found->second;
}

// |s|^p would make -3 more important than 2.
void check_signs(const SelectOptions& o, const Scores& scores) {
  for (const auto& [name, score] : scores) {
    require(o.power == 1 || std::ranges::none_of(score.values(), [](real s) { return s < 0; }), "prune",
            "some scores of '", name, "' are negative, which a mean of power ", o.power,
            " cannot tell from positive ones; leave the power at 1");
  }
}

const Tensor* weight_score_of(const Target& target, const Scores& scores) {
  const Tensor* const score = score_of(target, scores);
  require(score == nullptr || score->shape() == target.weight().shape(), "prune", "the scores of '", target.name,
          "' are of shape ", score == nullptr ? Shape() : score->shape(),
          ", not of single weights: ", "they can choose whole channels only");
  return score;
}

// Single weights and blocks of a target.
class Units {
 public:
  Units(const Target& target, const Tensor& scores, const Granularity& g, double power)
      : layout_(target.weight().shape()),
        block_rows_(g.kind == Granularity::Kind::kBlock ? g.rows : 1),
        block_columns_(g.kind == Granularity::Kind::kBlock ? g.columns : 1),
        across_((layout_.columns + block_columns_ - 1) / block_columns_),
        count_((layout_.rows + block_rows_ - 1) / block_rows_ * layout_.taps * across_),
        mask_(current(target)) {
    const PowerMean mean(power);
    const std::span<const real> s = scores.values();
    std::vector<double> sums(static_cast<size_t>(count_), 0);
    std::vector<int64_t> alive(static_cast<size_t>(count_), 0);
    for_each([&](int64_t unit, size_t index) {
      if (mask_.keep[index] != 0) {
        auto& sum = sums[static_cast<size_t>(unit)];
        sum = mean.joined(sum, static_cast<double>(s[index]));
        ++alive[static_cast<size_t>(unit)];
      }
    });
    for (int64_t unit = 0; unit < count_; ++unit) {
      if (const int64_t n = alive[static_cast<size_t>(unit)]; n > 0) {
        candidates.push_back({mean.result(sums[static_cast<size_t>(unit)], n), unit});
      }
    }
  }

  std::vector<Candidate> candidates;  // survivors, by unit
  int64_t count() const { return count_; }
  int64_t gone() const { return count_ - static_cast<int64_t>(candidates.size()); }

  // The mask without these units.
  Mask without(const std::vector<bool>& units) {
    for_each([&](int64_t unit, size_t index) {
      if (units[static_cast<size_t>(unit)]) {
        mask_.keep[index] = 0;
      }
    });
    return std::move(mask_);
  }

 private:
  template <class F>
  void for_each(F f) const {
    for (int64_t row = 0; row < layout_.rows; ++row) {
      for (int64_t tap = 0; tap < layout_.taps; ++tap) {
        for (int64_t column = 0; column < layout_.columns; ++column) {
          f((row / block_rows_ * layout_.taps + tap) * across_ + column / block_columns_,
            static_cast<size_t>(layout_.index(row, tap, column)));
        }
      }
    }
  }

  Layout layout_;
  int64_t block_rows_;
  int64_t block_columns_;
  int64_t across_;
  int64_t count_;
  Mask mask_;
};

Mask patterned(const Target& target, const Tensor& scores, const Granularity& g, double power) {
  const Layout layout(target.weight().shape());
  const PowerMean mean(power);
  const std::span<const real> s = scores.values();
  Mask mask = current(target);
  std::vector<Candidate> group;
  for (int64_t first_row = 0; first_row < layout.rows; first_row += g.rows) {
    const int64_t end_row = std::min(first_row + g.rows, layout.rows);
    for (int64_t tap = 0; tap < layout.taps; ++tap) {
      for (int64_t first = 0; first < layout.columns; first += g.m) {
        const int64_t end = std::min(first + g.m, layout.columns);
        group.clear();
        for (int64_t column = first; column < end; ++column) {
          double sum = 0;
          int64_t alive = 0;
          for (int64_t row = first_row; row < end_row; ++row) {
            const auto index = static_cast<size_t>(layout.index(row, tap, column));
            if (mask.keep[index] != 0) {
              sum = mean.joined(sum, static_cast<double>(s[index]));
              ++alive;
            }
          }
          if (alive > 0) {
            group.push_back({mean.result(sum, alive), column});
          }
        }
        for (const Candidate& loser : lowest(group, static_cast<int64_t>(group.size()) - g.n)) {
          for (int64_t row = first_row; row < end_row; ++row) {
            mask.keep[static_cast<size_t>(layout.index(row, tap, loser.unit))] = 0;
          }
        }
      }
    }
  }
  return mask;
}

double amount_of(const SelectOptions& o, const std::string& name) {
  const auto found = o.amounts.find(name);
  return found == o.amounts.end() ? o.amount : found->second;
}

void check_amount_names(const SelectOptions& o, std::span<const Target> targets) {
  for (const auto& [name, amount] : o.amounts) {
    require(std::ranges::find(targets, name, &Target::name) != targets.end(), "prune", "there is an amount for '", name,
            "', which is no target");
  }
}

}  // namespace

MaskSet select(std::span<const Target> targets, const Scores& scores, const SelectOptions& o) {
  check(o);
  check_signs(o, scores);
  check_amount_names(o, targets);
  require(o.granularity.kind != Granularity::Kind::kChannel, "prune",
          "channels are chosen on the graph of the model: select_channels()");
  MaskSet set;
  std::vector<const Target*> scored;
  std::vector<Units> units;
  for (const Target& target : targets) {
    const Tensor* const score = weight_score_of(target, scores);
    if (score == nullptr) {
      continue;
    }
    if (o.granularity.kind == Granularity::Kind::kPattern) {
      set.emplace(target.name, patterned(target, *score, o.granularity, o.power));
    } else {
      scored.push_back(&target);
      units.emplace_back(target, *score, o.granularity, o.power);
    }
  }
  std::vector<std::vector<bool>> losers;
  losers.reserve(units.size());
  for (const Units& u : units) {
    losers.emplace_back(static_cast<size_t>(u.count()), false);
  }
  if (o.scope == Scope::kLocal) {
    for (size_t t = 0; t < units.size(); ++t) {
      const std::string& name = scored[t]->name;
      const int64_t k = wanted(o, amount_of(o, name), units[t].count(), "'" + name + "'") - units[t].gone();
      for (const Candidate& loser : lowest(units[t].candidates, k)) {
        losers[t][static_cast<size_t>(loser.unit)] = true;
      }
    }
  } else {
    // One row of units: those of the second target come after those of the first.
    std::vector<int64_t> starts;
    std::vector<Candidate> all;
    int64_t total = 0;
    int64_t gone = 0;
    for (Units& u : units) {
      starts.push_back(total);
      for (const Candidate& c : u.candidates) {
        all.push_back({c.score, total + c.unit});
      }
      total += u.count();
      gone += u.gone();
    }
    for (const Candidate& loser : lowest(all, wanted(o, o.amount, total, "all layers") - gone)) {
      const auto t = static_cast<size_t>(std::ranges::upper_bound(starts, loser.unit) - starts.begin() - 1);
      losers[t][static_cast<size_t>(loser.unit - starts[t])] = true;
    }
  }
  for (size_t t = 0; t < units.size(); ++t) {
    set.emplace(scored[t]->name, units[t].without(losers[t]));
  }
  return set;
}

// ---- Channels ------------------------------------------------------------------------------

namespace {

bool row_is_gone(const Mask* mask, int64_t row, int64_t row_elements) {
  return mask != nullptr &&
         std::all_of(mask->keep.begin() + row * row_elements, mask->keep.begin() + (row + 1) * row_elements,
                     [](uint8_t k) { return k == 0; });
}

class ChannelSelection {
 public:
  ChannelSelection(const ChannelGraph& graph, std::span<const Target> targets, const Scores& scores,
                   const SelectOptions& options)
      : graph_(graph), options_(options), target_of_(graph.layers().size()), score_of_(graph.layers().size()) {
    for (size_t l = 0; l < graph.layers().size(); ++l) {
      const auto found = std::ranges::find(targets, graph.layers()[l].weighted(), &Target::layer);
      if (found != targets.end()) {
        target_of_[l] = &*found;
        score_of_[l] = prune::score_of(*found, scores);
        check_shape(*found, score_of_[l]);
      }
    }
  }

  MaskSet run() {
    std::vector<Contest> contests;
    for (const ChannelGraph::Group& group : graph_.groups()) {
      if (may_go(group)) {
        contests.push_back(contest(group));
      }
    }
    require(!contests.empty(), "prune", "no layer's channels can be pruned");
    std::vector<int> losers;
    if (options_.scope == Scope::kLocal) {
      for (Contest& c : contests) {
        const int64_t k = wanted(options_, c.amount, c.size, "'" + c.name + "' and what is tied to it");
        require(k < c.size, "prune", "of the ", c.size, " channels of '", c.name, "' none would be left");
        for (const Candidate& loser : lowest(c.candidates, k - c.gone())) {
          losers.push_back(static_cast<int>(loser.unit));
        }
      }
    } else {
      losers = across(contests);
    }
    return masks_without(losers);
  }

 private:
  struct Contest {  // one group
    std::string name;
    double amount = 0;
    int64_t size = 0;
    std::vector<Candidate> candidates{};  // survivors; the unit is the class
    int64_t gone() const { return size - static_cast<int64_t>(candidates.size()); }
  };

  static void check_shape(const Target& target, const Tensor* score) {
    const Shape& weight = target.weight().shape();
    require(score == nullptr || score->shape() == weight || score->shape() == Shape{weight[0]}, "prune",
            "the scores of '", target.name, "' have shape ", score == nullptr ? Shape() : score->shape(), ", expected ",
            weight, " or one per output channel");
  }

  const ChannelGraph::Layer& layer(int l) const { return graph_.layers()[static_cast<size_t>(l)]; }

  // All layers that make or pass on its channels must be targets, and one must have a score.
  bool may_go(const ChannelGraph::Group& group) const {
    bool scored = false;
    for (const int l : group.layers) {
      if (layer(l).role != ChannelGraph::Role::kNorm && target_of_[static_cast<size_t>(l)] == nullptr) {
        return false;
      }
      scored = scored || score_of_[static_cast<size_t>(l)] != nullptr;
    }
    return scored;
  }

  bool is_gone(int c) const {
    return std::ranges::all_of(graph_.members(c), [this](const ChannelGraph::Member& m) {
      const WeightedLayer* const weighted = layer(m.layer).weighted();
      return weighted == nullptr || row_is_gone(mask_of(weighted->weight), m.channel,
                                                weighted->weight.shape().elements() / weighted->weight.shape()[0]);
    });
  }

  // The mean, over the layers that have one, of the power mean over a layer's filter.
  double score(int c) const {
    double sum = 0;
    int64_t layers = 0;
    for (const auto& [l, channel] : graph_.members(c)) {
      const Tensor* const s = score_of_[static_cast<size_t>(l)];
      if (s == nullptr) {
        continue;
      }
      const int64_t row = s->elements() / s->dim(0);
      const Mask* const mask = s->rank() > 1 ? mask_of(layer(l).weighted()->weight) : nullptr;
      const PowerMean mean(options_.power);
      double in_layer = 0;
      int64_t alive = 0;
      for (int64_t i = channel * row; i < (channel + 1) * row; ++i) {
        if (mask == nullptr || mask->keep[static_cast<size_t>(i)] != 0) {
          in_layer = mean.joined(in_layer, static_cast<double>(s->data()[i]));
          ++alive;
        }
      }
      if (alive > 0) {
        sum += mean.result(in_layer, alive);
        ++layers;
      }
    }
    return layers == 0 ? 0 : sum / static_cast<double>(layers);
  }

  Contest contest(const ChannelGraph::Group& group) const {
    Contest c{.name = layer(group.layers.front()).path,
              .amount = options_.amount,
              .size = static_cast<int64_t>(group.classes.size())};
    for (const int l : group.layers) {
      const Target* const target = target_of_[static_cast<size_t>(l)];
      if (target != nullptr && options_.amounts.contains(target->name)) {
        c.amount = options_.amounts.at(target->name);
        break;
      }
    }
    for (const int channel : group.classes) {
      if (!is_gone(channel)) {
        c.candidates.push_back({score(channel), channel});
      }
    }
    return c;
  }

  // The lowest of all groups in their order, passing over a group's last channel.
  std::vector<int> across(const std::vector<Contest>& contests) const {
    std::vector<Candidate> all;
    std::map<int64_t, size_t> contest_of;
    std::vector<int64_t> left;
    int64_t total = 0;
    int64_t gone = 0;
    for (size_t i = 0; i < contests.size(); ++i) {
      for (const Candidate& candidate : contests[i].candidates) {
        all.push_back(candidate);
        contest_of[candidate.unit] = i;
      }
      left.push_back(static_cast<int64_t>(contests[i].candidates.size()));
      total += contests[i].size;
      gone += contests[i].gone();
    }
    const int64_t k = wanted(options_, options_.amount, total, "all layers");
    require(k <= total - static_cast<int64_t>(contests.size()), "prune", "of ", total, " channels in ", contests.size(),
            " groups, ", k, " cannot go: each group keeps one");
    std::sort(all.begin(), all.end());
    std::vector<int> losers;
    for (const Candidate& candidate : all) {
      if (static_cast<int64_t>(losers.size()) >= k - gone) {
        break;
      }
      if (int64_t& n = left[contest_of.at(candidate.unit)]; n > 1) {
        --n;
        losers.push_back(static_cast<int>(candidate.unit));
      }
    }
    return losers;
  }

  static void clear(MaskSet& set, const std::string& name, const Parameter& parameter, int64_t channel) {
    if (!parameter.defined()) {
      return;
    }
    auto found = set.find(name);
    if (found == set.end()) {
      const Mask* const mask = mask_of(parameter);
      found = set.emplace(name, mask != nullptr ? *mask : Mask::ones(parameter.shape())).first;
    }
    const int64_t row = parameter.shape().elements() / parameter.shape()[0];
    std::fill_n(found->second.keep.begin() + channel * row, row, uint8_t{0});
  }

  MaskSet masks_without(const std::vector<int>& losers) const {
    MaskSet set;
    for (const int c : losers) {
      for (const auto& [l, channel] : graph_.members(c)) {
        const std::string& path = layer(l).path;
        if (const WeightedLayer* weighted = layer(l).weighted(); weighted != nullptr) {
          clear(set, join_path(path, "weight"), weighted->weight, channel);
          clear(set, join_path(path, "bias"), weighted->bias, channel);
        }
        clear(set, join_path(path, "gamma"), layer(l).norm().gamma, channel);
        clear(set, join_path(path, "beta"), layer(l).norm().beta, channel);
      }
    }
    return set;
  }

  const ChannelGraph& graph_;
  const SelectOptions& options_;
  std::vector<const Target*> target_of_;  // by layer of the graph
  std::vector<const Tensor*> score_of_;
};

}  // namespace

MaskSet select_channels(const ChannelGraph& graph, std::span<const Target> targets, const Scores& scores,
                        const SelectOptions& options) {
  check(options);
  check_signs(options, scores);
  check_amount_names(options, targets);
  return ChannelSelection(graph, targets, scores, options).run();
}

MaskSet select(Module& model, const Shape& input, std::span<const Target> targets, const Scores& scores,
               const SelectOptions& options) {
  return options.granularity.kind == Granularity::Kind::kChannel
             ? select_channels(ChannelGraph(model, input), targets, scores, options)
             : select(targets, scores, options);
}

MaskSet select_below(std::span<const Target> targets, const Scores& scores,
                     const std::map<std::string, double>& thresholds) {
  MaskSet set;
  for (const Target& target : targets) {
    const Tensor* const score = weight_score_of(target, scores);
    const auto threshold = thresholds.find(target.name);
    if (score == nullptr || threshold == thresholds.end()) {
      continue;
    }
    require(std::isfinite(threshold->second), "prune", "the threshold of '", target.name, "' is not a finite number");
    Mask mask = current(target);
    const std::span<const real> s = score->values();
    for (size_t i = 0; i < s.size(); ++i) {
      if (static_cast<double>(s[i]) <= threshold->second) {
        mask.keep[i] = 0;
      }
    }
    set.emplace(target.name, std::move(mask));
  }
  return set;
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
