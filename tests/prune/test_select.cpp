// Selections: exact counts, deterministic ties, survivors only, patterns in every group,
// and a slow selection written from the definition beside ours.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "layers/blocks.h"
#include "layers/zoo/zoo.h"
#include "prune/select.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"

namespace whittle {

using namespace prune;

namespace {

// Layers of these weight shapes, owned; [out, in] or [out, kh, kw, in].
struct Bank {
  explicit Bank(const std::vector<Shape>& shapes) {
    for (size_t i = 0; i < shapes.size(); ++i) {
      const Shape& s = shapes[i];
      if (s.rank() == 2) {
        layers.push_back(std::make_shared<Linear>(LinearOptions{.in = s[1], .out = s[0]}));
      } else {
        layers.push_back(std::make_shared<Conv2d>(Conv2dOptions{.in = s[3], .out = s[0], .kernel = {s[1], s[2]}}));
      }
      const std::string path = "l" + std::to_string(i);
      targets.push_back({.name = path + ".weight", .path = path, .layer = layers.back().get()});
    }
  }
  void attach(const MaskSet& set) const {
    for (const Target& target : targets) {
      if (set.contains(target.name)) {
        set_mask(target.weight(), set.at(target.name));
      }
    }
  }
  std::vector<std::shared_ptr<WeightedLayer>> layers;
  std::vector<Target> targets;
};

// The definition, slowly: units in order as lists of elements; a stable sort by score.
struct SlowUnit {
  size_t target;
  std::vector<size_t> elements;
};

std::vector<SlowUnit> slow_units(const Bank& bank, int64_t rows, int64_t columns) {
  std::vector<SlowUnit> units;
  for (size_t t = 0; t < bank.targets.size(); ++t) {
    const Shape& s = bank.targets[t].weight().shape();
    const int64_t out = s[0], in = s[-1], taps = s.elements() / out / in;
    for (int64_t o = 0; o < out; o += rows) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        for (int64_t i = 0; i < in; i += columns) {
          SlowUnit unit{t, {}};
          for (int64_t oo = o; oo < std::min(out, o + rows); ++oo) {
            for (int64_t ii = i; ii < std::min(in, i + columns); ++ii) {
              unit.elements.push_back(static_cast<size_t>((oo * taps + tap) * in + ii));
            }
          }
          units.push_back(unit);
        }
      }
    }
  }
  return units;
}

MaskSet slow_select(const Bank& bank, const Scores& scores, int64_t rows, int64_t columns, bool global, double amount) {
  MaskSet set;
  for (const Target& target : bank.targets) {
    const Mask* mask = mask_of(target.weight());
    set.emplace(target.name, mask != nullptr ? *mask : Mask::ones(target.weight().shape()));
  }
  const std::vector<SlowUnit> all = slow_units(bank, rows, columns);
  for (size_t t = 0; t < (global ? 1 : bank.targets.size()); ++t) {
    std::vector<std::pair<double, const SlowUnit*>> alive;
    int64_t n = 0;
    for (const SlowUnit& unit : all) {
      if (!global && unit.target != t) {
        continue;
      }
      ++n;
      const std::string& name = bank.targets[unit.target].name;
      double sum = 0;
      int left = 0;
      for (const size_t e : unit.elements) {
        if (set.at(name).keep[e] == 1) {
          sum += static_cast<double>(scores.at(name).values()[e]);
          ++left;
        }
      }
      if (left > 0) {
        alive.emplace_back(sum / left, &unit);
      }
    }
    std::stable_sort(alive.begin(), alive.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    const int64_t k = std::lrint(amount * static_cast<double>(n)) - (n - static_cast<int64_t>(alive.size()));
    for (int64_t i = 0; i < k; ++i) {
      const SlowUnit& unit = *alive[static_cast<size_t>(i)].second;
      for (const size_t e : unit.elements) {
        set.at(bank.targets[unit.target].name).keep[e] = 0;
      }
    }
  }
  return set;
}

bool shrinks(const Mask& before, const Mask& after) {
  for (size_t i = 0; i < before.keep.size(); ++i) {
    if (before.keep[i] < after.keep[i]) {
      return false;
    }
  }
  return true;
}

Bank random_bank(Rng& rng) {
  std::vector<Shape> shapes;
  for (int64_t i = rng.between(1, 3); i > 0; --i) {
    if (rng.below(2) == 0) {
      shapes.push_back({rng.between(1, 20), rng.between(1, 30)});
    } else {
      shapes.push_back({rng.between(1, 12), rng.between(1, 3), rng.between(1, 3), rng.between(1, 11)});
    }
  }
  return Bank(shapes);
}

// Few distinct values, so that ties are everywhere.
Scores coarse_scores(const Bank& bank, Rng& rng) {
  Scores scores;
  for (const Target& target : bank.targets) {
    Tensor s = Tensor::empty(target.weight().shape());
    for (real& value : s.mutable_values()) {
      value = static_cast<real>(rng.below(6));
    }
    scores.emplace(target.name, s);
  }
  return scores;
}

}  // namespace

TEST_SUITE("select") {
  TEST_CASE("elements and blocks, local and global, over rounds: the slow selection's masks") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 60; ++round) {
      const Bank bank = random_bank(rng);
      const int64_t rows = rng.between(1, 5), columns = rng.between(1, 5);
      const bool element = rng.below(3) == 0;
      const bool global = rng.below(2) == 0;
      const SelectOptions base{.granularity = element ? Granularity::element() : Granularity::block(rows, columns),
                               .scope = global ? Scope::kGlobal : Scope::kLocal};
      double amount = 0;
      for (int step = 0; step < 3; ++step) {
        amount += (1 - amount) * rng.uniform(0, 0.7);
        CAPTURE(base.granularity.text());
        CAPTURE(amount);
        const Scores scores = coarse_scores(bank, rng);
        SelectOptions options = base;
        options.amount = amount;
        const MaskSet ours = select(bank.targets, scores, options);
        REQUIRE(ours == slow_select(bank, scores, element ? 1 : rows, element ? 1 : columns, global, amount));
        for (const Target& target : bank.targets) {
          const Mask* before = mask_of(target.weight());
          CHECK((before == nullptr || shrinks(*before, ours.at(target.name))));
        }
        bank.attach(ours);
      }
    }
  }

  TEST_CASE("exactly k elements go, rounded as Python rounds; ties go by index") {
    const Bank bank({{20, 5, 5, 1}});  // LeNet-5's first layer: 500 weights
    const Scores same{{"l0.weight", Tensor::full({20, 5, 5, 1}, 1)}};
    for (const auto& [amount, k] : {std::pair{0.3, 150}, {0.0, 0}, {0.001, 0}, {0.003, 2}, {0.005, 2}, {0.999, 500}}) {
      const Mask mask = select(bank.targets, same, {.amount = amount}).at("l0.weight");
      CHECK(mask.pruned() == k);
      CHECK(std::ranges::is_sorted(mask.keep));  // the first ones
    }
    CHECK(select(bank.targets, same, {.count = 7}).at("l0.weight").pruned() == 7);
    CHECK(message_of([&] { select(bank.targets, same, {.count = 501}); }) ==
          "[prune] the count 501 exceeds the 500 units of 'l0.weight'");
  }

  TEST_CASE("amounts by layer; less than what is gone changes nothing") {
    const Bank bank({{4, 10}, {5, 20}});
    const Scores scores = magnitude(bank.targets);
    const MaskSet set = select(bank.targets, scores, {.amount = 0.5, .amounts = {{"l1.weight", 0.9}}});
    CHECK(set.at("l0.weight").pruned() == 20);
    CHECK(set.at("l1.weight").pruned() == 90);
    bank.attach(set);
    CHECK(select(bank.targets, scores, {.amount = 0.2}) == set);
    CHECK(message_of([&] {
            select(bank.targets, scores, {.amounts = {{"l2.weight", 0.9}}});
          }) == "[prune] there is an amount for 'l2.weight', which is no target");
  }

  TEST_CASE("N:M holds in every group, also shared by rows, and keeps the best") {
    CAPTURE(test_seed());
    Rng rng(test_seed() + 1);
    for (const auto& [n, m] : {std::pair<int64_t, int64_t>{2, 4}, {1, 4}, {4, 8}, {3, 7}}) {
      for (const int64_t rows : {1, 3, 16}) {
        const Bank bank = random_bank(rng);
        const Scores scores = coarse_scores(bank, rng);
        const MaskSet set = select(bank.targets, scores, {.granularity = Granularity::pattern(n, m, rows)});
        for (const Target& target : bank.targets) {
          const Mask& mask = set.at(target.name);
          const Shape& s = target.weight().shape();
          const int64_t out = s[0], in = s[-1], taps = s.elements() / out / in;
          for (int64_t o = 0; o < out; ++o) {
            for (int64_t tap = 0; tap < taps; ++tap) {
              for (int64_t first = 0; first < in; first += m) {
                const int64_t end = std::min(in, first + m), top = o / rows * rows, bottom = std::min(out, top + rows);
                std::vector<std::pair<double, int64_t>> order;  // of columns, worst first
                int64_t kept = 0;
                for (int64_t i = first; i < end; ++i) {
                  double sum = 0;
                  for (int64_t r = top; r < bottom; ++r) {
                    const auto e = static_cast<size_t>((r * taps + tap) * in + i);
                    sum += static_cast<double>(scores.at(target.name).values()[e]) / static_cast<double>(bottom - top);
                  }
                  order.emplace_back(std::round(sum * 1e9), i);
                  kept += mask.keep[static_cast<size_t>((o * taps + tap) * in + i)];
                }
                REQUIRE(kept == std::min(n, end - first));
                std::sort(order.begin(), order.end());
                for (int64_t i = 0; i < end - first - n; ++i) {
                  REQUIRE(
                      mask.keep[static_cast<size_t>((o * taps + tap) * in + order[static_cast<size_t>(i)].second)] ==
                      0);
                }
              }
            }
          }
        }
        bank.attach(set);  // a second time nothing more goes
        CHECK(select(bank.targets, scores, {.granularity = Granularity::pattern(n, m, rows)}) == set);
      }
    }
  }

  TEST_CASE("the mean over a block: plain, Euclidean, and the maximum") {
    const Bank bank({{1, 4}});
    const Scores scores{{"l0.weight", Tensor::of({1, 4}, {3, 3, 5, 0})}};
    const auto survivor = [&](double power) {
      const MaskSet set = select(bank.targets, scores, {.granularity = Granularity::block(1, 2), .power = power});
      return set.at("l0.weight").keep[0] == 1 ? "even" : "peaked";
    };
    CHECK(survivor(1) == std::string("even"));    // 3 against 2.5
    CHECK(survivor(2) == std::string("peaked"));  // 3 against 3.54
    CHECK(survivor(std::numeric_limits<double>::infinity()) == std::string("peaked"));
  }

  TEST_CASE("negative scores go first, in the plain mean alone: another power would lose their sign") {
    const Bank bank({{1, 4}});
    const Scores scores{{"l0.weight", Tensor::of({1, 4}, {-3, -3, 1, 2})}};  // as movement has them
    const auto keep = [&](const Granularity& granularity, double power) {
      return select(bank.targets, scores, {.granularity = granularity, .power = power}).at("l0.weight").keep;
    };
    for (const Granularity& granularity :
         {Granularity::element(), Granularity::block(1, 2), Granularity::pattern(2, 4)}) {
      CAPTURE(granularity.text());
      CHECK(keep(granularity, 1) == std::vector<uint8_t>{0, 0, 1, 1});
      for (const double power : {0.5, 2.0, std::numeric_limits<double>::infinity()}) {
        CHECK(message_of([&] {
                keep(granularity, power);
              }).starts_with("[prune] some scores of 'l0.weight' are negative"));
      }
    }
  }

  TEST_CASE("a threshold of s sigma keeps what exceeds it") {
    const Bank bank({{2, 4}});
    bank.layers[0]->weight.raw.assign(Tensor::of({2, 4}, {1, -1, 3, -3, 0.5, -2, 2, 1.5}));
    const double lambda = 1.1 * deviations(bank.targets).at("l0.weight");
    CHECK(lambda == doctest::Approx(1.1 * std::sqrt((1 + 1 + 9 + 9 + 0.25 + 4 + 4 + 2.25) / 8 - 1.0 / 16)));
    const MaskSet set = select_below(bank.targets, magnitude(bank.targets), {{"l0.weight", lambda}});
    CHECK(set.at("l0.weight").keep == std::vector<uint8_t>{0, 0, 1, 1, 0, 0, 0, 0});
    const MaskSet at_two = select_below(bank.targets, magnitude(bank.targets), {{"l0.weight", 2}});
    CHECK(at_two.at("l0.weight").keep == std::vector<uint8_t>{0, 0, 1, 1, 0, 0, 0, 0});  // |w| > 2 stays, not >=
    CHECK(select_below(bank.targets, magnitude(bank.targets), {}).empty());
  }

  TEST_CASE("granularities as text") {
    for (const char* text : {"element", "block:1x4", "block:16x4", "nm:2:4", "nm:1:4", "nm:4:8x16", "channel"}) {
      CHECK(Granularity::parse(text).text() == text);
    }
    for (const char* text : {"", "block", "block:4", "block:x4", "block:-1x4", "block:0x4", "nm:4:4", "nm:2", "nm:0:4",
                             "nm:2:4x", "nm:2:4x0", "rows", "element:2", "block:1x99999999999999999999"}) {
      CAPTURE(text);
      CHECK_THROWS_AS(Granularity::parse(text), Error);
    }
    CHECK(message_of([] { Granularity::parse("rows"); }) ==
          "[prune] there is no granularity 'rows'; there are element, block:ROWSxCOLUMNS, nm:N:M, nm:N:MxROWS and "
          "channel");
  }

  TEST_CASE("what makes no sense is refused in one sentence") {
    const Bank bank({{2, 4}});
    Scores scores = magnitude(bank.targets);
    CHECK(message_of([&] { select(bank.targets, scores, {.amount = 1}); }) == "[prune] the amount 1 is not in [0, 1)");
    CHECK(message_of([&] { select(bank.targets, scores, {.amount = std::nan("")}); }) ==
          "[prune] the amount nan is not in [0, 1)");
    CHECK(message_of([&] {
            select(bank.targets, scores, {.scope = Scope::kGlobal, .amounts = {{"l0.weight", 0.5}}});
          }) == "[prune] amounts by layer have no meaning in global scope");
    CHECK(message_of([&] {
            select(bank.targets, {{"l0.weight", Tensor::zeros({2})}});
          }) ==
          "[prune] the scores of 'l0.weight' are of shape [2], not of single weights: they can choose whole channels "
          "only");
    scores.at("l0.weight").mutable_data()[3] = std::numeric_limits<real>::quiet_NaN();
    CHECK(message_of([&] { select(bank.targets, scores); }) == "[prune] a score of 'l0.weight' is not a number");
  }
}

TEST_SUITE("channels") {
  TEST_CASE("residual sums tie producers, depthwise convolutions pass on, flattening repeats") {
    const auto net = zoo::build(zoo::describe("resnet8"));
    const ChannelGraph graph(*net, {1, 32, 32, 3});
    std::vector<std::vector<std::string>> groups;
    for (const ChannelGraph::Group& group : graph.groups()) {
      groups.emplace_back();
      for (const int l : group.layers) {
        groups.back().push_back(graph.layers()[static_cast<size_t>(l)].path);
      }
    }
    using Paths = std::vector<std::string>;
    CHECK(groups == std::vector<Paths>{{"conv1", "layer1.0.conv2"},
                                       {"layer1.0.conv1"},
                                       {"layer2.0.conv1"},
                                       {"layer2.0.conv2", "layer2.0.shortcut"},
                                       {"layer3.0.conv1"},
                                       {"layer3.0.conv2", "layer3.0.shortcut"}});

    const auto keyword = zoo::build(zoo::describe("ds-cnn"));
    const ChannelGraph chain(*keyword, {1, 49, 10, 1});
    CHECK(chain.groups().size() == 5);
    CHECK(chain.groups()[0].layers.size() == 2);  // conv1 and the depthwise behind it
    CHECK(chain.groups()[0].classes.size() == 64);

    const auto lenet = zoo::build(zoo::describe("lenet5"));
    const ChannelGraph flat(*lenet, {1, 28, 28, 1});
    const ChannelGraph::Layer& fc1 = flat.layers()[2];
    REQUIRE(fc1.path == "fc1");
    CHECK(fc1.in.size() == 800);
    for (size_t i = 0; i < 800; ++i) {
      CHECK(fc1.in[i] == flat.layers()[1].out[i % 50]);
    }
    for (const int c : flat.layers()[3].out) {
      CHECK(flat.fixed(c));  // the answer
    }
  }

  TEST_CASE("exact counts by group or over all; masks cover filters, biases and norms; one stays") {
    CAPTURE(test_seed());
    const auto net = zoo::make("resnet8");
    const Shape input{1, 32, 32, 3};
    const std::vector<Target> layers = targets(*net, input);
    const ChannelGraph graph(*net, input);
    const auto gone = [&](const MaskSet& set, const std::string& name) {
      const Mask& mask = set.at(name);
      const int64_t row = mask.shape.elements() / mask.shape[0];
      std::set<int64_t> channels;
      for (int64_t c = 0; c < mask.shape[0]; ++c) {
        if (std::all_of(mask.keep.begin() + c * row, mask.keep.begin() + (c + 1) * row,
                        [](uint8_t k) { return k == 0; })) {
          channels.insert(c);
        }
      }
      CHECK(static_cast<int64_t>(channels.size()) * row == mask.pruned());  // whole ones only
      return channels;
    };
    const MaskSet set = select_channels(graph, layers, magnitude(layers), {.amount = 0.25});
    CHECK(gone(set, "conv1.weight").size() == 4);
    CHECK(gone(set, "conv1.weight") == gone(set, "layer1.0.conv2.weight"));
    CHECK(gone(set, "layer1.0.conv2.beta") == gone(set, "conv1.weight"));
    CHECK(gone(set, "layer1.0.conv2.gamma") == gone(set, "conv1.weight"));
    CHECK(gone(set, "layer1.0.conv2.bias") == gone(set, "conv1.weight"));
    CHECK(gone(set, "layer3.0.shortcut.bias").size() == 16);
    CHECK_FALSE(set.contains("fc.weight"));

    attach(*net, set);  // a second round, among survivors
    const MaskSet more = select_channels(graph, layers, magnitude(layers), {.amount = 0.5});
    CHECK(gone(more, "conv1.weight").size() == 8);
    CHECK(shrinks(set.at("conv1.weight"), more.at("conv1.weight")));
    replace_masks(*net, {});

    const int64_t channels = 16 + 16 + 32 + 32 + 64 + 64;
    const MaskSet all =
        select_channels(graph, layers, random(layers, {.seed = test_seed()}), {.scope = Scope::kGlobal, .amount = 0.9});
    size_t count = 0;
    for (const char* name : {"conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer2.0.conv2.weight",
                             "layer3.0.conv1.weight", "layer3.0.conv2.weight"}) {
      count += gone(all, name).size();
      CHECK(static_cast<int64_t>(gone(all, name).size()) < all.at(name).shape[0]);
    }
    CHECK(count == static_cast<size_t>(std::lrint(0.9 * channels)));

    CHECK(message_of([&] { select_channels(graph, layers, magnitude(layers), {.amount = 0.99}); }) ==
          "[prune] of the 16 channels of 'conv1' none would be left");
    CHECK(message_of([&] {
            select_channels(graph, layers, magnitude(layers), {.scope = Scope::kGlobal, .amount = 0.99});
          }) == "[prune] of 224 channels in 6 groups, 222 cannot go: each group keeps one");
    const Scores negative{{"conv1.weight", Tensor::full({16, 3, 3, 3}, -1)}};
    CHECK(message_of([&] { select_channels(graph, layers, negative, {.power = 2}); }) ==
          "[prune] some scores of 'conv1.weight' are negative, which a mean of power 2 cannot tell from positive ones; "
          "leave the power at 1");
  }

  TEST_CASE("a layer that is skipped keeps what is tied to it; scores per channel are enough") {
    const auto net = zoo::make("resnet8");
    const Shape input{1, 32, 32, 3};
    const ChannelGraph graph(*net, input);
    const std::vector<Target> without = targets(*net, input, {.skip = {"layer1.0.conv2", "layer2", "layer3"}});
    const MaskSet set = select_channels(graph, without, magnitude(without), {.amount = 0.5});
    CHECK(set.contains("layer1.0.conv1.weight"));
    CHECK_FALSE(set.contains("conv1.weight"));  // added to conv2's result

    const std::vector<Target> layers = targets(*net, input);
    layers[1].layer->norm.gamma.raw.mutable_data()[3] = real(0.01);
    const MaskSet slim = select_channels(graph, layers, norm_scale(layers), {.count = 1});
    CHECK(slim.at("layer1.0.conv1.gamma").keep[3] == 0);
    CHECK(slim.at("layer1.0.conv1.gamma").pruned() == 1);
  }
}

}  // namespace whittle
