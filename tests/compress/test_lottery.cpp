// Lottery tickets: counts, masks, what goes back to what, what differs in the controls, and going on after a stop.

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <functional>

#include "compress/lottery.h"
#include "core/json.h"
#include "layers/model_checkpoint.h"
#include "tests/support/folder_contents.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_training.h"

namespace whittle {

using namespace compress;

namespace {

const Shape kInput{1, 2};
constexpr int64_t kSteps = 3 * 7;  // 3 epochs of 200 samples in batches of 32

data::Splits splits() { return {.train = moons(1, 200), .validation = moons(2, 100), .test = moons(3, 100)}; }

LotteryOptions options(const std::filesystem::path& folder) {
  return {.folder = folder,
          .share = 0.3,
          .rounds = 3,
          .controls = {LotteryNet::kReinitialized, LotteryNet::kRandomMask},
          .look_every = 5,
          .fit = {.epochs = 3, .batch = 32, .seed = test_seed(), .rate = 0.1, .weight_decay = 1e-3}};
}

// What the nets were before their first step: gradients are there, and nothing has moved.
struct Starts {
  explicit Starts(Module& m) : model(m) {}
  FitHooks hooks() {
    return {.after_backward = [this](const FitHooks::Point& at) {
      if (seen.empty() || at.step <= last) {
        Checkpoint now;
        store_model(now, model);
        seen.push_back(std::move(now));
        first.push_back(at.step);
      }
      last = at.step;
    }};
  }
  Module& model;
  std::vector<Checkpoint> seen;  // in the order of training
  std::vector<int64_t> first;    // the step each begins with
  int64_t last = -1;
};

prune::Mask mask_in(const Checkpoint& checkpoint, const std::string& name) {
  return prune::Mask::of(checkpoint.at(name + "/mask").to_tensor());
}

bool contains_text(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

const std::vector<std::pair<std::string, int64_t>> kWeights{
    {"fc1.weight", 48}, {"fc2.weight", 384}, {"fc3.weight", 32}};

}  // namespace

TEST_SUITE("lottery") {
  TEST_CASE(
      "every round: exact counts, shrinking masks, initial weights to the bit; controls differ where they should") {
    CAPTURE(test_seed());
    const TempFolder folder;
    const auto model = net(/*norm=*/true);
    Checkpoint initial;
    store_model(initial, *model);
    Starts starts(*model);
    LotteryOptions o = options(folder / "t");
    o.fit.hooks = starts.hooks();
    std::vector<LotteryRow> told;
    const data::Splits data = splits();
    const LotteryResult result = lottery(*model, kInput, data, o, [&](const LotteryRow& r) { told.push_back(r); });
    CHECK_FALSE(result.interrupted);
    REQUIRE(result.rows.size() == 10);
    REQUIRE(told.size() == 10);
    REQUIRE(starts.seen.size() == 10);
    std::map<std::string, prune::Mask> before;
    size_t at = 0;
    for (int64_t round = 0; round <= 3; ++round) {
      for (const LotteryNet kind : {LotteryNet::kTicket, LotteryNet::kReinitialized, LotteryNet::kRandomMask}) {
        if (round == 0 && kind != LotteryNet::kTicket) {
          continue;
        }
        CAPTURE(round);
        CAPTURE(name_of(kind));
        const LotteryRow& row = result.rows[at];
        const Checkpoint& start = starts.seen[at];
        CHECK(row.round == round);
        CHECK(row.net == kind);
        CHECK(row.steps == kSteps);
        CHECK((row.stop_step % 5 == 0 || row.stop_step == kSteps));
        CHECK(row.stop_test.samples == 100);
        CHECK(starts.first[at] == 0);
        int64_t kept = 0;
        for (const auto& weight : kWeights) {
          const std::string& name = weight.first;
          const int64_t elements = weight.second;
          CAPTURE(name);
          const double share = name == "fc3.weight" ? 0.15 : 0.3;
          const auto gone = std::lrint((1 - std::pow(1 - share, round)) * static_cast<double>(elements));
          kept += elements - gone;
          if (round == 0) {
            CHECK_FALSE(start.tensors.contains(name + "/mask"));
          } else {
            const prune::Mask mask = mask_in(start, name);
            CHECK(mask.pruned() == gone);
            if (kind != LotteryNet::kRandomMask) {
              CHECK((kind == LotteryNet::kTicket || mask == before.at(name)));
              if (kind == LotteryNet::kTicket && before.contains(name)) {
                for (size_t i = 0; i < mask.keep.size(); ++i) {
                  REQUIRE(mask.keep[i] <= before.at(name).keep[i]);
                }
              }
              before[name] = mask;
            } else {
              CHECK((mask != before.at(name)));
            }
          }
          CHECK((start.at(name) == initial.at(name)) == (kind != LotteryNet::kReinitialized));
        }
        CHECK(row.weights == 464);
        CHECK(row.kept == kept);
        for (const auto& [name, tensor] : initial.tensors) {  // biases, norms and statistics begin alike in all
          if (!name.ends_with(".weight") && name.find("running") == std::string::npos) {  // a batch has passed already
            CHECK(start.at(name) == tensor);
          }
        }
        ++at;
      }
    }
    // The masks of a round are the smallest of what the round before ended with.
    const Checkpoint first = load_checkpoint(folder / "t/round-01.safetensors");
    const Checkpoint second = load_checkpoint(folder / "t/round-02.safetensors");
    const Tensor ended = first.at("fc2.weight").to_tensor();
    const prune::Mask was = mask_in(first, "fc2.weight"), is = mask_in(second, "fc2.weight");
    real largest_gone = 0, smallest_kept = 1e9;
    for (size_t i = 0; i < was.keep.size(); ++i) {
      if (was.keep[i] != 0) {
        real& bound = is.keep[i] != 0 ? smallest_kept : largest_gone;
        bound =
            is.keep[i] != 0 ? std::min(bound, std::abs(ended.data()[i])) : std::max(bound, std::abs(ended.data()[i]));
      }
    }
    CHECK(largest_gone <= smallest_kept);
    // The model is the last ticket, as its file has it.
    Checkpoint now;
    store_model(now, *model);
    CHECK(now.tensors == load_checkpoint(folder / "t/round-03.safetensors").tensors);
    CHECK(result.rows[7].test.accuracy == evaluate(*model, data.test).accuracy);
  }

  TEST_CASE("the early stop is the look with the lowest validation loss") {
    const TempFolder folder;
    const auto model = net();
    const data::Splits data = splits();
    LotteryOptions o = options(folder / "t");
    o.rounds = 1;
    o.controls = {};
    std::vector<std::vector<std::pair<double, int64_t>>> looks;
    std::vector<std::map<int64_t, double>> tests;
    o.fit.hooks.after_step = [&](const FitHooks::Point& at) {
      if (at.step == 1) {
        looks.emplace_back();
        tests.emplace_back();
      }
      if (at.step % 5 == 0 || at.step == kSteps) {
        looks.back().emplace_back(evaluate(*model, data.validation).loss, at.step);
        tests.back()[at.step] = evaluate(*model, data.test).accuracy;
      }
    };
    const LotteryResult result = lottery(*model, kInput, data, o);
    REQUIRE(looks.size() == 2);
    for (size_t i = 0; i < 2; ++i) {
      const auto best = *std::ranges::min_element(looks[i]);
      CHECK(result.rows[i].stop_step == best.second);
      CHECK(result.rows[i].stop_validation.loss == best.first);
      CHECK(result.rows[i].stop_test.accuracy == tests[i].at(best.second));
      CHECK(result.rows[i].test.accuracy == tests[i].at(kSteps));
    }
  }

  TEST_CASE("back to step k: the weights of that step to the bit, and the rest of the training from there") {
    const TempFolder folder;
    const auto model = net();
    const data::Splits data = splits();
    LotteryOptions o = options(folder / "t");
    o.rounds = 2;
    o.rewind_step = 9;
    Starts starts(*model);
    o.fit.hooks = starts.hooks();
    Checkpoint at_step;
    o.fit.hooks.after_step = [&](const FitHooks::Point& at) {
      if (at.step == 9 && at_step.tensors.empty()) {
        store_model(at_step, *model);
      }
    };
    const LotteryResult result = lottery(*model, kInput, data, o);
    REQUIRE(result.rows.size() == 7);
    REQUIRE(starts.seen.size() == 7);
    for (size_t i = 1; i < 7; ++i) {
      CAPTURE(name_of(result.rows[i].net));
      const bool fresh = result.rows[i].net == LotteryNet::kReinitialized;
      CHECK(starts.first[i] == (fresh ? 0 : 9));
      for (const auto& [name, elements] : kWeights) {
        CHECK((starts.seen[i].at(name) == at_step.at(name)) == !fresh);
      }
      CHECK((result.rows[i].stop_step > 9 || fresh));
    }

    // All of the step goes back, momentum and the place in the data too: where nothing is pruned, the rest of the
    // training ends with the dense net's bits.
    LotteryOptions whole = options(folder / "whole");
    whole.share = 1e-3;
    whole.rounds = 1;
    whole.rewind_step = 9;
    whole.controls = {};
    CHECK(lottery(*net(), kInput, data, whole).rows[1].kept == 464);
    const Checkpoint dense = load_checkpoint(folder / "whole/round-00.safetensors");
    const Checkpoint again = load_checkpoint(folder / "whole/round-01.safetensors");
    for (const auto& [name, tensor] : dense.tensors) {
      CHECK(again.at(name) == tensor);
    }
  }

  TEST_CASE("stopped anywhere and resumed: the files of a run that was not") {
    const TempFolder folder;
    const data::Splits data = splits();
    for (const int64_t k : {int64_t{0}, int64_t{4}}) {
      CAPTURE(k);
      LotteryOptions o = options(folder / ("whole" + std::to_string(k)));
      o.rounds = 2;
      o.rewind_step = k;
      o.controls = {LotteryNet::kReinitialized};
      const auto whole = net();
      const LotteryResult result = lottery(*whole, kInput, data, o);
      const std::filesystem::path part = folder / ("part" + std::to_string(k));
      o.folder = part;
      std::atomic<bool> stop{false};
      o.fit.stop = &stop;
      o.fit.resume = true;  // from the first time on: nothing is there yet
      bool interrupted = true;
      for (int runs = 0; interrupted; ++runs) {
        REQUIRE(runs < 60);
        stop = false;
        int64_t left = runs < 3 ? 4 : 13;  // at step k, between two nets, in the middle
        o.fit.hooks.after_step = [&](const FitHooks::Point&) { stop = --left <= 0; };
        const auto model = net();
        const LotteryResult resumed = lottery(*model, kInput, data, o);
        interrupted = resumed.interrupted;
        if (!interrupted) {
          REQUIRE(resumed.rows.size() == result.rows.size());
          for (size_t i = 0; i < result.rows.size(); ++i) {
            CHECK(to_json(resumed.rows[i]) == to_json(result.rows[i]));
          }
          Checkpoint a, b;
          store_model(a, *whole);
          store_model(b, *model);
          CHECK(a == b);
        }
      }
      CHECK(contents_of(part) == contents_of(folder / ("whole" + std::to_string(k))));
    }
  }

  TEST_CASE("more rounds and controls can be added; other settings and a second beginning are refused") {
    const TempFolder folder;
    const data::Splits data = splits();
    LotteryOptions o = options(folder / "t");
    o.rounds = 1;
    o.controls = {};
    lottery(*net(), kInput, data, o);
    CHECK(contains_text(message_of([&] { lottery(*net(), kInput, data, o); }),
                        "holds a lottery; resume to go on with it"));
    o.fit.resume = true;
    o.fit.rate = 0.2;
    CHECK(contains_text(message_of([&] { lottery(*net(), kInput, data, o); }), "of other settings or initial weights"));
    o.fit.rate = 0.1;
    o.rounds = 2;
    o.controls = {LotteryNet::kRandomMask};
    CHECK(lottery(*net(), kInput, data, o).rows.size() == 5);
    LotteryOptions all = options(folder / "all");
    all.rounds = 2;
    all.controls = {LotteryNet::kRandomMask};
    lottery(*net(), kInput, data, all);
    CHECK(contents_of(folder / "t") == contents_of(folder / "all"));
  }

  TEST_CASE("global scope; the last layer spared") {
    const TempFolder folder;
    LotteryOptions o = options(folder / "t");
    o.scope = prune::Scope::kGlobal;
    o.last_factor = 0;
    o.rounds = 2;
    const auto model = net();
    const LotteryResult result = lottery(*model, kInput, splits(), o);
    CHECK(result.rows[1].kept == 32 + 432 - std::lrint(0.3 * 432));
    CHECK(result.rows.back().kept == 32 + 432 - std::lrint((1 - 0.49) * 432));
    const prune::MaskSet ticket = prune::masks(*model);
    CHECK_FALSE(ticket.contains("fc3.weight"));
    const Checkpoint random = load_checkpoint(folder / "t/round-02-random-mask.safetensors");
    for (const auto& [name, mask] : ticket) {
      CHECK(mask_in(random, name).pruned() == mask.pruned());  // layer by layer
    }
  }

  TEST_CASE("what makes no sense is refused before anything is written") {
    const TempFolder folder;
    const data::Splits data = splits();
    const auto refused = [&](const std::function<void(LotteryOptions&)>& change, const std::string& sentence) {
      LotteryOptions o = options(folder / "t");
      change(o);
      CHECK(contains_text(message_of([&] { lottery(*net(), kInput, data, o); }), sentence));
      CHECK_FALSE(std::filesystem::exists(folder / "t"));
    };
    refused([](LotteryOptions& o) { o.share = 0; }, "the share 0 of each round is not in (0, 1)");
    refused([](LotteryOptions& o) { o.rounds = 0; }, "rounds 0 is not at least 1");
    refused([](LotteryOptions& o) { o.rewind_step = kSteps; }, "is not within the 21 steps");
    refused([](LotteryOptions& o) { o.fit.patience = 1; }, "patience and ema have no place");
    refused([](LotteryOptions& o) { o.scope = prune::Scope::kGlobal; }, "spared or treated like the others");
    refused([](LotteryOptions& o) { o.controls = {LotteryNet::kTicket}; }, "'ticket' is no control");
    refused([](LotteryOptions& o) { o.fit.out = "x"; }, "the folder's business");
    refused([](LotteryOptions& o) { o.look_every = 0; }, "every 0 steps is not possible");
    const auto masked = net();
    prune::attach(*masked, {{"fc2.weight", prune::Mask::ones({16, 24})}});
    CHECK(contains_text(message_of([&] { lottery(*masked, kInput, data, options(folder / "t")); }), "has transforms"));
    data::Splits blind = data;
    blind.validation = {};
    CHECK(contains_text(message_of([&] { lottery(*net(), kInput, blind, options(folder / "t")); }),
                        "needs validation and test samples"));
  }
}

}  // namespace whittle
