#include "quant/array/multipoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "quant/array/distribution.h"

namespace whittle::inline WHITTLE_PRECISION::quant::array {

namespace {

// A level is scale code + offset as a float, for code in [-half, half].
struct Steps {
  double scale;
  double offset;
  int32_t half;

  int32_t nearest(double x) const {
    // Clamped first, the number is small enough to be rounded by adding 1.5 * 2^52.
    constexpr double kMagic = 6755399441055744.0;
    const double code = std::clamp((x - offset) / scale, static_cast<double>(-half), static_cast<double>(half));
    return static_cast<int32_t>((code + kMagic) - kMagic);
  }
  double level(int32_t code) const { return static_cast<double>(static_cast<float>(scale * code + offset)); }
};

double sum_of_squares(const std::vector<double>& r) {
  double sum = 0;
  for (const double x : r) {
    sum += x * x;
  }
  return sum;
}

struct Candidate {
  double factor = 0;
  double error = std::numeric_limits<double>::infinity();
};

// The error of r ~ a q with the q that is best for a, and the a that is best for this q.
struct Trial {
  double error;
  double next;
};
Trial try_factor(const std::vector<double>& r, const Steps& steps, double a) {
  double error = 0;
  double rq = 0;
  double qq = 0;
  for (const double x : r) {
    const double q = steps.level(steps.nearest(x / a));
    error += (x - a * q) * (x - a * q);
    rq += x * q;
    qq += q * q;
  }
  return {error, qq > 0 ? rq / qq : 0};
}

// Alternates between the best q and the best a while that helps.
Candidate polish(const std::vector<double>& r, const Steps& steps, Candidate best) {
  for (double a = best.factor; a != 0 && std::isfinite(a);) {
    const Trial trial = try_factor(r, steps, a);
    if (!(trial.error < best.error)) {
      break;
    }
    best = {a, trial.error};
    a = trial.next;
  }
  return best;
}

// A falling row of a's, from one at which the largest residual is the outermost level.
Candidate best_of_row(const std::vector<double>& r, const Steps& steps, double largest) {
  constexpr int kTried = 128;
  constexpr double kRatio = 0.97;
  Candidate best;
  double a = 1.5 * largest / (steps.scale * steps.half + std::abs(steps.offset));
  for (int i = 0; i < kTried; ++i, a *= kRatio) {
    const Trial trial = try_factor(r, steps, a);
    if (trial.error < best.error) {
      best = {a, trial.error};
    }
    if (trial.next > 0) {
      const Trial refined = try_factor(r, steps, trial.next);
      if (refined.error < best.error) {
        best = {trial.next, refined.error};
      }
    }
  }
  return best;
}

// As a falls from infinity, r_i / a leaves 0 and crosses one border between two levels after
// the other. Between two such places q is fixed and leaves |r|^2 - <r,q>^2 / |q|^2.
// So all q's that can be best are met on one walk along a.
Candidate best_of_all(const std::vector<double>& r, const Steps& steps) {
  struct Crossing {
    double a;
    double r;
    int32_t lower;  // of the two codes
  };
  std::vector<Crossing> crossings;
  const double start = steps.level(steps.nearest(0));
  double rq = 0;
  double qq = 0;
  for (const double x : r) {
    rq += x * start;
    qq += start * start;
    for (int32_t code = -steps.half; code < steps.half; ++code) {
      const double border = steps.offset + steps.scale * (code + 0.5);
      if (x * border > 0) {
        crossings.push_back({x / border, x, code});
      }
    }
  }
  std::ranges::sort(crossings, [](const Crossing& x, const Crossing& y) { return x.a > y.a; });
  double most = 0;
  double factor = 0;
  for (const Crossing& crossing : crossings) {
    const double lower = steps.level(crossing.lower);
    const double upper = steps.level(crossing.lower + 1);
    const double sign = crossing.r > 0 ? 1 : -1;
    rq += sign * crossing.r * (upper - lower);
    qq += sign * (upper * upper - lower * lower);
    if (rq > 0 && qq > 0 && rq * rq / qq > most) {
      most = rq * rq / qq;
      factor = rq / qq;
    }
  }
  return {factor, factor > 0 ? try_factor(r, steps, factor).error : std::numeric_limits<double>::infinity()};
}

double largest_magnitude(const std::vector<double>& r) {
  double largest = 0;
  for (const double x : r) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

// What is affordable. Tiny arrays get everything; a walk over all borders is cheaper than a
// row of factors where there are few levels.
bool is_tiny(size_t size, int32_t half) { return static_cast<int64_t>(size) * half <= 4096; }
bool can_walk(size_t size, int32_t half) {
  return is_tiny(size, half) || (half <= 15 && static_cast<int64_t>(size) * half <= (int64_t{1} << 20));
}

// `known` is a factor that is not bad, or 0.
double best_factor(const std::vector<double>& r, const Steps& steps, double known) {
  const double largest = largest_magnitude(r);
  if (largest == 0) {
    return 0;
  }
  Candidate found;
  if (known != 0 && !is_tiny(r.size(), steps.half)) {
    found = {known, try_factor(r, steps, known).error};
  } else {
    found = can_walk(r.size(), steps.half) ? best_of_all(r, steps) : best_of_row(r, steps, largest);
  }
  return polish(r, steps, {found.factor, std::nextafter(found.error, std::numeric_limits<double>::infinity())}).factor;
}

// What the array r and `sign` times a term add up to.
std::vector<double> sum_with(const std::vector<double>& r, const Term& term, const Steps& steps, double sign) {
  std::vector<double> sum = r;
  for (size_t i = 0; i < r.size(); ++i) {
    sum[i] += sign * static_cast<double>(term.factor) * steps.level(term.codes[i]);
  }
  return sum;
}

// The nearest levels for a factor, which is a float as it will be stored.
Term term_of(const std::vector<double>& r, const Steps& steps, double factor) {
  Term term{.factor = static_cast<float>(factor), .codes = std::vector<int32_t>(r.size())};
  for (size_t i = 0; term.factor != 0 && i < r.size(); ++i) {
    term.codes[i] = steps.nearest(r[i] / static_cast<double>(term.factor));
  }
  return term;
}

// Fits each term anew to what the others leave, as long as that lowers the residual `r`.
void refit(std::vector<double>& r, std::vector<Term>& terms, const Steps& steps) {
  constexpr int kMostSweeps = 8;
  bool better = terms.size() > 1;
  for (int sweep = 0; sweep < kMostSweeps && better; ++sweep) {
    better = false;
    for (Term& term : terms) {
      const std::vector<double> target = sum_with(r, term, steps, 1);
      Term anew = term_of(target, steps, best_factor(target, steps, static_cast<double>(term.factor)));
      std::vector<double> rest = sum_with(target, anew, steps, -1);
      if (sum_of_squares(rest) < 0.999 * sum_of_squares(r)) {
        r = std::move(rest);
        term = std::move(anew);
        better = true;
      }
    }
  }
}

struct Fit {
  std::vector<Term> terms;
  double error;  // as the options measure it
  bool enough;
};

// Where the search begins. What is best for one term need not be where the best sum of
// several begins: a first term that clips leaves outliers to those after it.
struct Start {
  Steps steps;
  double reach;  // the first term's outermost level as a share of max|w|; 0: whatever is best for one term

  double factor(const std::vector<double>& r) const {
    const double top = steps.scale * steps.half + std::abs(steps.offset);
    return reach == 0 ? best_factor(r, steps, 0) : reach * largest_magnitude(r) / top;
  }
};

Fit fit_group(std::span<const float> values, int64_t group, const Start& start, const MultiPointOptions& options,
              const GroupError& error) {
  const Steps& steps = start.steps;
  Fit fit{};
  std::vector<double> r(values.begin(), values.end());
  std::vector<float> rounded(values.size());
  while (true) {
    Term term = term_of(r, steps, fit.terms.empty() ? start.factor(r) : best_factor(r, steps, 0));
    std::vector<double> rest = sum_with(r, term, steps, -1);
    const bool helps = sum_of_squares(rest) < sum_of_squares(r);
    if (helps) {
      r = std::move(rest);
      fit.terms.push_back(std::move(term));
      refit(r, fit.terms, steps);
    } else if (fit.terms.empty()) {  // an array of zeros keeps one term of zeros
      fit.terms.push_back({0, std::vector<int32_t>(r.size())});
    }
    std::ranges::transform(r, rounded.begin(), [](double x) { return static_cast<float>(x); });
    fit.error = error(group, rounded);
    fit.enough = options.error_limit && fit.error <= *options.error_limit;
    if (!helps || fit.enough || static_cast<int>(fit.terms.size()) == options.terms) {
      return fit;
    }
  }
}

// Fewer terms if they are enough, else less error.
bool is_better(const Fit& fit, const Fit& than) {
  if (fit.enough != than.enough) {
    return fit.enough;
  }
  return fit.enough && fit.terms.size() != than.terms.size() ? fit.terms.size() < than.terms.size()
                                                             : fit.error < than.error;
}

// The paper's levels with several K, or levels at integers.
std::vector<Steps> choices_of_steps(std::span<const float> values, int32_t half, bool centred) {
  if (!centred) {
    return {{1, 0, half}};
  }
  const auto centre = static_cast<double>(static_cast<float>(mean(values)));
  double most = 0;
  for (const float x : values) {
    most = std::max(most, std::abs(static_cast<double>(x)));
  }
  // Levels that floats can tell apart, also of a group that is nearly constant.
  const double least = std::max(1e-6 * std::abs(centre), static_cast<double>(std::numeric_limits<float>::min()));
  std::vector<Steps> choices;
  for (int tenths = 10; tenths >= 3; --tenths) {
    const double scale = std::max(tenths / 10.0 * most / half, least);
    choices.push_back({static_cast<double>(static_cast<float>(scale)), centre, half});
  }
  return choices;
}

std::vector<Start> starts_of(std::span<const float> values, int32_t half, const MultiPointOptions& options) {
  std::vector<Start> starts;
  for (const Steps& steps : choices_of_steps(values, half, options.centred)) {
    starts.push_back({steps, 0});
    if (options.terms > 1) {
      const int stride = is_tiny(values.size(), half) && !options.centred ? 5 : 20;
      for (int percent = 100; percent >= 40; percent -= stride) {
        starts.push_back({steps, percent / 100.0});
      }
    }
  }
  return starts;
}

}  // namespace

Quantized multipoint(std::span<const float> values, const MultiPointOptions& options) {
  const int64_t size = check_array("multipoint", values, options.groups);
  check_bits("multipoint", options.bits, 2);
  require(options.terms >= 1, "multipoint", "there must be at least one term, got ", options.terms);
  require(!options.error_limit || *options.error_limit >= 0, "multipoint", "the error's limit must not be negative");
  require(options.error_limit || !options.error, "multipoint", "an error without a limit has no effect");

  double power = 0;
  for (const float x : values) {
    power += static_cast<double>(x) * static_cast<double>(x);
  }
  power /= static_cast<double>(values.size());
  const GroupError relative = [power](int64_t, std::span<const float> residual) {
    double sum = 0;
    for (const float x : residual) {
      sum += static_cast<double>(x) * static_cast<double>(x);
    }
    return power > 0 ? sum / static_cast<double>(residual.size()) / power : 0;
  };
  const GroupError& error = options.error ? options.error : relative;

  const int32_t half = (int32_t{1} << (options.bits - 1)) - 1;
  std::vector<Group> groups(static_cast<size_t>(options.groups),
                            {Codebook::affine({.scale = 1, .zero_point = 0, .qmin = -half, .qmax = half}), {}});
  parallel_for(options.groups, [&](int64_t g) {
    const auto own = values.subspan(static_cast<size_t>(g * size), static_cast<size_t>(size));
    Group& group = groups[static_cast<size_t>(g)];
    const std::vector<Start> starts = starts_of(own, half, options);
    Fit best{};
    const Steps* steps = nullptr;
    for (const Start& start : starts) {
      Fit fit = fit_group(own, g, start, options, error);
      if (steps == nullptr || is_better(fit, best)) {
        best = std::move(fit);
        steps = &start.steps;
      }
    }
    if (options.centred) {
      std::vector<float> levels;
      for (int32_t code = -half; code <= half; ++code) {
        levels.push_back(static_cast<float>(steps->level(code)));
      }
      group.codebook = Codebook::of(std::move(levels));
      for (Term& term : best.terms) {
        for (int32_t& code : term.codes) {
          code += half;
        }
      }
    }
    group.terms = std::move(best.terms);
  });

  Quantized result{.bits = options.bits, .groups = std::move(groups)};
  for (const Group& group : result.groups) {
    const auto terms = static_cast<int64_t>(group.terms.size());
    result.stored.codes += terms * size * options.bits;
    result.stored.scales += terms * 32 + (options.centred ? 64 : 0);
    if (options.error_limit) {  // a decoder has to know how many there are
      result.stored.codebooks += std::bit_width(static_cast<uint64_t>(options.terms - 1));
    }
  }
  return result;
}

}  // namespace whittle::inline WHITTLE_PRECISION::quant::array
