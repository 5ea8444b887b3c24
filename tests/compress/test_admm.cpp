// ADMM: projections against all there are, the iteration against its formula and a problem whose answer is known.

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "compress/admm.h"
#include "core/ops.h"
#include "layers/model_checkpoint.h"
#include "optim/sgd.h"
#include "tests/prune/nets.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_training.h"

namespace whittle {

using namespace compress;
using prune::Granularity;

namespace {

// A linear layer of out x in and nothing else.
struct One {
  explicit One(int64_t out, int64_t in) : input{1, in} {
    model.add<Linear>("fc", {.in = in, .out = out});
    targets = prune::targets(model, input, {.spare_last = false});
  }
  Projection onto(const AdmmSet& set, const Tensor& x) {
    return project(model, input, targets, {{"fc", set}}, {{"fc.weight", x}});
  }
  Sequential model;
  Shape input;
  std::vector<prune::Target> targets;
};

double apart(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    sum += std::pow(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]), 2);
  }
  return sum;
}

// The least squared distance from x to a point whose support is allowed, the rest on levels (or free, without any).
template <class Allowed>
double least(const Tensor& x, const std::vector<float>& levels, Allowed allowed) {
  double best = 1e30;
  const auto n = static_cast<int>(x.elements());
  for (uint32_t support = 0; support < (1U << n); ++support) {
    if (!allowed(support)) {
      continue;
    }
    double sum = 0;
    for (int i = 0; i < n; ++i) {
      const auto w = static_cast<double>(x.data()[i]);
      double error = w * w;
      if ((support >> i & 1U) != 0) {
        error = levels.empty() ? 0 : error;
        for (const float level : levels) {
          error = std::min(error, std::pow(w - static_cast<double>(level), 2));
        }
      }
      sum += error;
    }
    best = std::min(best, sum);
  }
  return best;
}

void check_nearest(const Tensor& x, const Projection& point, double bound) {
  const Tensor& z = point.values.at("fc.weight");
  const prune::Mask& mask = point.masks.at("fc.weight");
  CHECK(apart(x, z) <= bound + 1e-5 * (bound + 1e-3));
  for (size_t i = 0; i < mask.keep.size(); ++i) {
    CHECK((mask.keep[i] != 0 || z.data()[i] == 0));
  }
}

}  // namespace

TEST_SUITE("admm") {
  TEST_CASE("no point of the set is nearer than the projection, over all supports") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 40; ++round) {
      CAPTURE(round);
      One one(3, 4);
      const RngKey key = RngKey{.seed = test_seed()}.child(static_cast<uint64_t>(round));
      Tensor x = Tensor::normal({3, 4}, key);
      if (round % 4 == 0) {  // ties
        for (real& v : x.mutable_values()) {
          v = static_cast<real>(std::round(v));
        }
      }
      const auto count = [](uint32_t s) { return std::popcount(s); };
      for (const std::optional<AdmmLevels>& levels :
           {std::optional<AdmmLevels>(), std::optional(AdmmLevels{.bits = 2}),
            std::optional(AdmmLevels{.kind = quant::array::GridKind::kAffine, .bits = 3}),
            std::optional(AdmmLevels{.kind = quant::array::GridKind::kPowerOfTwo, .bits = 2})}) {
        const auto fitted = [&](const Projection& p) {
          const auto found = p.levels.find("fc.weight");
          CHECK((found != p.levels.end()) == levels.has_value());
          return found == p.levels.end() ? std::vector<float>() : found->second;
        };
        const int64_t gone = rng.between(1, 11);
        const AdmmSet sparse{.amount = static_cast<double>(gone) / 12, .levels = levels};
        const Projection p = one.onto(sparse, x);
        CHECK(p.masks.at("fc.weight").pruned() == gone);
        check_nearest(x, p, least(x, fitted(p), [&](uint32_t s) { return count(s) <= 12 - gone; }));

        const Projection two_of_four = one.onto({.granularity = Granularity::pattern(2, 4), .levels = levels}, x);
        check_nearest(x, two_of_four, least(x, fitted(two_of_four), [&](uint32_t s) {
                        return count(s & 15U) <= 2 && count(s >> 4 & 15U) <= 2 && count(s >> 8) <= 2;
                      }));

        const Projection shared = one.onto({.granularity = Granularity::pattern(1, 2, 3), .levels = levels}, x);
        check_nearest(x, shared, least(x, fitted(shared), [&](uint32_t s) {
                        const uint32_t any = (s | s >> 4 | s >> 8) & 15U;  // inputs that some output reads
                        return count(any & 3U) <= 1 && count(any >> 2) <= 1;
                      }));
        for (const auto& fits : {fitted(p), fitted(two_of_four)}) {
          CHECK(fits.size() <= size_t{1} << (levels.has_value() ? levels->bits : 0));
          CHECK((fits.empty() || std::ranges::count(fits, 0.0F) == 1));
        }
      }
    }
  }

  TEST_CASE("channels: the coupled filters with the largest sums of squares stay") {
    CAPTURE(test_seed());
    const auto model = small_net(test_seed());
    const std::vector<prune::Target> layers = prune::targets(*model, kSmallInput);
    Values values;
    for (const prune::Target& target : layers) {
      values.emplace(target.name, target.weight().raw.value());
    }
    const AdmmSets sets{{"conv1", {.granularity = Granularity::channel(), .amount = 0.5}}, {"conv2", {.amount = 0.25}}};
    const Projection p = project(*model, kSmallInput, layers, sets, values);
    std::vector<std::pair<double, int64_t>> sums;
    for (int64_t c = 0; c < 8; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < 27; ++i) {
        sum += std::pow(static_cast<double>(values.at("conv1.weight").data()[c * 27 + i]), 2);
      }
      sums.emplace_back(sum, c);
    }
    std::ranges::sort(sums);
    for (size_t rank = 0; rank < 8; ++rank) {
      for (int64_t i = 0; i < 27; ++i) {
        const int64_t at = sums[rank].second * 27 + i;
        CHECK(p.values.at("conv1.weight").data()[at] == (rank < 4 ? 0 : values.at("conv1.weight").data()[at]));
      }
    }
    CHECK(p.masks.contains("conv1.beta"));
    CHECK(p.masks.at("conv2.weight").pruned() == 108);
  }

  TEST_CASE("what a mask has taken stays away, and counts") {
    One one(2, 4);
    prune::attach(one.model, {{"fc.weight", {.shape = {2, 4}, .keep = {0, 1, 1, 1, 1, 1, 1, 0}}}});
    const Projection p = one.onto({.amount = 0.5}, Tensor::of({2, 4}, {9, 1, 5, 2, 3, 4, 6, 9}));
    CHECK(p.masks.at("fc.weight").keep == std::vector<uint8_t>{0, 0, 1, 0, 1, 1, 1, 0});
    CHECK(same_bits(p.values.at("fc.weight").values(), Tensor::of({2, 4}, {0, 0, 5, 0, 3, 4, 6, 0}).values()));
  }

  TEST_CASE("the iteration, number by number, against its formulas in plain loops") {
    CAPTURE(test_seed());
    One one(2, 3);
    Variable& raw = one.targets[0].weight().raw;
    raw.assign(Tensor::normal({2, 3}, {.seed = test_seed()}));
    const Tensor a = Tensor::normal({2, 3}, {.seed = test_seed(), .stream = 1});
    Admm admm(one.model, one.input, one.targets,
              {.sets = {{"fc", {.amount = 0.5}}}, .rho = 0.2, .growth = 2, .most_rho = 0.6});
    std::vector<double> w(6), z(6), u(6, 0.0);
    const auto largest = [](const std::vector<double>& v) {
      std::vector<size_t> order(6);
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, [&](size_t i, size_t j) { return std::abs(v[i]) < std::abs(v[j]); });
      std::vector<double> result = v;
      for (size_t i = 0; i < 3; ++i) {
        result[order[i]] = 0;
      }
      return result;
    };
    for (size_t i = 0; i < 6; ++i) {
      w[i] = static_cast<double>(raw.value().data()[i]);
    }
    z = largest(w);
    double rho = 0.2;
    for (int step = 1; step <= 40; ++step) {
      raw.zero_grad();
      const Variable difference = sub(one.targets[0].weight().value(), a);
      backward(mul(sum(mul(difference, difference)), Tensor::scalar(real(0.5))));
      admm.penalize();
      for (size_t i = 0; i < 6; ++i) {
        const double gradient = w[i] - static_cast<double>(a.data()[i]) + rho * (w[i] - z[i] + u[i]);
        CHECK(static_cast<double>(raw.grad().data()[i]) == doctest::Approx(gradient).epsilon(1e-4).scale(1));
        w[i] -= 0.1 * gradient;
        raw.mutable_data()[i] -= real(0.1) * raw.grad().data()[i];
      }
      if (step % 10 == 0) {
        admm.update();
        std::vector<double> aim(6);
        for (size_t i = 0; i < 6; ++i) {
          aim[i] = w[i] + u[i];
        }
        z = largest(aim);
        const double next = std::min(rho * 2, 0.6);
        for (size_t i = 0; i < 6; ++i) {
          u[i] = (aim[i] - z[i]) * rho / next;
          CHECK(static_cast<double>(admm.z().at("fc.weight").data()[i]) ==
                doctest::Approx(z[i]).epsilon(1e-4).scale(1));
          CHECK(static_cast<double>(admm.u().at("fc.weight").data()[i]) ==
                doctest::Approx(u[i]).epsilon(1e-4).scale(1));
        }
        rho = next;
        CHECK(admm.rho() == doctest::Approx(rho));
      }
    }
    CHECK(admm.updates() == 4);
  }

  // loss = sum h_i (w_i - a_i)^2 / 2 separates: of each pair the best point keeps the weight with the larger h a^2, at
  // w = a. Magnitude keeps the other one. The step on W has the closed form (h a + rho (z - u)) / (h + rho).
  TEST_CASE("a quadratic problem: it ends at the best point of the set, where cutting at once does not") {
    One one(1, 6);
    Variable& raw = one.targets[0].weight().raw;
    const double h[] = {9, 0.1, 0.2, 8, 7, 0.3};
    const double a[] = {0.8, 1.0, -1.1, 0.9, 0.7, -0.75};
    for (size_t i = 0; i < 6; ++i) {
      raw.mutable_data()[i] = static_cast<real>(a[i]);
    }
    const Granularity one_of_two = Granularity::pattern(1, 2);
    CHECK(prune::select(one.targets, prune::magnitude(one.targets), {.granularity = one_of_two}).at("fc.weight").keep ==
          std::vector<uint8_t>{0, 1, 1, 0, 0, 1});
    Admm admm(one.model, one.input, one.targets,
              {.sets = {{"fc", {.granularity = one_of_two}}}, .rho = 1, .growth = 1.02, .most_rho = 2});
    for (int step = 0; step < 300; ++step) {
      for (size_t i = 0; i < 6; ++i) {
        const auto z = static_cast<double>(admm.z().at("fc.weight").data()[i]);
        const auto u = static_cast<double>(admm.u().at("fc.weight").data()[i]);
        raw.mutable_data()[i] = static_cast<real>((h[i] * a[i] + admm.rho() * (z - u)) / (h[i] + admm.rho()));
      }
      admm.update();
    }
    CHECK(admm.distance() < 1e-4);
    const Projection end = admm.finish();
    CHECK(end.masks.at("fc.weight").keep == std::vector<uint8_t>{1, 0, 0, 1, 1, 0});
    for (size_t i = 0; i < 6; ++i) {
      const bool kept = end.masks.at("fc.weight").keep[i] != 0;
      CHECK(static_cast<double>(raw.value().data()[i]) == doctest::Approx(kept ? a[i] : 0).epsilon(1e-4));
      // What was left out is held at 0 by u = h a / rho: the gradient of the loss and the pull are in balance.
      CHECK(static_cast<double>(admm.u().at("fc.weight").data()[i]) ==
            doctest::Approx(kept ? 0 : h[i] * a[i] / admm.rho()).epsilon(1e-3).scale(1));
    }
  }

  TEST_CASE("in fit(): the sets hold after the cut and all of the retraining; stopped and resumed, the same bits") {
    CAPTURE(test_seed());
    const data::Splits splits{.train = moons(1, 300), .validation = moons(2, 100), .test = {}};
    const TempFolder folder;
    TransformKinds kinds;
    prune::add_mask_kind(kinds);
    const Shape input{1, 2};
    const AdmmSets sets{{"fc1", {.amount = 0.25, .levels = AdmmLevels{.bits = 3}}},
                        {"fc2", {.granularity = Granularity::pattern(1, 4)}}};
    const auto pulled = [&](const std::filesystem::path& out, int64_t stop_at) {
      auto model = net();
      const std::vector<prune::Target> layers = prune::targets(*model, input);
      FitOptions o{.epochs = 4, .batch = 32, .seed = 1, .rate = 0.1, .out = out, .kinds = &kinds};
      if (stop_at > 0) {
        Admm admm(*model, input, layers, {.sets = sets, .rho = 0.01, .every = 7});
        StopAt observer(stop_at);
        o.hooks = admm.hooks();
        o.stop = &observer.stop;
        REQUIRE(fit(*model, splits, o, &observer).interrupted);
        o.stop = nullptr;
        o.resume = true;
        model = net();
      }
      Admm admm(*model, input, prune::targets(*model, input), {.sets = sets, .rho = 0.01, .every = 7});
      o.hooks = admm.hooks();
      fit(*model, splits, o);
      CHECK(admm.updates() == 40 / 7);
      const double before = admm.distance();
      const Projection cut = admm.finish();
      CHECK(before < 0.6);
      CHECK(before > 0);
      CHECK(admm.distance() == 0);
      CHECK(cut.levels.at("fc1.weight").size() <= 8);
      return model;
    };
    const auto model = pulled(folder / "whole.safetensors", 0);
    const auto holds = [&] {
      const std::vector<prune::Target> layers = prune::targets(*model, input);
      const Tensor first = layers[0].weight().value().value().clone();
      CHECK(prune::Mask::of_nonzeros(first).pruned() >= 12);
      const Tensor second = layers[1].weight().value().value().clone();
      for (int64_t group = 0; group < 16 * 24 / 4; ++group) {
        int64_t left = 0;
        for (int64_t i = 0; i < 4; ++i) {
          left += second.data()[group * 4 + i] != 0;
        }
        CHECK(left <= 1);
      }
    };
    holds();
    Checkpoint whole;
    store_model(whole, *model);
    for (const int64_t stop : {3, 7, 22}) {
      CAPTURE(stop);
      Checkpoint part;
      store_model(part, *pulled(folder / ("part" + std::to_string(stop) + ".safetensors"), stop));
      CHECK(part == whole);
    }
    const double accuracy = evaluate(*model, splits.validation).accuracy;
    fit(*model, splits, {.epochs = 8, .batch = 32, .rate = 0.1, .weight_decay = 1e-3});
    holds();
    CHECK(evaluate(*model, splits.validation).accuracy >= accuracy);
  }

  TEST_CASE("sets and levels as text") {
    const AdmmSet otherwise{.amount = 0.5};
    CHECK(AdmmSet::parse("0.98", otherwise) == AdmmSet{.amount = 0.98});
    CHECK(AdmmSet::parse("nm:2:4", otherwise).text() == "nm:2:4");
    CHECK(AdmmSet::parse("channel+kmeans:4", otherwise).text() == "channel+0.5+kmeans:4");
    CHECK(AdmmSet::parse("affine:8+0.9", otherwise).text() == "element+0.9+affine:8");
    for (const char* text : {"element+0.9+power-of-two:3", "nm:1:4x16+affine:8", "channel+0.25"}) {
      CHECK(AdmmSet::parse(text, {}).text() == text);
    }
    CHECK(message_of([&] { AdmmSet::parse("0.9+some", otherwise); }) ==
          "[admm] levels are GRID:BITS, like kmeans:4, not 'some'");
    CHECK(message_of([&] { AdmmLevels::parse("kmeans:12"); }) == "[admm] levels of 12 bits are not from 2 to 8");
    CHECK(message_of([&] { AdmmLevels::parse("normal:4"); }) ==
          "[admm] levels are affine, power-of-two or kmeans, not 'normal'");
  }

  TEST_CASE("what makes no sense is refused") {
    One one(2, 4);
    const auto refused = [&](AdmmOptions o, const std::string& sentence) {
      CHECK(message_of([&] { Admm(one.model, one.input, one.targets, std::move(o)); }) == sentence);
    };
    refused({}, "[admm] no layer has a set");
    refused({.sets = {{"fc9", {.amount = 0.5}}}}, "[admm] 'fc9' has a set and is no layer that is pruned");
    refused({.sets = {{"fc", {}}}}, "[admm] the set of 'fc' is all there is: give an amount, a pattern or levels");
    refused({.sets = {{"fc", {.amount = 1}}}}, "[admm] the amount 1 of 'fc' is not in [0, 1)");
    refused({.sets = {{"fc", {.granularity = Granularity::block(1, 4), .amount = 0.5}}}},
            "[admm] the set of 'fc' is of single weights, a pattern or channels");
    refused({.sets = {{"fc", {.amount = 0.5}}}, .rho = 0}, "[admm] rho 0 is not a positive number");
    refused({.sets = {{"fc", {.amount = 0.5}}}, .growth = 0.5}, "[admm] rho cannot grow by a factor of 0.5");
  }
}

}  // namespace whittle
