#include "core/rng.h"

#include <cmath>
#include <numbers>

namespace whittle {

namespace {

// SplitMix64's finalizer: every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t high64(uint64_t a, uint64_t b) {
  __extension__ using uint128 = unsigned __int128;
  return static_cast<uint64_t>((static_cast<uint128>(a) * b) >> 64);
}

double to_unit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

std::array<uint64_t, 2> random_128(RngKey key, uint64_t index) {
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };
  const auto r =
      philox4x32({low(index), high(index), low(key.stream), high(key.stream)}, {low(key.seed), high(key.seed)});
  return {(uint64_t{r[1]} << 32) | r[0], (uint64_t{r[3]} << 32) | r[2]};
}

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiply0 = 0xd2511f53;
  constexpr uint64_t kMultiply1 = 0xcd9e8d57;
  constexpr uint32_t kWeyl0 = 0x9e3779b9;  // golden ratio
  constexpr uint32_t kWeyl1 = 0xbb67ae85;  // sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiply0 * counter[0];
    const uint64_t product1 = kMultiply1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RngKey RngKey::child(std::string_view name) const {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return child(hash);
}

RngKey RngKey::child(uint64_t number) const { return {.seed = seed, .stream = mix(stream ^ mix(number))}; }

uint64_t random_bits(RngKey key, uint64_t index) { return random_128(key, index)[0]; }

double uniform(RngKey key, uint64_t index) { return to_unit(random_bits(key, index)); }

double normal(RngKey key, uint64_t index) {
  const auto bits = random_128(key, index);
  const double radius = std::sqrt(-2.0 * std::log1p(-to_unit(bits[0])));  // 1 - u is in (0, 1]
  return radius * std::cos(2.0 * std::numbers::pi * to_unit(bits[1]));
}

uint64_t below(RngKey key, uint64_t index, uint64_t n) { return high64(random_bits(key, index), n); }

}  // namespace whittle
