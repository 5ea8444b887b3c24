// Recycled memory for everything a training step creates: tensor storage,
// graph nodes, backward closures.
//
// Fresh pages are what frameworks lose time on (0.5 ms per MB is a typical
// price for first touch), and a training step asks for the same sizes over and
// over. So blocks are rounded up to a size class, kept in a free list when they
// come back, and handed out again; after a few steps the system is asked for
// nothing. Every block is aligned to 64 bytes.
//
// Thread-safe. One pool serves the process, as malloc does. It is not a
// general allocator: it never splits or merges blocks, and gives memory back
// to the system only in pool_trim(). Under AddressSanitizer free blocks are
// poisoned, so reuse does not hide use-after-free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace whittle {

void* pool_allocate(size_t bytes);                      // throws std::bad_alloc
void pool_release(void* block, size_t bytes) noexcept;  // `bytes` as asked for

struct PoolStats {
  uint64_t system_allocations = 0;  // blocks ever taken from the system
  uint64_t requests = 0;            // blocks ever handed out
  size_t bytes_in_use = 0;          // handed out now, in size classes
  size_t bytes_held = 0;            // taken from the system and not given back
  size_t peak_bytes_in_use = 0;
};
PoolStats pool_stats();

void pool_trim();  // gives all free blocks back to the system

// The pool as a standard allocator, for the containers of graph nodes.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}  // NOLINT: allocators convert by contract
  T* allocate(size_t count) {
    if (count > SIZE_MAX / sizeof(T)) {
      throw std::bad_alloc();
    }
    return static_cast<T*>(pool_allocate(count * sizeof(T)));
  }
  void deallocate(T* block, size_t count) noexcept { pool_release(block, count * sizeof(T)); }
  friend bool operator==(const PoolAllocator&, const PoolAllocator&) { return true; }
};

}  // namespace whittle
