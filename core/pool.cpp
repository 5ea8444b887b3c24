#include "core/pool.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstdlib>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WHITTLE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WHITTLE_ASAN 1
#endif
#endif
#ifdef WHITTLE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace whittle {

namespace {

constexpr size_t kUnit = 64;  // alignment, and the smallest block
constexpr size_t kClasses = 3 + 4 * 46;

// Size classes in units: 1, 2, 3, then m * 2^e with m in {4, 5, 6, 7}. At most
// a fifth of a large block is wasted, and batches of nearly the same size share
// blocks.
size_t class_of(size_t bytes) {
  const size_t units = std::max<size_t>((bytes + kUnit - 1) / kUnit, 1);
  if (units < 4) {
    return units - 1;
  }
  const auto exponent = static_cast<size_t>(std::bit_width(units)) - 3;  // units >> exponent is in [4, 8)
  size_t mantissa = units >> exponent;
  mantissa += (mantissa << exponent) < units ? 1 : 0;
  return 3 + exponent * 4 + (mantissa - 4);  // mantissa 8 becomes the next exponent's 4
}

size_t bytes_of(size_t size_class) {
  if (size_class < 3) {
    return (size_class + 1) * kUnit;
  }
  return (kUnit * (4 + (size_class - 3) % 4)) << ((size_class - 3) / 4);
}

struct FreeBlock {
  FreeBlock* next;
};

class Pool {
 public:
  void* allocate(size_t bytes) {
    if (bytes > (size_t{1} << 50)) {
      throw std::bad_alloc();
    }
    const size_t size_class = class_of(bytes);
    const std::lock_guard lock(mutex_);
    FreeBlock* block = free_[size_class];
    if (block != nullptr) {
      free_[size_class] = block->next;
    } else {
      block = static_cast<FreeBlock*>(from_system(size_class));
    }
    ++stats_.requests;
    stats_.bytes_in_use += bytes_of(size_class);
    stats_.peak_bytes_in_use = std::max(stats_.peak_bytes_in_use, stats_.bytes_in_use);
    mark(block, bytes_of(size_class), false);
    mark(block, bytes, true);
    return block;
  }

  void release(void* block, size_t bytes) noexcept {
    const size_t size_class = class_of(bytes);
    auto* free_block = static_cast<FreeBlock*>(block);
    const std::lock_guard lock(mutex_);
    mark(block, bytes_of(size_class), false);
    mark(block, sizeof(FreeBlock), true);  // the link stays readable, for us and for LeakSanitizer
    free_block->next = free_[size_class];
    free_[size_class] = free_block;
    stats_.bytes_in_use -= bytes_of(size_class);
  }

  PoolStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void trim() {
    const std::lock_guard lock(mutex_);
    trim_locked();
  }

 private:
  // Large blocks ask for large pages, where the system gives them on demand: an activation of some megabytes is
  // otherwise a thousand entries of the address cache, which in a virtual machine are dear.
  static void* aligned(size_t bytes) {
#if defined(__linux__)
    constexpr size_t kLargePage = size_t{2} << 20;
    if (bytes >= kLargePage) {
      void* block = nullptr;
      if (posix_memalign(&block, kLargePage, bytes) != 0) {
        return nullptr;
      }
      madvise(block, bytes / kLargePage * kLargePage, MADV_HUGEPAGE);  // a wish; no matter if it is refused
      return block;
    }
#endif
    return std::aligned_alloc(kUnit, bytes);
  }

  void* from_system(size_t size_class) {
    void* block = aligned(bytes_of(size_class));
    if (block == nullptr) {  // other size classes may hold what we need
      trim_locked();
      block = aligned(bytes_of(size_class));
      if (block == nullptr) {
        throw std::bad_alloc();
      }
    }
    ++stats_.system_allocations;
    stats_.bytes_held += bytes_of(size_class);
    return block;
  }

  void trim_locked() {
    for (size_t size_class = 0; size_class < free_.size(); ++size_class) {
      while (FreeBlock* head = free_[size_class]) {
        mark(head, bytes_of(size_class), true);
        free_[size_class] = head->next;
        stats_.bytes_held -= bytes_of(size_class);
        std::free(head);
      }
    }
  }

  // Tells AddressSanitizer which bytes may be touched.
  static void mark(void* block, size_t bytes, bool usable) {
#ifdef WHITTLE_ASAN
    if (usable) {
      __asan_unpoison_memory_region(block, bytes);
    } else {
      __asan_poison_memory_region(block, bytes);
    }
#else
    (void)block, (void)bytes, (void)usable;
#endif
  }

  std::mutex mutex_;
  std::array<FreeBlock*, kClasses> free_{};
  PoolStats stats_;
};

// Never destroyed: tensors with static lifetime may be released after main.
Pool& pool() {
  static Pool& instance = *new Pool;
  return instance;
}

}  // namespace

void* pool_allocate(size_t bytes) { return pool().allocate(bytes); }
void pool_release(void* block, size_t bytes) noexcept { pool().release(block, bytes); }
PoolStats pool_stats() { return pool().stats(); }
void pool_trim() { pool().trim(); }

}  // namespace whittle
