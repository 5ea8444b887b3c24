// The search for a smaller net: what is kept and why, what thinning costs, times by table, and going on after a stop.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <tuple>

#include "compress/quantizing.h"
#include "compress/search.h"
#include "compress/thin.h"
#include "core/file.h"
#include "core/json.h"
#include "core/rng.h"
#include "datasets/split.h"
#include "deploy/lower.h"
#include "layers/model_checkpoint.h"
#include "layers/summary.h"
#include "quant/post_training.h"
#include "tests/deploy/run_program.h"
#include "tests/support/folder_contents.h"
#include "tests/support/message.h"
#include "tests/support/same_bits.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"
#include "tests/train/small_training.h"
#include "train/metrics.h"

namespace whittle {

using namespace compress;

namespace {

const Shape kInput{1, 2};

// A candidate that lost so many of 10,000 samples, and won others.
Candidate candidate(const std::string& name, double cost, int64_t lost, int64_t won, double confidence = 95) {
  Candidate c{.name = name, .cost = cost};
  std::vector<bool> by_float(10000, true);
  std::vector<bool> by_program(10000, true);
  std::fill_n(by_program.begin(), lost, false);
  std::fill_n(by_float.begin() + lost, won, false);
  judge(c, by_float, by_program, confidence);
  return c;
}

struct Trained {
  zoo::Description description =
      zoo::describe("mlp", {.classes = 2, .input = Shape{2}, .hidden = std::vector<int64_t>{24, 16}});
  std::shared_ptr<Module> model = zoo::build(description);
  data::Splits splits{.train = moons(1, 400), .validation = moons(2, 2000), .test = {}};

  Trained() {
    initialize(*model, {.seed = 1});
    fit(*model, {.train = splits.train, .validation = {}, .test = {}}, {.epochs = 30, .batch = 32, .rate = 0.1});
  }
};
Trained& trained() {
  static Trained once;
  return once;
}

SearchOptions options(const std::filesystem::path& folder) {
  return {.folder = folder,
          .promise = {.max_drop = 3},
          .rungs = 3,
          .factor = 0.7,
          .steps = 3 * 4 * 13,
          .fit = {.batch = 32, .seed = 5, .rate = 0.05},
          .run = [](const std::filesystem::path& file) {
            const std::vector<std::byte> bytes = read_file(file);
            std::vector<uint8_t> program(bytes.size());
            std::memcpy(program.data(), bytes.data(), bytes.size());
            const data::Batch all = trained().splits.validation.all();
            Answers answers;
            right_answers(run_program(program, all.inputs, {all.inputs.dim(0), 2}), all.labels, &answers.right);
            return answers;
          }};
}

SearchResult search_in(const SearchOptions& o, FitObserver* observer = nullptr) {
  return search(*trained().model, trained().description, trained().splits, o, {}, observer);
}

}  // namespace

TEST_SUITE("compress") {
  TEST_CASE("the cheapest of the supported is kept, and what failed ends the ladder") {
    const std::vector<Candidate> all = {candidate("int8", 1, 5, 5), candidate("rung 1", 0.8, 20, 20),
                                        candidate("rung 2", 0.9, 30, 30), candidate("rung 3", 0.5, 90, 40)};
    const Choice choice = choose(all, {});
    CHECK(choice.chosen == 1);
    CHECK(choice.supported);
    CHECK(choice.verdicts[0].word == "supported");
    CHECK(choice.verdicts[1].word == "kept");
    CHECK(choice.verdicts[2].word == "not better");
    CHECK(choice.verdicts[3].word == "refused");
    CHECK(choice.front == std::vector<size_t>{0, 1, 3});  // rung 2 is dearer than rung 1 and not as accurate
    const std::vector<Candidate> behind_a_failure = {all[0], all[3], all[1]};
    CHECK_THROWS_AS((void)choose(behind_a_failure, {}), Error);
  }

  TEST_CASE("a rung may keep what plain int8 cannot, at the confidence that is left") {
    const Candidate good = candidate("int8", 1, 5, 5), bad = candidate("int8", 1, 60, 20);
    CHECK(confidence_behind({}, {}) == doctest::Approx(99));
    CHECK(confidence_behind({good}, {}) == doctest::Approx(95));
    CHECK(confidence_behind({bad}, {}) == doctest::Approx(96));
    CHECK(confidence_behind({bad, good}, {}) == doctest::Approx(96));
    CHECK(confidence_behind({}, {.confidence = 90}) == doctest::Approx(98));
    const Choice choice = choose({bad, candidate("rung 1", 0.8, 20, 20, 96)}, {});
    CHECK(choice.chosen == 1);
    CHECK(choice.supported);
    CHECK(choice.verdicts[0].word == "refused");
    CHECK(choice.verdicts[1].why.find("at 96 % confidence") != std::string::npos);
    CHECK(choose({bad, candidate("rung 1", 1.1, 20, 20, 96)}, {}).chosen == 1);  // dearer, but it keeps the promise
    const Choice neither = choose({bad, candidate("rung 1", 0.8, 90, 40, 96)}, {});
    CHECK(neither.chosen == 0);
    CHECK_FALSE(neither.supported);
  }

  // The worst case: all candidates lose a little more than promised, answer independently of one another, and any
  // success is a false one.
  TEST_CASE("all tests together are wrong no more often than was said") {
    constexpr int kTrials = 4000, kSamples = 400;
    const Promise promise{.max_drop = 2};
    CAPTURE(test_seed());
    Rng random(test_seed());
    std::map<std::tuple<int64_t, int64_t, double>, double> bounds;  // each takes a while, and they come again
    int wrong = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      std::vector<Candidate> all;
      bool supported = false;
      while (all.size() < 2 || (all.back().supports(promise) && all.size() < 6)) {
        int64_t lost = 0, won = 0;
        for (int i = 0; i < kSamples; ++i) {
          const double u = random.uniform();
          won += u < 0.01 ? 1 : 0;
          lost += u >= 0.9698 ? 1 : 0;  // 3.02 %: the drop is 2.02 points
        }
        Candidate c{.validation = statistics::paired(kSamples, lost, won),
                    .confidence = confidence_behind(all, promise)};
        const auto [known, is_new] = bounds.try_emplace({lost, won, c.confidence});
        if (is_new) {
          known->second = 100 * statistics::largest_drop(c.validation, c.confidence);
        }
        c.bound = known->second;
        supported = supported || c.supports(promise);
        all.push_back(std::move(c));
      }
      wrong += supported ? 1 : 0;
    }
    CHECK(wrong <= 0.05 * kTrials + 3 * std::sqrt(0.05 * 0.95 * kTrials));
    CHECK(wrong > 0.01 * kTrials);  // a test that never supports anything would not be wrong, either
  }

  TEST_CASE("never worse than plain int8: dearer candidates and unsupported ones leave it") {
    CHECK(choose({candidate("int8", 1, 0, 0), candidate("rung 1", 1.1, 0, 0)}, {}).chosen == 0);
    CHECK(choose({candidate("int8", 1, 0, 0), candidate("rung 1", 0.1, 80, 0)}, {}).chosen == 0);
    const Choice none = choose({candidate("int8", 1, 60, 20)}, {});
    CHECK(none.chosen == 0);
    CHECK_FALSE(none.supported);
    CHECK(none.why.starts_with("the promise is not supported: 10000 validation samples"));
    CHECK(none.why.find("about ") != std::string::npos);
    CHECK(choose({candidate("int8", 1, 100, 0)}, {}).why.find("about ") == std::string::npos);  // more would not do
  }

  TEST_CASE("a candidate goes through JSON unchanged") {
    Candidate c = candidate("rung 1", 0.3, 11, 7);
    c.training_loss = {0.5, 0.25};
    c.method = "QAT";
    CHECK(to_json(candidate_from(to_json(c))) == to_json(c));
    CHECK(c.drop() == doctest::Approx(0.04));
    CHECK(c.accuracy == doctest::Approx(0.9989));
  }

  TEST_CASE("times by table: measured points, straight lines between, never less for more work") {
    const LatencyTable table = LatencyTable::from(Json::parse(R"({"a": [[10, 2], [20, 1.5], [40, 5]]})"));
    const auto at = [&](double work) { return table.microseconds({.kind = "a", .work = work}); };
    CHECK(at(5) == doctest::Approx(1));
    CHECK(at(10) == doctest::Approx(2));
    CHECK(at(20) == doctest::Approx(2));
    CHECK(at(30) == doctest::Approx(3.5));
    CHECK(at(80) == doctest::Approx(10));
    CHECK(LatencyTable::from(table.json()).json() == table.json());
    CHECK(message_of([&] { return table.microseconds({.kind = "b", .work = 1}); }) ==
          "[latency] no b was measured; the table is of another net");
    for (const char* bad :
         {"[]", "{}", R"({"a": 1})", R"({"a": [[1]]})", R"({"a": [[0, 1]]})", R"({"a": [[1, -1]]})"}) {
      CAPTURE(bad);
      CHECK_THROWS_AS((void)LatencyTable::from(Json::parse(bad)), Error);
    }
  }

  TEST_CASE("every op of the program and of thinner ones is in the table that is measured") {
    Trained& t = trained();
    const LatencyTable table = measure_latencies(*t.model, t.description, t.splits.train, 64);
    Trained copy;
    thin_evenly(*copy.model, copy.description, kInput, 0.4);
    quant::quantize(*copy.model, kInput, {.spec = quant::usual_spec(8, 8)}, [&] {
      return [&, done = false]() mutable { return std::exchange(done, true) ? Tensor() : t.splits.train.all().inputs; };
    });
    const runtime::Engine engine(deploy::program_of(*copy.model, {2}));
    CHECK(table.microseconds(engine.program()) > 0);
    // Multiply-accumulates are those that the summary counts.
    double macs = 0;
    for (uint32_t op = 0; op < engine.program().op_count(); ++op) {
      macs += engine.program().op(op).weights != runtime::kNone ? work_of(engine.program(), op).work : 0;
    }
    CHECK(macs == static_cast<double>(summarize(*copy.model, kInput).macs));
  }

  TEST_CASE("importance is the squared change of the loss per batch, from the formula") {
    Trained t;
    const prune::ChannelGraph graph(*t.model, kInput);
    const std::vector<double> importance = importance_of(*t.model, graph, t.splits.train, 16).channels;  // one batch
    const auto loss_with = [&](int64_t channel, double factor) {
      Trained other;
      auto parameters = other.model->parameters();
      for (const NamedParameter& p : parameters) {
        if (p.name == "fc1.weight" || p.name == "fc1.bias") {
          Tensor values = p.parameter->raw.value().clone();
          const int64_t row = values.elements() / 24;
          for (int64_t i = channel * row; i < (channel + 1) * row; ++i) {
            values.mutable_data()[i] *= static_cast<real>(factor);
          }
          p.parameter->raw = Variable::leaf(values);
        }
      }
      return evaluate(*other.model, t.splits.train.subset(data::spread_over(t.splits.train, 16))).loss;
    };
    const auto layer = std::ranges::find(graph.layers(), "fc1", &prune::ChannelGraph::Layer::path);
    for (const int64_t channel : {0, 7, 20}) {
      CAPTURE(channel);
      const double slope = (loss_with(channel, 1.01) - loss_with(channel, 0.99)) / 0.02;
      CHECK(importance[static_cast<size_t>(layer->out[static_cast<size_t>(channel)])] ==
            doctest::Approx(slope * slope).epsilon(0.05).scale(1e-6));
    }
  }

  TEST_CASE("so is that of rounding, along what few bits add to the weights") {
    Trained t;
    const prune::ChannelGraph graph(*t.model, kInput);
    const std::vector<double> importance = importance_of(*t.model, graph, t.splits.train, 16).rounding;  // one batch
    Trained rounded;
    quant::quantize(*rounded.model, kInput, {.method = quant::Method::kHybrid, .spec = quant::usual_spec(kFewBits, 8)},
                    {});
    const std::vector<int64_t> some = data::spread_over(t.splits.train, 16);
    for (size_t l = 0; l < graph.layers().size(); ++l) {
      const auto weighted_of = [&](const Trained& of) {
        for (const auto& [path, module] : of.model->modules()) {
          if (path == graph.layers()[l].path) {
            return dynamic_cast<WeightedLayer*>(module);
          }
        }
        return static_cast<WeightedLayer*>(nullptr);
      };
      if (weighted_of(t) == nullptr) {
        CHECK(importance[l] == 0);
        continue;
      }
      CAPTURE(graph.layers()[l].path);
      const Tensor end = weighted_of(rounded)->effective_weight().value();
      const auto loss_at = [&](double share) {
        Trained other;
        Parameter& weight = weighted_of(other)->weight;
        Tensor values = weight.raw.value().clone();
        for (int64_t i = 0; i < values.elements(); ++i) {
          values.mutable_data()[i] += static_cast<real>(share) * (end.data()[i] - values.data()[i]);
        }
        weight.raw = Variable::leaf(values);
        return evaluate(*other.model, t.splits.train.subset(some)).loss;
      };
      const double slope = (loss_at(0.05) - loss_at(-0.05)) / 0.1;
      CHECK(importance[l] == doctest::Approx(slope * slope).epsilon(0.1).scale(1e-6));
    }
  }

  TEST_CASE("bits and channels go together until the cost is reached, and rounded layers stay so") {
    Trained t;
    const LayerCost bytes = [](const LayerSize& layer) { return layer.weights * layer.bits / 8; };
    const double all = 2 * 24 + 24 * 16 + 16 * 2;
    WeightBits bits;
    int64_t rounded = 0;
    double before = all;
    for (const double share : {0.8, 0.5, 0.3}) {
      const WeightBits earlier = bits;
      const Thinned thinned = thin(*t.model, t.description, bits, kInput, t.splits.train, bytes, {.cost = share * all});
      CHECK(thinned.reached);
      rounded += thinned.layers;
      CHECK(static_cast<int64_t>(bits.size()) == rounded);
      CHECK(std::ranges::includes(bits, earlier));
      double left = 0;
      for (const auto& [path, module] : t.model->modules()) {
        if (const auto* const layer = dynamic_cast<WeightedLayer*>(module)) {
          left += static_cast<double>(layer->weight.shape().elements() * (bits.contains(path) ? kFewBits : 8)) / 8;
        }
      }
      CHECK(left <= share * all);
      CHECK(left < before);
      before = left;
    }
    CHECK(rounded > 0);
  }

  TEST_CASE("a thinned net costs what it shall and no channel less, and is rebuilt from its description") {
    Trained t;
    WeightBits bits;
    const LayerCost weights = [](const LayerSize& layer) { return layer.weights; };
    const double all = 2 * 24 + 24 * 16 + 16 * 2;
    const Thinned thinned = thin(*t.model, t.description, bits, kInput, t.splits.train, weights, {.cost = 0.6 * all});
    CHECK(thinned.reached);
    double left = 0;
    for (const NamedParameter& p : t.model->parameters()) {
      left += p.name.ends_with("weight") ? static_cast<double>(p.parameter->shape().elements()) : 0;
    }
    CHECK(left <= 0.6 * all);
    CHECK(left > 0.6 * all - 40);  // the dearest channel: 24 + 2 or 2 + 16 weights, and one more
    Checkpoint checkpoint;
    zoo::store(checkpoint, t.description, *t.model);
    const auto again = zoo::load(checkpoint, {});
    const Tensor x = Tensor::normal({7, 2}, {.seed = 3});
    CHECK(same_bits((*again)(x).value().values(), (*t.model)(x).value().values()));
    const Thinned more = thin(*t.model, t.description, bits, kInput, t.splits.train, weights, {.cost = 0});
    CHECK_FALSE(more.reached);  // half of a group stays
    CHECK(bits.empty());        // what saves nothing is not done
  }

  TEST_CASE("a search gives the same bytes twice, also stopped in each of its trainings, and each rung is cheaper") {
    const TempFolder whole;
    const SearchResult result = search_in(options(whole.path()));
    REQUIRE(result.candidates.size() >= 3);
    CHECK(result.candidates.front().name == "int8");
    for (size_t i = 1; i < result.candidates.size(); ++i) {
      const Candidate& c = result.candidates[i];
      CHECK(c.cost < result.candidates[i - 1].cost);
      CHECK(c.bytes < result.candidates[i - 1].bytes);
      CHECK((i == 1 || result.candidates[i - 1].supports({.max_drop = 3})));
      CHECK(c.training_loss.size() == 4);
      const std::vector<std::byte> bytes = read_file(candidate_program(whole.path(), i));
      const runtime::Engine engine({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
      for (uint32_t op = 0; op < engine.program().op_count(); ++op) {
        const runtime::OpRecord record = engine.program().op(op);
        if (record.weights != runtime::kNone && c.bits.contains(engine.program().name(record.name))) {
          CHECK(runtime::width_of(engine.program().value(record.weights).type) <= kFewBits);
        }
      }
    }
    CHECK_FALSE(result.candidates.back().bits.empty());
    CHECK(result.candidates.back().weight_bits < 8);
    CHECK(result.steps <= 3 * 4 * 13);
    for (const int64_t steps : {1, 20, 45, 70}) {
      CAPTURE(steps);
      const TempFolder stopped;
      StopAt stop(steps);
      SearchOptions o = options(stopped.path());
      o.fit.stop = &stop.stop;
      REQUIRE(search_in(o, &stop).interrupted);
      SearchOptions again = options(stopped.path());
      CHECK(message_of([&] { return search_in(again).steps; }).find("holds a search already") != std::string::npos);
      again.fit.resume = true;
      CHECK_FALSE(search_in(again).interrupted);
      CHECK(contents_of(stopped.path()) == contents_of(whole.path()));
      again.promise.max_drop = 4;
      const std::string other_drop = message_of([&] { return search_in(again).steps; });
      CAPTURE(other_drop);
      CHECK(other_drop.find("another max_drop") != std::string::npos);
      again.promise.max_drop = 3;
      again.fit.batch = 31;
      CHECK(message_of([&] { return search_in(again).steps; }).find("another fit/batch") != std::string::npos);
    }
  }

  // A channel, and all the weights of a layer that lose bits at once, may be more than the next step down, too.
  TEST_CASE("a rung that went further than it should is no end of the ladder") {
    const TempFolder folder;
    SearchOptions o = options(folder.path());
    o.factor = 0.995;
    o.promise.max_drop = 100;
    const SearchResult result = search_in(o);
    CHECK(result.ended == "all rungs were supported");
    REQUIRE(result.candidates.size() == 4);
    for (size_t i = 1; i < 4; ++i) {
      CHECK(result.candidates[i].cost <= result.candidates[i - 1].cost);  // padding may hide a step so small
      CHECK(result.candidates[i].wanted < result.candidates[i - 1].wanted);
    }
  }

  TEST_CASE("few validation samples support nothing, and plain int8 is left with a sentence about it") {
    const TempFolder folder;
    Trained t;
    t.splits.validation = moons(2, 60);
    SearchOptions o = options(folder.path());
    o.run = [&](const std::filesystem::path&) { return Answers{.right = std::vector<bool>(60, true)}; };
    const SearchResult result = search(*t.model, t.description, t.splits, o);
    CHECK(result.candidates.size() == 1);
    CHECK(result.ended == "60 validation samples are too few to support any candidate");
    CHECK_FALSE(choose(result.candidates, o.promise).supported);
  }

  // What only answers as the float model does would need more samples; what answers better does not.
  TEST_CASE("a rung that is better than the float model is supported by few samples, too") {
    const TempFolder folder;
    Trained t;
    t.splits.validation = moons(3, 200, 0.6);
    SearchOptions o = options(folder.path());
    o.promise.max_drop = 0.5;
    o.run = [](const std::filesystem::path&) { return Answers{.right = std::vector<bool>(200, true)}; };
    const SearchResult result = search(*t.model, t.description, t.splits, o);
    Candidate as_float;
    judge(as_float, std::vector<bool>(200, true), std::vector<bool>(200, true), 95);
    CHECK_FALSE(as_float.supports(o.promise));
    CHECK(result.float_accuracy < 0.9);
    CHECK(result.ended == "all rungs were supported");
    CHECK(choose(result.candidates, o.promise).chosen == 3);
  }

  TEST_CASE("a training that fails ends the ladder, and what was supported stands") {
    const TempFolder folder;
    SearchOptions o = options(folder.path());
    o.fit.rate = 1e12;
    const SearchResult result = search_in(o);
    CHECK_FALSE(result.interrupted);
    REQUIRE(result.candidates.size() == 1);
    CHECK(result.ended.starts_with("'rung 1' could not be trained: [fit] epoch"));
    CHECK(choose(result.candidates, o.promise).supported);
  }

  TEST_CASE("damaged files of a search are found when it goes on, by name") {
    const TempFolder folder;
    SearchOptions o = options(folder.path());
    const SearchResult whole = search_in(o);
    REQUIRE(whole.candidates.size() >= 3);
    o.fit.resume = true;
    const size_t last = whole.candidates.size() - 1;
    const auto damaged = [&](const std::filesystem::path& file, uint64_t bytes) {
      const std::vector<std::byte> before = read_file(file);
      std::filesystem::resize_file(file, bytes);
      const std::string said = message_of([&] { return search_in(o).steps; });
      replace_file(file, before);
      CAPTURE(said);
      CHECK(said.find(file.string()) != std::string::npos);
      CHECK(said.ends_with("; delete " + folder.path().string() + " to begin anew"));
    };
    for (const size_t number : {size_t{0}, last}) {
      for (const uint64_t bytes : {0, 100, 1000}) {
        damaged(candidate_program(folder.path(), number), bytes);
        damaged(candidate_checkpoint(folder.path(), number), bytes);
      }
    }
    damaged(folder.path() / ("rung-0" + std::to_string(last) + ".float.safetensors"), 1000);
    CHECK(search_in(o).candidates.size() == whole.candidates.size());
  }

  TEST_CASE("the table of latencies is in what a search has written down") {
    const TempFolder folder;
    CHECK_FALSE(latencies_begun_with(folder.path()).has_value());
    SearchOptions o = options(folder.path());
    o.rungs = 1;
    o.target = Target::kLatency;
    o.latencies = measure_latencies(*trained().model, trained().description, trained().splits.train);
    (void)search_in(o);
    const std::optional<LatencyTable> table = latencies_begun_with(folder.path());
    REQUIRE(table.has_value());
    CHECK(table->json() == o.latencies.json());
    o.fit.resume = true;
    o.latencies = *table;
    CHECK_FALSE(search_in(o).interrupted);
    o.setting_name = [](const std::string& setting) { return "name of " + setting; };
    o.factor = 0.5;
    CHECK(message_of([&] { return search_in(o).steps; }).find("begun with another name of factor;") !=
          std::string::npos);
  }

  TEST_CASE("bad input is refused in a sentence") {
    const TempFolder folder;
    const auto said = [&](const std::function<void(SearchOptions&)>& change) {
      SearchOptions o = options(folder.path());
      change(o);
      return message_of([&] { return search_in(o).steps; });
    };
    CHECK(said([](SearchOptions& o) { o.promise.max_drop = 0; }).starts_with("[compress] a drop of at most 0 points"));
    CHECK(said([](SearchOptions& o) { o.promise.confidence = 100; }).starts_with("[compress] a confidence of 100 %"));
    CHECK(said([](SearchOptions& o) { o.fit.batch = 401; }) ==
          "[compress] a batch of 401 is larger than the 400 training samples (--batch)");
    CHECK(said([](SearchOptions& o) { o.rungs = 0; }) == "[compress] 0 rungs are not from 1 to 99");
    CHECK(said([](SearchOptions& o) { o.factor = 1; }).starts_with("[compress] the factor 1"));
    CHECK(said([](SearchOptions& o) { o.steps = 50; }).starts_with("[compress] a budget of 50 steps is too small"));
    CHECK(said([](SearchOptions& o) { o.run = {}; }) == "[compress] nobody was named who runs programs");
    CHECK(said([](SearchOptions& o) { o.target = Target::kLatency; }).starts_with("[latency] no "));
    CHECK(message_of([] { return target_named("speed"); }) ==
          "[compress] there is no target 'speed'; there are size, latency and both");
    Trained t;
    t.splits.validation = {};
    CHECK(message_of([&] {
            return search(*t.model, t.description, t.splits, options(folder.path())).steps;
          }).find("has no validation samples") != std::string::npos);
  }
}

}  // namespace whittle
