#include "optim/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::optim {

namespace {

constexpr const char* kOp = "schedule";
constexpr double kMaxSteps = 1e15;  // whole numbers up to here are exact in double

double cosine(double from, double to, double x) {
  return std::lerp(from, to, (1 - std::cos(std::numbers::pi * x)) / 2);  // exact at both ends
}

bool is_fraction(double x) { return x >= 0 && x <= 1; }

// ---- The four shapes: what they accept, and their text ----------------------

void check(const Constant& /*shape*/) {}

void check(const Milestones& shape) {
  require(!shape.epochs.empty(), kOp, "step needs at least one milestone");
  double previous = 0;
  for (const double epoch : shape.epochs) {
    require(epoch > previous && epoch <= kMaxSteps, kOp, "milestones must ascend from above 0, got ", epoch, " after ",
            previous);
    previous = epoch;
  }
  require(shape.gamma > 0 && shape.gamma <= 1, kOp, "gamma must be above 0 and at most 1, got ", shape.gamma);
}

void check(const Cosine& shape) {
  require(is_fraction(shape.final_fraction), kOp, "the final fraction must be in [0, 1], got ", shape.final_fraction);
}

void check(const OneCycle& shape) {
  require(shape.peak_at > 0 && shape.peak_at < 1, kOp, "the peak must be between 0 and 1, got ", shape.peak_at);
  require(is_fraction(shape.start_fraction) && is_fraction(shape.final_fraction), kOp,
          "start and final fraction must be in [0, 1], got ", shape.start_fraction, " and ", shape.final_fraction);
}

// The shortest text that reads back as the same number, in every locale.
std::string number(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

std::string text_of(const Constant& /*shape*/) { return "constant"; }

std::string text_of(const Milestones& shape) {
  std::string text = "step";
  for (size_t i = 0; i < shape.epochs.size(); ++i) {
    text += (i == 0 ? ':' : ',') + number(shape.epochs[i]);
  }
  return text + ":" + number(shape.gamma);
}

std::string text_of(const Cosine& shape) {
  return shape.final_fraction == 0 ? "cosine" : "cosine:" + number(shape.final_fraction);
}

std::string text_of(const OneCycle& shape) {
  const OneCycle usual;
  const bool is_usual = shape.peak_at == usual.peak_at && shape.start_fraction == usual.start_fraction &&
                        shape.final_fraction == usual.final_fraction;
  return is_usual ? "onecycle"
                  : "onecycle:" + number(shape.peak_at) + ":" + number(shape.start_fraction) + ":" +
                        number(shape.final_fraction);
}

// ---- Reading text ---------------------------------------------------------------

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

constexpr const char* kForms =
    "there are constant, step:30,60[:gamma], cosine[:final] and onecycle[:peak_at[:start[:final]]], and "
    "warmup:5[:start]+ may stand in front";

// One "name:argument:argument" of the text.
struct Words {
  std::string_view text;
  std::vector<std::string_view> words = split(text, ':');

  std::string_view name() const { return words.front(); }

  void require_arguments(size_t least, size_t most) const {
    const size_t count = words.size() - 1;
    require(count >= least, kOp, "in '", text, "' an argument is missing; ", kForms);
    require(count <= most, kOp, "in '", text, "' there are too many arguments; ", kForms);
  }

  double read(std::string_view word) const {
    double value = 0;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, value);
    require(error == std::errc() && stop == end && std::isfinite(value), kOp, "in '", text, "' the argument '", word,
            "' is not a number");
    return value;
  }

  double argument(size_t i, double otherwise) const { return i + 1 < words.size() ? read(words[i + 1]) : otherwise; }
};

ScheduleShape parse_shape(const Words& words) {
  if (words.name() == "constant") {
    words.require_arguments(0, 0);
    return Constant{};
  }
  if (words.name() == "step") {
    words.require_arguments(1, 2);
    Milestones shape;
    for (const std::string_view word : split(words.words[1], ',')) {
      shape.epochs.push_back(words.read(word));
    }
    shape.gamma = words.argument(1, shape.gamma);
    return shape;
  }
  if (words.name() == "cosine") {
    words.require_arguments(0, 1);
    return Cosine{.final_fraction = words.argument(0, Cosine{}.final_fraction)};
  }
  if (words.name() == "onecycle") {
    words.require_arguments(0, 3);
    const OneCycle usual;
    return OneCycle{.peak_at = words.argument(0, usual.peak_at),
                    .start_fraction = words.argument(1, usual.start_fraction),
                    .final_fraction = words.argument(2, usual.final_fraction)};
  }
  fail(kOp, "'", words.text, "' is not a schedule; ", kForms);
}

}  // namespace

Schedule::Schedule(const ScheduleFrame& frame, ScheduleShape shape, const WarmUp& warm_up)
    : rate_(frame.rate), shape_(std::move(shape)), warm_up_(warm_up) {
  require(std::isfinite(frame.rate) && frame.rate >= 0, kOp, "the rate must be a finite number not below 0, got ",
          frame.rate);
  const auto per_epoch = static_cast<double>(frame.steps_per_epoch);
  require(frame.steps_per_epoch >= 1 && frame.epochs > 0 && frame.epochs * per_epoch <= kMaxSteps, kOp,
          "a training needs epochs and steps per epoch above 0, got ", frame.epochs, " and ", frame.steps_per_epoch);
  const auto steps_in = [per_epoch](double epochs) {
    return static_cast<int64_t>(std::round(std::min(epochs * per_epoch, kMaxSteps)));
  };
  steps_ = std::max<int64_t>(1, steps_in(frame.epochs));

  require(warm_up.epochs >= 0 && warm_up.epochs < frame.epochs, kOp, "a warm-up of ", warm_up.epochs,
          " epochs does not fit into a training of ", frame.epochs);
  require(is_fraction(warm_up.start_fraction), kOp, "the warm-up must start at a fraction in [0, 1], got ",
          warm_up.start_fraction);
  warm_steps_ = std::min(steps_in(warm_up.epochs), steps_ - 1);

  std::visit([](const auto& any) { check(any); }, shape_);
  if (const auto* milestones = std::get_if<Milestones>(&shape_)) {
    for (const double epoch : milestones->epochs) {
      milestone_steps_.push_back(steps_in(epoch));
    }
  }
}

double Schedule::fraction_at(int64_t step) const {
  const double p = std::min(1.0, static_cast<double>(step - warm_steps_) / static_cast<double>(steps_ - warm_steps_));
  if (const auto* wave = std::get_if<Cosine>(&shape_)) {
    return cosine(1, wave->final_fraction, p);
  }
  if (const auto* cycle = std::get_if<OneCycle>(&shape_)) {
    return p < cycle->peak_at ? cosine(cycle->start_fraction, 1, p / cycle->peak_at)
                              : cosine(1, cycle->final_fraction, (p - cycle->peak_at) / (1 - cycle->peak_at));
  }
  if (const auto* milestones = std::get_if<Milestones>(&shape_)) {
    const auto passed = std::ranges::count_if(milestone_steps_, [step](int64_t at) { return at <= step; });
    return std::pow(milestones->gamma, static_cast<double>(passed));
  }
  return 1;
}

double Schedule::rate_at(int64_t step) const {
  require(step >= 0, kOp, "there is no step ", step);
  if (step < warm_steps_) {
    const double share = static_cast<double>(step) / static_cast<double>(warm_steps_);
    return rate_ * fraction_at(warm_steps_) * std::lerp(warm_up_.start_fraction, 1.0, share);
  }
  return rate_ * fraction_at(step);
}

Schedule Schedule::parse(std::string_view text, const ScheduleFrame& frame) {
  WarmUp warm_up;
  std::string_view shape = text;
  if (text.starts_with("warmup:")) {
    size_t plus = text.find('+');
    while (plus != std::string_view::npos && text[plus - 1] == 'e') {  // that of a number: 1e+3
      plus = text.find('+', plus + 1);
    }
    require(plus != std::string_view::npos, kOp, "in '", text, "' the warm-up is not followed by + and a schedule");
    const Words words{text.substr(0, plus)};
    words.require_arguments(1, 2);
    warm_up.epochs = words.argument(0, 0);
    warm_up.start_fraction = words.argument(1, warm_up.start_fraction);
    shape = text.substr(plus + 1);
  }
  return Schedule(frame, parse_shape(Words{shape}), warm_up);
}

std::string Schedule::text() const {
  std::string text;
  if (warm_up_.epochs > 0) {
    text = "warmup:" + number(warm_up_.epochs);
    text += warm_up_.start_fraction == WarmUp{}.start_fraction ? "" : ":" + number(warm_up_.start_fraction);
    text += '+';
  }
  return text + std::visit([](const auto& shape) { return text_of(shape); }, shape_);
}

}  // namespace whittle::inline WHITTLE_PRECISION::optim
