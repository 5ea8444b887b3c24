#include "compress/candidate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/json.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

template <class... Numbers>
std::string text(const char* format, Numbers... numbers) {
  std::array<char, 400> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, numbers...);
  return buffer.data();
}

std::string what_it_would_take(const Candidate& candidate, const Promise& promise) {
  const int64_t samples =
      statistics::samples_for_drop(candidate.validation, promise.max_drop / 100, candidate.confidence);
  constexpr int64_t kMost = 100'000'000;
  if (samples <= candidate.validation.samples || samples > kMost) {
    return "";
  }
  return text("; about %.0f would do if it goes on like this", std::round(static_cast<double>(samples) / 100) * 100);
}

Choice::Verdict verdict_of(const Candidate& candidate, const Promise& promise) {
  const std::string seen = text("%lld validation samples show a drop of %.2f points and allow %.2f at %g %% confidence",
                                static_cast<long long>(candidate.validation.samples), candidate.drop(), candidate.bound,
                                candidate.confidence);
  if (!candidate.supports(promise)) {
    return {.word = "refused",
            .why = seen + text(", more than %g", promise.max_drop) + what_it_would_take(candidate, promise)};
  }
  return {.word = "supported", .why = seen};
}

}  // namespace

Target target_named(const std::string& name) {
  constexpr std::array kNames{"size", "latency", "both"};
  const auto found = std::ranges::find(kNames, name);
  require(found != kNames.end(), "compress", "there is no target '", name, "'; there are size, latency and both");
  return static_cast<Target>(found - kNames.begin());
}

void check(const Promise& promise) {
  require(promise.max_drop > 0 && promise.max_drop <= 100, "compress", "a drop of at most ", promise.max_drop,
          " points is not above 0 and up to 100");
  require(promise.confidence >= 50 && promise.confidence < 100, "compress", "a confidence of ", promise.confidence,
          " % is not from 50 to below 100");
}

Json to_json(const Candidate& c) {
  return {{"name", c.name},
          {"method", c.method},
          {"wanted", c.wanted},
          {"cost", c.cost},
          {"bytes", c.bytes},
          {"parameters", c.parameters},
          {"macs", c.macs},
          {"weight_bits", c.weight_bits},
          {"latency_us", c.latency_us},
          {"validation", {c.validation.samples, c.validation.only_a, c.validation.only_b}},
          {"accuracy", c.accuracy},
          {"confidence", c.confidence},
          {"bound", c.bound},
          {"bits", c.bits},
          {"training_loss", c.training_loss}};
}

Candidate candidate_from(const Json& j) {
  const auto counts = j.at("validation").get<std::array<int64_t, 3>>();
  return {.name = j.at("name").get<std::string>(),
          .method = j.at("method").get<std::string>(),
          .wanted = j.at("wanted").get<double>(),
          .cost = j.at("cost").get<double>(),
          .bytes = j.at("bytes").get<uint64_t>(),
          .parameters = j.at("parameters").get<int64_t>(),
          .macs = j.at("macs").get<int64_t>(),
          .weight_bits = j.at("weight_bits").get<double>(),
          .latency_us = j.at("latency_us").get<double>(),
          .validation = statistics::paired(counts[0], counts[1], counts[2]),
          .accuracy = j.at("accuracy").get<double>(),
          .confidence = j.at("confidence").get<double>(),
          .bound = j.at("bound").get<double>(),
          .bits = j.at("bits").get<std::map<std::string, int>>(),
          .training_loss = j.at("training_loss").get<std::vector<double>>()};
}

double confidence_behind(const std::vector<Candidate>& before, const Promise& promise) {
  constexpr double kShareOfInt8 = 0.2;  // of the chance to be wrong
  const double chance = 100 - promise.confidence;
  return before.empty()                     ? 100 - chance * kShareOfInt8
         : before.front().supports(promise) ? promise.confidence
                                            : 100 - chance * (1 - kShareOfInt8);
}

void judge(Candidate& candidate, const std::vector<bool>& by_float, const std::vector<bool>& by_program,
           double confidence) {
  candidate.validation = statistics::paired(by_float, by_program);
  candidate.accuracy =
      static_cast<double>(std::ranges::count(by_program, true)) / static_cast<double>(by_program.size());
  candidate.confidence = confidence;
  candidate.bound = 100 * statistics::largest_drop(candidate.validation, confidence);
}

Choice choose(const std::vector<Candidate>& candidates, const Promise& promise) {
  require(!candidates.empty(), "compress", "there are no candidates");
  Choice choice;
  bool tested = true;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    require(tested, "compress", "'", candidate.name, "' stands behind a candidate that failed");
    const bool supported = candidate.supports(promise);
    tested = supported || i == 0;
    choice.verdicts.push_back(verdict_of(candidate, promise));
    const Candidate& best = candidates[choice.chosen];
    if (supported && (candidate.cost < best.cost || !best.supports(promise))) {
      choice.chosen = i;
    }
    const bool beaten = std::ranges::any_of(candidates, [&](const Candidate& other) {
      return other.accuracy >= candidate.accuracy && other.cost <= candidate.cost &&
             (other.accuracy > candidate.accuracy || other.cost < candidate.cost);
    });
    if (!beaten) {
      choice.front.push_back(i);
    }
  }
  const Candidate& kept = candidates[choice.chosen];
  choice.supported = kept.supports(promise);
  for (size_t i = choice.chosen + 1; i < candidates.size(); ++i) {
    if (candidates[i].supports(promise)) {
      choice.verdicts[i] = {.word = "not better",
                            .why = text("it costs %.3f of plain int8, and '%s' costs %.3f", candidates[i].cost,
                                        kept.name.c_str(), kept.cost)};
    }
  }
  choice.verdicts[choice.chosen].word = "kept";
  choice.why =
      choice.supported
          ? kept.name +
                text(
                    ": with %g %% confidence its accuracy on data like the %lld validation samples is at most %.2f "
                    "points below the float model's (seen: %.2f)",
                    promise.confidence, static_cast<long long>(kept.validation.samples), std::max(0.0, kept.bound),
                    kept.drop())
          : text(
                "the promise is not supported: %lld validation samples cannot show that even plain int8 loses at most "
                "%g points (seen: %.2f, possible: %.2f)",
                static_cast<long long>(kept.validation.samples), promise.max_drop, kept.drop(), kept.bound) +
                what_it_would_take(kept, promise);
  return choice;
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
