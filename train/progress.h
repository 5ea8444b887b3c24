// What a person watches while fit() runs: a bar with the time left on a terminal,
// plain lines in a log.
#pragma once

#include <chrono>
#include <iosfwd>
#include <string>

#include "train/fit.h"

namespace whittle::inline WHITTLE_PRECISION {

struct ProgressOptions {
  bool terminal = false;          // redraw one line; else only whole lines are written
  bool classification = true;     // which metric to show
  double log_every_seconds = 30;  // plain lines within long epochs
};

class Progress : public FitObserver {
 public:
  Progress(std::ostream& out, const ProgressOptions& options) : out_(out), options_(options) {}

  void note(const std::string& sentence) override;
  void step(const StepReport& report) override;
  void epoch(const EpochRecord& record) override;

 private:
  std::ostream& out_;
  ProgressOptions options_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// "1:02:03" or "4:05".
std::string clock_text(double seconds);

}  // namespace whittle::inline WHITTLE_PRECISION
