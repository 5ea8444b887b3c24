// The memory planner: where in one arena each tensor lies.
//
// Shapes and the order of ops are fixed, so a tensor is a block with a size and a life, an
// interval of ops; two blocks that live at the same time must not overlap. Blocks are
// placed by decreasing size, each into the smallest gap between its contemporaries that
// holds it (or behind them). That is not always the optimum, which is hard to find; the lower
// bound beside it, the most bytes alive at any one op, tells how far away it can be.
//
// A block may take over the memory of another: an addition that writes over an operand
// nobody needs any more. Then both lie at one offset.
//
// Plain numbers in, plain numbers out: knows nothing of programs or tensors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace whittle::deploy {

struct Block {
  std::string name{};
  int64_t bytes = 0;
  int first = 0, last = 0;  // both ends live: [first, last]
  int replaces = kNothing;  // the block whose memory this one takes over: same size, last == our first

  static constexpr int kNothing = -1;
};

struct MemoryPlan {
  std::vector<int64_t> offsets;  // one per block
  int64_t arena_bytes = 0;
  int64_t lower_bound = 0;  // no plan needs less
};

// Offsets and sizes are rounded up to multiples of `alignment`. Throws std::invalid_argument
// for sizes below 0, lives that end before they begin, and replacements that do not fit.
MemoryPlan plan_memory(std::span<const Block> blocks, int64_t alignment = 16);

// The plan as text: a row per op, memory from left to right in `width` columns, blocks drawn
// with letters (a key stands below).
std::string draw_plan(std::span<const Block> blocks, const MemoryPlan& plan, int width = 64);

}  // namespace whittle::deploy
