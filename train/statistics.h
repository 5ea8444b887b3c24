// What a difference is worth: intervals, bounds and tests.
//
// Shares (accuracies) are right / n. Every interval holds the true value in 95 of 100
// repetitions. Nothing here knows of models or files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace whittle::statistics {

struct Interval {
  double low = 0;
  double high = 0;
};

// Of one share: Wilson's score interval, which is right for few samples and near 0 and 1.
Interval share_interval(int64_t right, int64_t n);

// Of share A minus share B, on samples that have nothing to do with one another: Newcombe's
// hybrid score interval (1998, method 10).
Interval share_difference(int64_t right_a, int64_t n_a, int64_t right_b, int64_t n_b);

// Two answers to each of the same samples. Only samples on which they differ say which is better.
struct Paired {
  int64_t samples = 0;
  int64_t only_a = 0;     // A is right and B is wrong
  int64_t only_b = 0;     // the other way round
  double difference = 0;  // accuracy of B minus that of A
  Interval interval{};    // of the difference: Bonett and Price (2012)
  double p = 1;           // McNemar's test, exact: how often a fair coin falls as unevenly as only_a : only_b
};
Paired paired(const std::vector<bool>& a, const std::vector<bool>& b);  // of one length, else Error
Paired paired(int64_t samples, int64_t only_a, int64_t only_b);

// What B has lost against A at most: with true shares l of samples that only A gets right and g that only B does, the
// drop l - g is below this bound in `confidence` of 100 repetitions or more, whatever l and g are.
//
// Exact: pairs of counts are ordered by t(x, y) = x - y + z sqrt(x + y + 2), x for only_a and y for only_b, which is
// the upper end of Bonett and Price's interval but for terms that vanish. The bound is the largest drop D for which
//
//   max over g of P(t(X, Y) <= t(only_a, only_b)), X and Y trinomial with shares g + D and g,
//
// exceeds 1 - confidence (Buehler 1957). g is sought where only_b leaves it possible, and what that misses is added to
// the probability (Berger and Boos 1994). The interval itself would not do for a promise: where B never gains and loses
// a few samples, its one-sided end is too low in 10 of 100 cases instead of 5 (tests/train).
double largest_drop(const Paired& pair, double confidence);

// About how many samples it would take to show that the drop is at most `drop`, if shares stay as they were seen.
// 0: no number would do.
int64_t samples_for_drop(const Paired& pair, double drop, double confidence);

// The mean of several runs that differ in their seed, as a sample of all seeds.
struct Sample {
  int64_t n = 0;
  double mean = 0;
  double deviation = 0;  // with n - 1; 0 for a single value
  Interval interval{};   // of the mean, by Student's t; without bounds for a single value
};
Sample sample(std::span<const double> values);  // at least one

// Two such samples, whose deviations may differ: Welch's t.
struct Welch {
  double difference = 0;  // mean of B minus mean of A
  Interval interval{};
  double p = 1;
};
Welch welch(const Sample& a, const Sample& b);  // at least two values each

// Student's distribution: P(T <= t), and the t with P(T <= t) = p, 0 < p < 1.
double student(double t, double degrees);
double student_quantile(double p, double degrees);

}  // namespace whittle::statistics
