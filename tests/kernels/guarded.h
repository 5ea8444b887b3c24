// Memory between pages that nobody may touch: whatever is laid against its end, or its beginning, is followed, or
// preceded, by memory that stops the program at the first access.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

namespace whittle {

class Guarded {
 public:
  explicit Guarded(int64_t most_bytes = int64_t{1} << 22)
      : page_(sysconf(_SC_PAGESIZE)), bytes_((most_bytes + page_ - 1) / page_ * page_) {
    void* const all =
        mmap(nullptr, static_cast<size_t>(bytes_ + 2 * page_), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
      throw std::bad_alloc();
    }
    begin_ = static_cast<uint8_t*>(all) + page_;
    if (mprotect(begin_, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE) != 0) {
      throw std::bad_alloc();
    }
  }
  ~Guarded() { munmap(begin_ - page_, static_cast<size_t>(bytes_ + 2 * page_)); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  enum class At { kBegin, kEnd };

  // Room for so many numbers against one of the two pages.
  template <class T>
  T* place(int64_t count, At at) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if (bytes > bytes_) {
      throw std::bad_alloc();
    }
    return reinterpret_cast<T*>(at == At::kBegin ? begin_ : begin_ + bytes_ - bytes);
  }

 private:
  int64_t page_, bytes_;
  uint8_t* begin_;
};

}  // namespace whittle
