// Counter-based random numbers: a pure function of (seed, stream, index).
//
// There is no hidden state to share between threads and no order to keep:
// element i of a tensor is drawn from index i whichever thread gets there, and
// a checkpoint stores three integers. The generator is Philox4x32-10 (Salmon et
// al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace whittle {

// Names one infinite sequence of random numbers.
struct RngKey {
  uint64_t seed = 0;
  uint64_t stream = 0;

  // An independent sequence derived from this one, by name or by number: a
  // layer's path, an epoch, a step. Derivation does not depend on order.
  RngKey child(std::string_view name) const;
  RngKey child(uint64_t number) const;

  friend bool operator==(const RngKey&, const RngKey&) = default;
};

// The raw generator: 128 random bits for one counter value.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

uint64_t random_bits(RngKey key, uint64_t index);
double uniform(RngKey key, uint64_t index);              // [0, 1), 53 bits
double normal(RngKey key, uint64_t index);               // mean 0, deviation 1 (Box-Muller)
uint64_t below(RngKey key, uint64_t index, uint64_t n);  // [0, n), bias below n / 2^64

// A sequence read one number after another: the key and the next index. Copy it
// to save its place.
class Rng {
 public:
  explicit Rng(RngKey key, uint64_t next = 0) : key_(key), next_(next) {}
  explicit Rng(uint64_t seed) : Rng(RngKey{.seed = seed}) {}

  double uniform() { return whittle::uniform(key_, next_++); }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  double normal() { return whittle::normal(key_, next_++); }
  uint64_t bits() { return random_bits(key_, next_++); }
  int64_t below(int64_t n) { return static_cast<int64_t>(whittle::below(key_, next_++, static_cast<uint64_t>(n))); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }  // both ends included

  RngKey key() const { return key_; }
  uint64_t next() const { return next_; }

 private:
  RngKey key_;
  uint64_t next_ = 0;
};

}  // namespace whittle
