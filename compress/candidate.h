// What a search for a smaller net has tried, and which of it is to be kept.
//
// Candidates are tested in the order in which they were made, the rungs behind plain int8 until one fails: those behind
// it are not tested. The chance that any candidate is called supported though it loses more than promised is held at
// a = 1 - confidence (fallback procedure, Wiens and Dmitrienko 2005): plain int8 is tested with a / 5. If that
// succeeds, nothing of a is spent and the rungs are tested with all of it; else with the 4 a / 5 that are left. Among
// the rungs it would take a false success at the first false one. What is kept is the cheapest of those that were
// supported.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/json_fwd.h"
#include "core/real.h"
#include "train/statistics.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

enum class Target : uint8_t { kSize, kLatency, kBoth };
Target target_named(const std::string& name);  // "size", "latency", "both"; throws and names them

struct Promise {
  double max_drop = 0.5;   // of accuracy, in points
  double confidence = 95;  // of 100
};
void check(const Promise& promise);

struct Candidate {
  std::string name{};    // "int8", "rung 1", ...
  std::string method{};  // how it got its integers: "PTQ", "QAT"
  double wanted = 1;     // share of the cost of plain int8 that it was made for
  double cost = 1;       // what came out
  uint64_t bytes = 0;
  int64_t parameters = 0;
  int64_t macs = 0;
  double weight_bits = 8;               // the mean, as they lie in the program
  double latency_us = 0;                // measured
  statistics::Paired validation{};      // A: the float model, B: this program
  double accuracy = 0;                  // on validation data
  double confidence = 95;               // at which it was tested
  double bound = 0;                     // of the drop at that confidence, in points
  std::map<std::string, int> bits{};    // of the weights of layers that do not have 8
  std::vector<double> training_loss{};  // by epoch

  double drop() const { return 0 - 100 * validation.difference; }  // in points; 0 and never -0
  bool supports(const Promise& promise) const { return bound <= promise.max_drop; }
};
Json to_json(const Candidate& candidate);
Candidate candidate_from(const Json& json);  // throws Json::exception if it is not what to_json() wrote

// At which the candidate behind `before` is tested: the first is plain int8.
double confidence_behind(const std::vector<Candidate>& before, const Promise& promise);
// Puts the answers on the same validation samples, and what they are worth, into the candidate.
void judge(Candidate& candidate, const std::vector<bool>& by_float, const std::vector<bool>& by_program,
           double confidence);

// The first candidate is plain int8, and what is left if nothing else will do.
struct Choice {
  size_t chosen = 0;
  bool supported = false;
  std::string why;            // one sentence
  std::vector<size_t> front;  // candidates that no other one beats in accuracy and cost
  struct Verdict {
    std::string word;  // "kept", "supported", "refused", "not better"
    std::string why;   // one sentence
  };
  std::vector<Verdict> verdicts;
};
Choice choose(const std::vector<Candidate>& candidates, const Promise& promise);

}  // namespace whittle::inline WHITTLE_PRECISION::compress
