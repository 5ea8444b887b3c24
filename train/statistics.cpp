#include "train/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"

namespace whittle::statistics {

namespace {

constexpr double kNormal = 1.959963984540054;  // 97.5 % of a normal distribution lie below it

double share(int64_t part, int64_t n) { return static_cast<double>(part) / static_cast<double>(n); }

// The regularised incomplete beta function I_x(a, b) as the continued fraction DLMF 8.17.22,
// evaluated by Lentz's method. It converges fast for x < (a + 1) / (a + b + 2); beyond,
// I_x(a, b) = 1 - I_{1-x}(b, a).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) {
    return x <= 0 ? 0 : 1;
  }
  if (x > (a + 1) / (a + b + 2)) {
    return 1 - incomplete_beta(b, a, 1 - x);
  }
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double fraction = d;
  for (int m = 1; m <= 10000; ++m) {
    const auto k = static_cast<double>(m);
    for (const double term : {k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k)),
                              -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      fraction *= c * d;
    }
    if (std::abs(c * d - 1) < 1e-15) {
      break;
    }
  }
  const double front = std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  return std::exp(front) * fraction / a;
}

// P(at most k heads) of n throws of a fair coin.
double at_most(int64_t k, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i <= k; ++i) {
    const auto x = static_cast<double>(i);
    const auto m = static_cast<double>(n);
    sum += std::exp(std::lgamma(m + 1) - std::lgamma(x + 1) - std::lgamma(m - x + 1) - m * std::log(2.0));
  }
  return sum;
}

// The x at which an increasing function, false below and true above, changes.
template <class Above>
double where_changes(double low, double high, double within, Above above) {
  while (high - low > within) {
    const double middle = low + (high - low) / 2;
    (above(middle) ? high : low) = middle;
  }
  return high;
}

// The drop of B against A as counts that are not as likely as they should be.
class DropTest {
 public:
  DropTest(const Paired& pair, double error)
      : n_(pair.samples), seen_(order(pair.only_a, pair.only_b) + 1e-9), missed_(error / 50) {
    // Clopper and Pearson's interval for the share that only B gets right.
    const auto y = static_cast<double>(pair.only_b);
    const auto rest = static_cast<double>(n_ - pair.only_b);
    constexpr double kWithin = 1e-9;
    gain_low_ = pair.only_b == 0 ? 0 : where_changes(0, 1, kWithin, [&](double g) {
      return incomplete_beta(y, rest + 1, g) > missed_ / 2;
    });
    gain_high_ = rest == 0 ? 1 : where_changes(0, 1, kWithin, [&](double g) {
      return incomplete_beta(y + 1, rest, g) > 1 - missed_ / 2;
    });
  }

  // How often counts are as good for B as those that were seen, at most, if it has lost so much.
  double probability(double drop) const {
    const double least = std::max(0.0, -drop);
    const double most = (1 - drop) / 2;
    const double low = std::clamp(gain_low_, least, most);
    const double high = std::clamp(gain_high_, least, most);
    constexpr int kPoints = 32;  // the probability is smooth, and the range a few of its deviations
    double largest = 0;
    for (int i = 0; i <= kPoints; ++i) {
      const double gain = low + (high - low) * i / kPoints;
      largest = std::max(largest, probability(gain + drop, gain));
    }
    return std::min(1.0, largest + missed_);
  }

 private:
  static double order(int64_t x, int64_t y) {
    constexpr double kZ = 1.6448536269514722;  // 95 % of a normal distribution lie below it
    return static_cast<double>(x - y) + kZ * std::sqrt(static_cast<double>(x + y + 2));
  }

  double probability(double loss, double gain) const {
    const auto n = static_cast<double>(n_);
    const double reach = 9 * std::sqrt(n * loss * (1 - loss)) + 20;  // beyond, nothing is left of a binomial
    const auto first = static_cast<int64_t>(std::max(0.0, std::floor(n * loss - reach)));
    const auto last = static_cast<int64_t>(std::min(n, std::ceil(n * loss + reach)));
    const double of_rest = loss >= 1 ? 0 : std::min(1.0, gain / (1 - loss));
    double sum = 0;
    int64_t least = 0;  // gains that are as good as those seen: more of them the more losses
    for (int64_t x = first; x <= last; ++x) {
      while (least <= n_ - x && order(x, least) > seen_) {
        ++least;
      }
      if (least > n_ - x) {
        break;
      }
      const double tail =
          least == 0 ? 1
                     : incomplete_beta(static_cast<double>(least), static_cast<double>(n_ - x - least + 1), of_rest);
      sum += binomial(x, loss) * tail;
    }
    return sum;
  }

  double binomial(int64_t k, double p) const {
    if (p <= 0 || p >= 1) {
      return k == (p <= 0 ? 0 : n_) ? 1 : 0;
    }
    const auto n = static_cast<double>(n_);
    const auto x = static_cast<double>(k);
    return std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) + x * std::log(p) +
                    (n - x) * std::log1p(-p));
  }

  int64_t n_;
  double seen_;
  double missed_;  // how often the share that only B gets right lies outside of its interval
  double gain_low_ = 0;
  double gain_high_ = 1;
};

// The share of 1 that may go wrong.
double error_of(double confidence) {
  require(confidence >= 50 && confidence < 100, "statistics", "a confidence of ", confidence,
          " % is not from 50 to below 100");
  return 1 - confidence / 100;
}

}  // namespace

Interval share_interval(int64_t right, int64_t n) {
  require(n >= 1 && right >= 0 && right <= n, "statistics", right, " of ", n, " is no share");
  const auto count = static_cast<double>(n);
  const double p = share(right, n);
  const double z2 = kNormal * kNormal;
  const double centre = (p + z2 / (2 * count)) / (1 + z2 / count);
  const double half = kNormal / (1 + z2 / count) * std::sqrt(p * (1 - p) / count + z2 / (4 * count * count));
  // At the ends the formula gives 0 and 1 but for rounding.
  return {.low = right == 0 ? 0 : centre - half, .high = right == n ? 1 : centre + half};
}

Interval share_difference(int64_t right_a, int64_t n_a, int64_t right_b, int64_t n_b) {
  const Interval a = share_interval(right_a, n_a);
  const Interval b = share_interval(right_b, n_b);
  const double pa = share(right_a, n_a);
  const double pb = share(right_b, n_b);
  return {.low = pa - pb - std::hypot(pa - a.low, b.high - pb), .high = pa - pb + std::hypot(a.high - pa, pb - b.low)};
}

Paired paired(int64_t samples, int64_t only_a, int64_t only_b) {
  require(samples >= 1 && only_a >= 0 && only_b >= 0 && only_a + only_b <= samples, "statistics", only_a, " and ",
          only_b, " are not parts of ", samples, " samples");
  Paired result{.samples = samples, .only_a = only_a, .only_b = only_b};
  result.difference = share(only_b - only_a, samples);
  // One sample more of each kind, and the usual interval: it keeps its promise also for few.
  const double a = share(only_a + 1, samples + 2);
  const double b = share(only_b + 1, samples + 2);
  const double half =
      kNormal * std::sqrt(std::max(0.0, a + b - (b - a) * (b - a)) / (static_cast<double>(samples) + 2));
  result.interval = {.low = std::max(-1.0, b - a - half), .high = std::min(1.0, b - a + half)};
  result.p = std::min(1.0, 2 * at_most(std::min(only_a, only_b), only_a + only_b));
  return result;
}

Paired paired(const std::vector<bool>& a, const std::vector<bool>& b) {
  require(a.size() == b.size(), "statistics", a.size(), " answers and ", b.size(), " are not about the same samples");
  int64_t only_a = 0;
  int64_t only_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    only_a += a[i] && !b[i] ? 1 : 0;
    only_b += b[i] && !a[i] ? 1 : 0;
  }
  return paired(static_cast<int64_t>(a.size()), only_a, only_b);
}

double largest_drop(const Paired& pair, double confidence) {
  const double error = error_of(confidence);
  require(pair.samples >= 1, "statistics", "there are no samples");
  const DropTest test(pair, error);
  return where_changes(-pair.difference, 1, 1e-7, [&](double drop) { return test.probability(drop) <= error; });
}

int64_t samples_for_drop(const Paired& pair, double drop, double confidence) {
  const double z = student_quantile(1 - error_of(confidence), 1e9);
  const auto n = static_cast<double>(pair.samples) + 2;
  const double loss = static_cast<double>(pair.only_a + 1) / n;
  const double gain = static_cast<double>(pair.only_b + 1) / n;
  const double room = drop - (loss - gain);
  return room <= 0 ? 0 : static_cast<int64_t>(std::ceil(z * z * (loss + gain) / (room * room)));
}

Sample sample(std::span<const double> values) {
  require(!values.empty(), "statistics", "there are no values");
  Sample result{.n = static_cast<int64_t>(values.size())};
  const auto n = static_cast<double>(values.size());
  for (const double value : values) {
    result.mean += value / n;
  }
  if (values.size() == 1) {
    result.interval = {.low = -std::numeric_limits<double>::infinity(),
                       .high = std::numeric_limits<double>::infinity()};
    return result;
  }
  double squares = 0;
  for (const double value : values) {
    squares += (value - result.mean) * (value - result.mean);
  }
  result.deviation = std::sqrt(squares / (n - 1));
  const double half = student_quantile(0.975, n - 1) * result.deviation / std::sqrt(n);
  result.interval = {.low = result.mean - half, .high = result.mean + half};
  return result;
}

Welch welch(const Sample& a, const Sample& b) {
  require(a.n >= 2 && b.n >= 2, "statistics", "a deviation takes two values, and there are ", a.n, " and ", b.n);
  const double va = a.deviation * a.deviation / static_cast<double>(a.n);
  const double vb = b.deviation * b.deviation / static_cast<double>(b.n);
  Welch result{.difference = b.mean - a.mean};
  const double error = std::sqrt(va + vb);
  if (error == 0) {  // equal values on both sides
    result.interval = {.low = result.difference, .high = result.difference};
    result.p = result.difference == 0 ? 1 : 0;
    return result;
  }
  const double degrees =
      (va + vb) * (va + vb) / (va * va / static_cast<double>(a.n - 1) + vb * vb / static_cast<double>(b.n - 1));
  const double half = student_quantile(0.975, degrees) * error;
  result.interval = {.low = result.difference - half, .high = result.difference + half};
  result.p = 2 * student(-std::abs(result.difference) / error, degrees);
  return result;
}

double student(double t, double degrees) {
  require(degrees > 0, "statistics", "Student's distribution has ", degrees, " degrees of freedom");
  const double tail = incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2;
  return t > 0 ? 1 - tail : tail;
}

double student_quantile(double p, double degrees) {
  require(p > 0 && p < 1, "statistics", p, " is not between 0 and 1");
  if (p < 0.5) {
    return -student_quantile(1 - p, degrees);
  }
  double low = 0;
  double high = 1;
  while (student(high, degrees) < p && high < 1e12) {
    low = std::exchange(high, 2 * high);
  }
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) {
      break;
    }
    (student(middle, degrees) < p ? low : high) = middle;
  }
  return high;
}

}  // namespace whittle::statistics
