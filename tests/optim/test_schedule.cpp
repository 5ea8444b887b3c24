// Schedules at their corners, against their formulas, and as text.

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "optim/schedule.h"
#include "tests/support/message.h"

namespace whittle {

namespace {

using optim::Schedule;

const optim::ScheduleFrame kFrame{.rate = 0.2, .epochs = 100, .steps_per_epoch = 10};  // 1000 steps

double wave(double from, double to, double x) { return to + (from - to) * (1 + std::cos(std::numbers::pi * x)) / 2; }

std::string message(const std::string& text) {
  return message_of([&] { Schedule::parse(text, kFrame); });
}

}  // namespace

TEST_SUITE("schedule") {
  TEST_CASE("constant") {
    const Schedule schedule(kFrame);
    CHECK(schedule.steps() == 1000);
    for (const int64_t step : {0, 1, 999, 1000, 100000}) {
      CHECK(schedule.rate_at(step) == 0.2);
    }
  }

  TEST_CASE("step: the milestone's own step is the first with the new rate") {
    const Schedule schedule(kFrame, optim::Milestones{.epochs = {30, 60.5, 200}, .gamma = 0.5});
    CHECK(schedule.rate_at(0) == 0.2);
    CHECK(schedule.rate_at(299) == 0.2);
    CHECK(schedule.rate_at(300) == 0.1);
    CHECK(schedule.rate_at(604) == 0.1);
    CHECK(schedule.rate_at(605) == 0.05);
    CHECK(schedule.rate_at(999) == 0.05);
  }

  TEST_CASE("cosine: from the rate to the final fraction of it, and there it stays") {
    const Schedule schedule(kFrame, optim::Cosine{.final_fraction = 0.1});
    CHECK(schedule.rate_at(0) == 0.2);
    CHECK(schedule.rate_at(500) == doctest::Approx(0.2 * 0.55).epsilon(1e-14));
    CHECK(schedule.rate_at(1000) == 0.2 * 0.1);
    CHECK(schedule.rate_at(5000) == 0.2 * 0.1);
    for (int64_t step = 0; step < 1000; ++step) {
      const double expected = 0.2 * wave(1, 0.1, static_cast<double>(step) / 1000);
      CHECK(schedule.rate_at(step) == doctest::Approx(expected).epsilon(1e-13));
      CHECK(schedule.rate_at(step + 1) < schedule.rate_at(step));
    }
    CHECK(Schedule(kFrame, optim::Cosine{}).rate_at(1000) == 0);
  }

  TEST_CASE("one-cycle: up to the peak, then down to almost nothing") {
    const Schedule schedule(kFrame, optim::OneCycle{});
    CHECK(schedule.rate_at(0) == doctest::Approx(0.2 / 25).epsilon(1e-14));
    CHECK(schedule.rate_at(300) == 0.2);
    CHECK(schedule.rate_at(1000) == doctest::Approx(0.2 * 4e-6).epsilon(1e-14));
    CHECK(schedule.rate_at(2000) == schedule.rate_at(1000));
    for (int64_t step = 0; step < 1000; ++step) {
      const double p = static_cast<double>(step) / 1000;
      const double expected = p < 0.3 ? wave(0.04, 1, p / 0.3) : wave(1, 4e-6, (p - 0.3) / 0.7);
      CHECK(schedule.rate_at(step) == doctest::Approx(0.2 * expected).epsilon(1e-9));
      CHECK((schedule.rate_at(step + 1) > schedule.rate_at(step)) == (step < 300));
    }
  }

  TEST_CASE("warm-up: a line up to where the shape begins, which then has the rest of the time") {
    const Schedule cosine(kFrame, optim::Cosine{}, {.epochs = 10, .start_fraction = 0.2});
    CHECK(cosine.rate_at(0) == doctest::Approx(0.04).epsilon(1e-14));
    CHECK(cosine.rate_at(50) == doctest::Approx(0.12).epsilon(1e-14));
    CHECK(cosine.rate_at(100) == 0.2);
    CHECK(cosine.rate_at(550) == doctest::Approx(0.1).epsilon(1e-14));
    CHECK(cosine.rate_at(1000) == 0);

    // Milestones are epochs of the whole training.
    const Schedule step(kFrame, optim::Milestones{.epochs = {30}}, {.epochs = 10});
    CHECK(step.rate_at(99) < 0.2);
    CHECK(step.rate_at(299) == 0.2);
    CHECK(step.rate_at(300) == doctest::Approx(0.02).epsilon(1e-14));

    // No jump where a shape begins low.
    const Schedule cycle(kFrame, optim::OneCycle{.start_fraction = 0.5}, {.epochs = 10, .start_fraction = 0});
    CHECK(cycle.rate_at(0) == 0);
    CHECK(cycle.rate_at(100) == doctest::Approx(0.1).epsilon(1e-14));
    CHECK(cycle.rate_at(99) < cycle.rate_at(100));
    CHECK(cycle.rate_at(100 + 270) == 0.2);

    const Schedule constant(kFrame, optim::Constant{}, {.epochs = 10});
    CHECK(constant.rate_at(0) == doctest::Approx(0.02).epsilon(1e-14));
    CHECK(constant.rate_at(100) == 0.2);
  }

  TEST_CASE("lengths in epochs and in steps are the same thing") {
    const Schedule epochs({.rate = 1, .epochs = 3, .steps_per_epoch = 7}, optim::Cosine{}, {.epochs = 1});
    const Schedule steps({.rate = 1, .epochs = 21}, optim::Cosine{}, {.epochs = 7});
    for (int64_t step = 0; step < 25; ++step) {
      CHECK(epochs.rate_at(step) == steps.rate_at(step));
    }
    CHECK(Schedule({.rate = 1, .epochs = 2.5, .steps_per_epoch = 4}).steps() == 10);
    CHECK(Schedule({.rate = 1, .epochs = 0.01, .steps_per_epoch = 4}).steps() == 1);
  }

  TEST_CASE("text is read, printed and read again") {
    struct Case {
      std::string text;
      std::string printed;  // empty: the same
    };
    for (const Case& one : {Case{"constant", ""},
                            {"step:30,60:0.1", ""},
                            {"step:30", "step:30:0.1"},
                            {"step:30,60,80:0.2", ""},
                            {"step:0.5,1e2:1", "step:0.5,100:1"},
                            {"cosine", ""},
                            {"cosine:0", "cosine"},
                            {"cosine:0.01", ""},
                            {"onecycle", ""},
                            {"onecycle:0.3", "onecycle"},
                            {"onecycle:0.2", "onecycle:0.2:0.04:4e-06"},
                            {"onecycle:0.45:0.1:0", ""},
                            {"warmup:5+cosine", ""},
                            {"warmup:5:0.25+step:30:0.1", ""},
                            {"warmup:5e+0+onecycle", "warmup:5+onecycle"},
                            {"warmup:0+cosine", "cosine"}}) {
      CAPTURE(one.text);
      const Schedule schedule = Schedule::parse(one.text, kFrame);
      const std::string expected = one.printed.empty() ? one.text : one.printed;
      CHECK(schedule.text() == expected);
      const Schedule again = Schedule::parse(schedule.text(), kFrame);
      CHECK(again.text() == expected);
      for (int64_t step = 0; step <= 1000; step += 10) {
        CHECK(again.rate_at(step) == schedule.rate_at(step));
      }
    }
    const Schedule made(kFrame, optim::Cosine{.final_fraction = 0.01}, {.epochs = 5});
    const Schedule read = Schedule::parse("warmup:5+cosine:0.01", kFrame);
    CHECK(made.text() == read.text());
    CHECK(made.rate_at(777) == read.rate_at(777));
    // A huge number is printed with a plus of its own.
    const optim::ScheduleFrame long_frame{.rate = 1, .epochs = 1e15};
    CHECK(Schedule::parse("warmup:1e+14+step:5e+14", long_frame).text() == "warmup:1e+14+step:5e+14:0.1");
  }

  TEST_CASE("text that is not a schedule is refused with what is wrong") {
    const std::string forms =
        "there are constant, step:30,60[:gamma], cosine[:final] and "
        "onecycle[:peak_at[:start[:final]]], and warmup:5[:start]+ may stand in front";
    const std::string list = "' is not a schedule; " + forms;
    for (const std::string text : {"", "linear", "Cosine", " cosine", "cosine ", "cosine,0.1", "+cosine"}) {
      CHECK(message(text) == "[schedule] '" + text + list);
    }
    CHECK(message("warmup:5+") == "[schedule] '" + list);
    CHECK(message("warmup:5+warmup:5+cosine") == "[schedule] 'warmup:5+cosine" + list);
    CHECK(message("warmup:5") == "[schedule] in 'warmup:5' the warm-up is not followed by + and a schedule");
    CHECK(message("warmup+cosine") == "[schedule] 'warmup+cosine" + list);
    CHECK(message("warmup:+cosine") == "[schedule] in 'warmup:' the argument '' is not a number");
    CHECK(message("constant:1") == "[schedule] in 'constant:1' there are too many arguments; " + forms);
    CHECK(message("step") == "[schedule] in 'step' an argument is missing; " + forms);
    CHECK(message("cosine:1:2") == "[schedule] in 'cosine:1:2' there are too many arguments; " + forms);
    CHECK(message("step:30,x") == "[schedule] in 'step:30,x' the argument 'x' is not a number");
    CHECK(message("step:30,:0.1") == "[schedule] in 'step:30,:0.1' the argument '' is not a number");
    CHECK(message("cosine:0.1.2") == "[schedule] in 'cosine:0.1.2' the argument '0.1.2' is not a number");
    CHECK(message("cosine:nan") == "[schedule] in 'cosine:nan' the argument 'nan' is not a number");
    CHECK(message("cosine:1e999") == "[schedule] in 'cosine:1e999' the argument '1e999' is not a number");
    CHECK(message("step:60,30") == "[schedule] milestones must ascend from above 0, got 30 after 60");
    CHECK(message("step:0") == "[schedule] milestones must ascend from above 0, got 0 after 0");
    CHECK(message("step:5:0") == "[schedule] gamma must be above 0 and at most 1, got 0");
    CHECK(message("cosine:2") == "[schedule] the final fraction must be in [0, 1], got 2");
    CHECK(message("onecycle:1") == "[schedule] the peak must be between 0 and 1, got 1");
    CHECK(message("onecycle:0.3:2") == "[schedule] start and final fraction must be in [0, 1], got 2 and 4e-06");
    CHECK(message("warmup:100+cosine") == "[schedule] a warm-up of 100 epochs does not fit into a training of 100");
    CHECK(message("warmup:-1+cosine") == "[schedule] a warm-up of -1 epochs does not fit into a training of 100");
    CHECK(message("warmup:5:2+cosine") == "[schedule] the warm-up must start at a fraction in [0, 1], got 2");
  }

  TEST_CASE("a frame or step out of range is refused") {
    const auto frame = [](double rate, double epochs, int64_t per_epoch) {
      return message_of([&] { Schedule({.rate = rate, .epochs = epochs, .steps_per_epoch = per_epoch}); });
    };
    CHECK(frame(-1, 1, 1) == "[schedule] the rate must be a finite number not below 0, got -1");
    CHECK(frame(NAN, 1, 1) == "[schedule] the rate must be a finite number not below 0, got nan");
    CHECK(frame(1, 0, 1) == "[schedule] a training needs epochs and steps per epoch above 0, got 0 and 1");
    CHECK(frame(1, INFINITY, 1) == "[schedule] a training needs epochs and steps per epoch above 0, got inf and 1");
    CHECK(frame(1, 1, 0) == "[schedule] a training needs epochs and steps per epoch above 0, got 1 and 0");
    CHECK(message_of([] { return Schedule(kFrame).rate_at(-1); }) == "[schedule] there is no step -1");
  }
}

}  // namespace whittle
