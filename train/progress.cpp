#include "train/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ostream>

namespace whittle::inline WHITTLE_PRECISION {

namespace {

template <class... Values>
std::string text(const char* format, Values... values) {
  std::array<char, 256> line{};
  std::snprintf(line.data(), line.size(), format, values...);
  return line.data();
}

std::string metric(const Metrics& m, bool classification) {
  return classification ? text("accuracy %6.2f %%", 100 * m.accuracy) : text("mse %.5g", m.mse);
}

}  // namespace

std::string clock_text(double seconds) {
  const auto total = static_cast<long long>(std::llround(std::clamp(seconds, 0.0, 1e9)));
  return total >= 3600 ? text("%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60)
                       : text("%lld:%02lld", total / 60, total % 60);
}

void Progress::note(const std::string& sentence) { out_ << sentence << '\n' << std::flush; }

void Progress::step(const StepReport& r) {
  const auto now = std::chrono::steady_clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (since < (options_.terminal ? 0.1 : options_.log_every_seconds)) {
    return;
  }
  last_ = now;
  const std::string numbers =
      text("loss %.4f  %.0f samples/s  %s left", r.loss, r.samples_per_second, clock_text(r.seconds_left).c_str());
  if (!options_.terminal) {
    out_ << text("epoch %lld/%lld  step %lld/%lld  ", static_cast<long long>(r.epoch), static_cast<long long>(r.epochs),
                 static_cast<long long>(r.step), static_cast<long long>(r.steps))
         << numbers << '\n'
         << std::flush;
    return;
  }
  constexpr int64_t kWidth = 24;
  const auto filled = static_cast<size_t>(r.step * kWidth / std::max<int64_t>(r.steps, 1));
  out_ << "\r\x1b[K" << text("epoch %lld/%lld ", static_cast<long long>(r.epoch), static_cast<long long>(r.epochs))
       << '[' << std::string(filled, '#') << std::string(static_cast<size_t>(kWidth) - filled, '.') << "] " << numbers
       << std::flush;
}

void Progress::epoch(const EpochRecord& r) {
  if (options_.terminal) {
    out_ << "\r\x1b[K";
  }
  out_ << text("epoch %3lld  loss %.4f  train ", static_cast<long long>(r.epoch), r.train.loss)
       << metric(r.train, options_.classification);
  if (r.validation.samples > 0) {
    out_ << text("  validation loss %.4f ", r.validation.loss) << metric(r.validation, options_.classification);
  }
  out_ << text("  %s", clock_text(r.seconds).c_str()) << (r.best ? "  best" : "") << '\n' << std::flush;
}

}  // namespace whittle::inline WHITTLE_PRECISION
