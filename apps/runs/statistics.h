// What a difference between two runs is worth: intervals and tests.
//
// Shares (accuracies) are right / n. Every interval holds the true value in 95 of 100
// repetitions. Nothing here knows of runs or files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace whittle::apps {

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

}  // namespace whittle::apps
