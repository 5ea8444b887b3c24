#include "apps/stopping.h"

#include <csignal>

namespace whittle::apps {

namespace {

std::atomic<bool> stop_asked{false};
std::atomic<int> stopped_by{0};

extern "C" void on_signal(int number) {
  stopped_by.store(number, std::memory_order_relaxed);
  stop_asked.store(true, std::memory_order_relaxed);
  std::signal(number, SIG_DFL);
}

}  // namespace

StopOnSignal::StopOnSignal() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

StopOnSignal::~StopOnSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

const std::atomic<bool>* StopOnSignal::asked() { return &stop_asked; }
int StopOnSignal::signal() { return stopped_by.load(std::memory_order_relaxed); }

}  // namespace whittle::apps
