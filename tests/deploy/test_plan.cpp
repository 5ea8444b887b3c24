// The memory planner, by properties and against all orders of placing few blocks.

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "core/rng.h"
#include "deploy/plan.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using deploy::Block;
using deploy::MemoryPlan;

std::vector<Block> draw_blocks(Rng& rng, int64_t count) {
  std::vector<Block> blocks;
  for (int64_t i = 0; i < count; ++i) {
    const int first = static_cast<int>(rng.below(10));
    blocks.push_back({.name = "b" + std::to_string(i),
                      .bytes = rng.below(5) == 0 ? 0 : 1 + rng.below(400),
                      .first = first,
                      .last = first + static_cast<int>(rng.below(5))});
  }
  return blocks;
}

bool in_time(const Block& a, const Block& b) { return a.first <= b.last && b.first <= a.last; }

// No plan is better than the best of: place blocks one by one, each as low as it fits, over
// all orders.
int64_t optimum(const std::vector<Block>& blocks, int64_t alignment) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  int64_t best = INT64_MAX;
  do {
    std::vector<int64_t> offset(blocks.size(), -1);
    int64_t arena = 0;
    for (const size_t i : order) {
      int64_t at = 0;
      for (bool moved = true; moved;) {
        moved = false;
        for (size_t j = 0; j < blocks.size(); ++j) {
          if (offset[j] >= 0 && in_time(blocks[i], blocks[j]) && at < offset[j] + blocks[j].bytes &&
              offset[j] < at + blocks[i].bytes) {
            at = (offset[j] + blocks[j].bytes + alignment - 1) / alignment * alignment;
            moved = true;
          }
        }
      }
      offset[i] = at;
      arena = std::max(arena, (at + blocks[i].bytes + alignment - 1) / alignment * alignment);
    }
    best = std::min(best, arena);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

}  // namespace

TEST_SUITE("plan") {
  TEST_CASE("what lives together does not overlap; the arena holds all and is no less than the bound") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    for (int round = 0; round < 2000; ++round) {
      std::vector<Block> blocks = draw_blocks(rng, 1 + rng.below(15));
      const int64_t alignment = int64_t{1} << rng.below(7);
      for (size_t i = 1; i < blocks.size(); ++i) {  // some take over from others
        const Block& before = blocks[i - 1];
        if (before.first < before.last && rng.below(3) == 0) {
          blocks[i].replaces = static_cast<int>(i - 1);
          blocks[i].bytes = before.bytes;
          blocks[i].last += before.last - blocks[i].first;
          blocks[i].first = before.last;
        }
      }
      const MemoryPlan plan = plan_memory(blocks, alignment);
      int64_t most = 0;
      for (int op = 0; op < 80; ++op) {
        int64_t alive = 0;
        for (size_t i = 0; i < blocks.size(); ++i) {
          const bool replaced_now =
              blocks[i].replaces != Block::kNothing && op == blocks[i].first;  // counted with the one before
          if (blocks[i].first <= op && op <= blocks[i].last && !replaced_now) {
            alive += (blocks[i].bytes + alignment - 1) / alignment * alignment;
          }
        }
        most = std::max(most, alive);
      }
      REQUIRE(plan.lower_bound == most);
      REQUIRE(plan.arena_bytes >= plan.lower_bound);
      for (size_t i = 0; i < blocks.size(); ++i) {
        REQUIRE(plan.offsets[i] >= 0);
        REQUIRE(plan.offsets[i] % alignment == 0);
        REQUIRE(plan.offsets[i] + blocks[i].bytes <= plan.arena_bytes);
        if (blocks[i].replaces != Block::kNothing) {
          REQUIRE(plan.offsets[i] == plan.offsets[static_cast<size_t>(blocks[i].replaces)]);
        }
        for (size_t j = 0; j < i; ++j) {
          const bool takes_over = blocks[i].replaces == static_cast<int>(j);
          const bool apart = plan.offsets[i] + blocks[i].bytes <= plan.offsets[j] ||
                             plan.offsets[j] + blocks[j].bytes <= plan.offsets[i] || blocks[i].bytes == 0 ||
                             blocks[j].bytes == 0;
          REQUIRE((takes_over || apart || !in_time(blocks[i], blocks[j])));
        }
      }
    }
  }

  TEST_CASE("up to six blocks: not below the optimum, and rarely above it") {
    CAPTURE(test_seed());
    Rng rng(test_seed());
    int best = 0;
    double worst = 1;
    constexpr int kRounds = 300;
    for (int round = 0; round < kRounds; ++round) {
      const auto blocks = draw_blocks(rng, 1 + rng.below(6));
      const MemoryPlan plan = plan_memory(blocks, 16);
      const int64_t least = optimum(blocks, 16);
      REQUIRE(plan.arena_bytes >= least);
      REQUIRE(least >= plan.lower_bound);
      best += plan.arena_bytes == least ? 1 : 0;
      worst = std::max(worst, least == 0 ? 1.0 : static_cast<double>(plan.arena_bytes) / static_cast<double>(least));
    }
    MESSAGE(best << " of " << kRounds << " plans are optimal; the worst takes " << worst << " of the optimum");
    CHECK(best > kRounds * 9 / 10);
  }

  TEST_CASE("a residual block: the picture") {
    // x, a = conv(x), b = conv(a), y = a + b written over b.
    const std::vector<Block> blocks{{.name = "x", .bytes = 64, .first = -1, .last = 0},
                                    {.name = "a", .bytes = 128, .first = 0, .last = 2},
                                    {.name = "b", .bytes = 128, .first = 1, .last = 2},
                                    {.name = "y", .bytes = 128, .first = 2, .last = 3, .replaces = 2}};
    const MemoryPlan plan = plan_memory(blocks);
    CHECK(plan.arena_bytes == 256);
    CHECK(plan.lower_bound == 256);
    CHECK(draw_plan(blocks, plan, 16) ==
          "   -1 |........AAAA....|\n"
          "    0 |BBBBBBBBAAAA....|\n"
          "    1 |BBBBBBBBCCCCCCCC|\n"
          "    2 |BBBBBBBBDDDDDDDD|\n"
          "    3 |........DDDDDDDD|\n"
          "A x: 64 bytes at 128, ops -1 to 0\n"
          "B a: 128 bytes at 0, ops 0 to 2\n"
          "C b: 128 bytes at 128, ops 1 to 2\n"
          "D y: 128 bytes at 128, ops 2 to 3\n"
          "arena 256 bytes, no plan needs less than 256\n");
    CHECK(deploy::draw_plan({}, deploy::plan_memory({})).empty());
  }

  TEST_CASE("what makes no sense is refused") {
    const auto reason = [](const std::vector<Block>& blocks, int64_t alignment = 16) -> std::string {
      try {
        static_cast<void>(plan_memory(blocks, alignment));
      } catch (const std::invalid_argument& error) {
        return error.what();
      }
      return "none";
    };
    const Block good{.name = "g", .bytes = 4, .first = 0, .last = 1};
    CHECK(reason({good}) == "none");
    CHECK(reason({good}, 0) == "[plan] an alignment of 0 is not positive");
    CHECK(reason({{.name = "n", .bytes = -1}}) == "[plan] block 'n' has -1 bytes");
    CHECK(reason({{.name = "l", .first = 3, .last = 2}}) == "[plan] block 'l' ends at 2, before it begins at 3");
    CHECK(reason({{.name = "s", .replaces = 0}}) ==
          "[plan] block 's' replaces block 0, which does not stand before it");
    CHECK(reason({{.name = "h", .bytes = 4}, {.name = "o", .bytes = 4, .replaces = 0}}) ==
          "[plan] block 'o' cannot replace 'h', which lives for one op only");
    CHECK(reason({good, {.name = "o", .bytes = 5, .first = 1, .last = 2, .replaces = 0}}) ==
          "[plan] block 'o' cannot replace 'g', which has another size or is needed longer");
    CHECK(reason({good,
                  {.name = "a", .bytes = 4, .first = 1, .last = 2, .replaces = 0},
                  {.name = "b", .bytes = 4, .first = 1, .last = 2, .replaces = 0}}) ==
          "[plan] block 'b' replaces a block that another one has replaced already");
  }
}

}  // namespace whittle
