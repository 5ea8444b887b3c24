// Ctrl-C while something trains: the first one asks it to stop, a second one ends the
// program at once.
#pragma once

#include <atomic>

namespace whittle::apps {

// While one lives, SIGINT and SIGTERM ask.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  static const std::atomic<bool>* asked();
  static int signal();  // which one it was
};

}  // namespace whittle::apps
