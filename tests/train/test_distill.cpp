// Distillation: what a teacher is asked, and what is refused. Its loss is tested with the other ops.

#include <doctest/doctest.h>

#include "layers/linear.h"
#include "layers/sequential.h"
#include "tests/support/message.h"
#include "train/distill.h"

namespace whittle {

TEST_SUITE("distill") {
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
  }
}

}  // namespace whittle
