#include "tests/support/news.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<uint64_t> count{0};

}  // namespace

namespace whittle {

uint64_t news() { return count.load(std::memory_order_relaxed); }

}  // namespace whittle

void* operator new(size_t bytes) {
  count.fetch_add(1, std::memory_order_relaxed);
  if (void* block = std::malloc(bytes); block != nullptr) {
    return block;
  }
  throw std::bad_alloc();
}
// What std::stable_sort takes; with the default one, sanitizers would miss its counterpart.
void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  count.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes);
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, size_t /*bytes*/) noexcept { std::free(block); }
