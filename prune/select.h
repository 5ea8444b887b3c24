// Selection: from scores to masks.
//
//   const std::vector<Target> layers = targets(model, {1, 32, 32, 3});
//   attach(model, select(layers, magnitude(layers), {.amount = 0.8, .scope = Scope::kGlobal}));
//
// What goes together is a unit: one weight, a block, a channel. Of n units exactly
// round(amount n) are gone afterwards (halves to even), the lowest scores first, the
// first of equal ones first. Units that the model's masks have already pruned count, and
// stay pruned: a selection chooses among survivors only, so masks only shrink. A unit of several weights
// has the power mean of its surviving weights' scores, (mean s^p)^(1/p); p other than 1 wants scores of at least 0.
//
// Patterns lie in OHWI filters [out, kh, kw, in / groups] (a linear weight is [out, 1, 1, in]):
//
//   element       one weight
//   block RxC     R consecutive output channels, one tap, C consecutive input channels;
//                 1x4 is four inputs of one output. At the edges blocks are smaller
//   nm N:M        of each M consecutive inputs of an output and a tap, the N highest
//                 scores stay; with xR, one choice is shared by R consecutive outputs. A rest of t < M inputs
//                 keeps min(N, t). The pattern is the amount
//   channel       an output channel with all that belongs to it: channels.h
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "prune/channels.h"
#include "prune/mask.h"
#include "prune/score.h"
#include "prune/targets.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

struct Granularity {
  enum class Kind : uint8_t { kElement, kBlock, kPattern, kChannel };
  Kind kind = Kind::kElement;
  int64_t rows = 1;     // output channels of a block; output channels that share an N:M choice
  int64_t columns = 1;  // input channels of a block
  int64_t n = 2;        // of N:M
  int64_t m = 4;

  static Granularity element() { return {}; }
  static Granularity block(int64_t rows, int64_t columns);
  static Granularity pattern(int64_t n, int64_t m, int64_t rows = 1);
  static Granularity channel() { return {.kind = Kind::kChannel}; }

  // "element", "block:1x4", "nm:2:4", "nm:2:4x16", "channel"; throws on anything else.
  static Granularity parse(std::string_view text);
  std::string text() const;

  friend bool operator==(const Granularity&, const Granularity&) = default;
};

enum class Scope : uint8_t {
  kLocal,   // the amount of each target
  kGlobal,  // the amount of all targets together, with scores compared across layers
};

struct SelectOptions {
  Granularity granularity{};
  Scope scope = Scope::kLocal;
  double amount = 0.5;                      // share of units that are gone, in [0, 1)
  std::optional<int64_t> count{};           // units that are gone, in place of the amount
  std::map<std::string, double> amounts{};  // by the parameter's name, in place of the amount; local only
  double power = 1;                         // p of the mean over a unit; infinity: the maximum
};

// Masks for the targets that have a score. For every granularity but channels.
MaskSet select(std::span<const Target> targets, const Scores& scores, const SelectOptions& options = {});

// Whole channels. Local amounts are of each group of coupled layers, and an entry of
// `amounts` for any of its layers counts for the group. A group keeps at least one channel. The
// masks cover the weights' rows and the channel's biases and norm parameters, so that its result is 0.
MaskSet select_channels(const ChannelGraph& graph, std::span<const Target> targets, const Scores& scores,
                        const SelectOptions& options = {});

// Either, as the granularity says. `input` is the shape of one sample in a batch.
MaskSet select(Module& model, const Shape& input, std::span<const Target> targets, const Scores& scores,
               const SelectOptions& options = {});

// What has a score of at most its threshold goes: |w| <= s sigma with magnitude() and
// deviations(). Single weights, survivors only.
MaskSet select_below(std::span<const Target> targets, const Scores& scores,
                     const std::map<std::string, double>& thresholds);

}  // namespace whittle::inline WHITTLE_PRECISION::prune
