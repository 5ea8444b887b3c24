// Distillation: its loss and gradient from the formula, what fit() makes of it, and what it refuses. Compiled for both
// precisions; gradients are checked in double.

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "core/ops.h"
#include "core/real.h"
#include "core/rng.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"
#include "train/distill.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

std::vector<double> soft(const Tensor& logits, int64_t row, double temperature) {
  const int64_t classes = logits.dim(1);
  std::vector<double> p;
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) {
    p.push_back(std::exp(static_cast<double>(logits.data()[row * classes + c]) / temperature));
    sum += p.back();
  }
  for (double& share : p) {
    share /= sum;
  }
  return p;
}

// T^2 KL(p || q), word for word.
double by_formula(const Tensor& student, const Tensor& teacher, double temperature) {
  double sum = 0;
  for (int64_t n = 0; n < student.dim(0); ++n) {
    const std::vector<double> p = soft(teacher, n, temperature);
    const std::vector<double> q = soft(student, n, temperature);
    for (size_t c = 0; c < p.size(); ++c) {
      sum += p[c] * std::log(p[c] / q[c]);
    }
  }
  return temperature * temperature * sum / static_cast<double>(student.dim(0));
}

constexpr bool kDouble = sizeof(real) == sizeof(double);

}  // namespace

TEST_SUITE("distill") {
  TEST_CASE("the loss is the formula, 0 where both agree, and its gradient that of the formula") {
    CAPTURE(test_seed());
    for (uint64_t i = 0; i < 20; ++i) {
      const RngKey key{.seed = test_seed() + i};
      Rng rng(key);
      const Shape shape{1 + static_cast<int64_t>(rng.below(7)), 2 + static_cast<int64_t>(rng.below(9))};
      const double temperature = rng.uniform(0.5, 8);
      const Tensor teacher = Tensor::normal(shape, key.child("teacher"), 0, 3);
      const Tensor start = Tensor::normal(shape, key.child("student"), 0, 3);
      const Variable student = Variable::leaf(start);
      const Variable loss = distillation_loss(student, teacher, temperature);
      CHECK(static_cast<double>(loss.value().item()) ==
            doctest::Approx(by_formula(start, teacher, temperature)).epsilon(kDouble ? 1e-12 : 1e-4));
      CHECK(std::abs(static_cast<double>(distillation_loss(Variable(teacher), teacher, temperature).value().item())) <
            (kDouble ? 1e-12 : 1e-4));
      backward(loss);
      // Central differences of the formula, along one direction.
      const Tensor direction = Tensor::normal(shape, key.child("direction"));
      const double step = 1e-4;
      const auto moved = [&](double by) {
        Tensor x = Tensor::empty(shape);
        for (int64_t k = 0; k < shape.elements(); ++k) {
          x.mutable_data()[k] = start.data()[k] + static_cast<real>(by) * direction.data()[k];
        }
        return by_formula(x, teacher, temperature);
      };
      double analytic = 0;
      double size = 0;
      for (int64_t k = 0; k < shape.elements(); ++k) {
        const double term = static_cast<double>(student.grad().data()[k]) * static_cast<double>(direction.data()[k]);
        analytic += term;
        size += std::abs(term);
      }
      if (kDouble) {
        const double numeric = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step);
        CHECK(std::abs(analytic - numeric) <= 1e-7 * size);
      }
    }
  }

  TEST_CASE("a teacher answers in evaluation, and neither its mode nor its gradients change") {
    Sequential teacher;
    teacher.add<Linear>("fc", {.in = 3, .out = 4, .norm = true});
    initialize(teacher, {.seed = 1});
    const Tensor x = Tensor::normal({5, 3}, {.seed = 2});
    const Tensor mean = teacher.states().front().state->clone();
    const Tensor answer = taught({.teacher = &teacher}, x);
    CHECK(teacher.training());
    const EvaluationMode evaluation(teacher);
    const Tensor again = teacher(x).value();
    for (int64_t i = 0; i < answer.elements(); ++i) {
      CHECK(answer.data()[i] == again.data()[i]);
    }
    for (int64_t i = 0; i < mean.elements(); ++i) {
      CHECK(mean.data()[i] == teacher.states().front().state->data()[i]);
    }
  }

  TEST_CASE("bad input is refused in a sentence") {
    Sequential teacher;
    const auto said = [&](double share, double temperature) {
      return message_of([&] {
        check_distillation({.teacher = &teacher, .share = share, .temperature = temperature});
        return 0;
      });
    };
    CHECK(said(0, 4) == "[distillation] the teacher's share 0 is outside (0, 1]");
    CHECK(said(1.5, 4) == "[distillation] the teacher's share 1.5 is outside (0, 1]");
    CHECK(said(1, 0) == "[distillation] the temperature 0 is not a finite number > 0");
    CHECK(said(1, 4) == "no error");
    const Variable student{Tensor::zeros({2, 3})};
    CHECK(message_of([&] {
            return distillation_loss(student, Tensor::zeros({2, 4}), 1);
          }) == "[distillation] the student answers with [2,3], the teacher with [2,4]");
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION
