#include "deploy/plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace whittle::deploy {

namespace {

// Blocks that share one place, as one.
struct Place {
  int64_t bytes;
  int first, last;
  int64_t offset = -1;

  bool meets(const Place& other) const { return first <= other.last && other.first <= last; }
};

[[noreturn]] void refuse(const Block& block, const std::string& reason) {
  throw std::invalid_argument("[plan] block '" + block.name + "' " + reason);
}

void check(std::span<const Block> blocks, size_t i) {
  const Block& block = blocks[i];
  if (block.bytes < 0) {
    refuse(block, "has " + std::to_string(block.bytes) + " bytes");
  }
  if (block.last < block.first) {
    refuse(block, "ends at " + std::to_string(block.last) + ", before it begins at " + std::to_string(block.first));
  }
  if (block.replaces != Block::kNothing) {
    if (block.replaces < 0 || static_cast<size_t>(block.replaces) >= i) {
      refuse(block, "replaces block " + std::to_string(block.replaces) + ", which does not stand before it");
    }
    const Block& before = blocks[static_cast<size_t>(block.replaces)];
    if (before.bytes != block.bytes || before.last != block.first) {
      refuse(block, "cannot replace '" + before.name + "', which has another size or is needed longer");
    }
    if (before.first == before.last) {
      refuse(block, "cannot replace '" + before.name + "', which lives for one op only");
    }
  }
}

// The smallest gap between placed contemporaries that holds `place`, else the end of the last.
int64_t best_offset(const Place& place, const std::vector<Place>& placed) {
  std::vector<const Place*> neighbours;
  for (const Place& other : placed) {
    if (other.meets(place) && other.bytes > 0) {
      neighbours.push_back(&other);
    }
  }
  std::ranges::sort(neighbours, {}, &Place::offset);
  int64_t end = 0;  // of everything so far
  int64_t best = -1;
  int64_t best_gap = std::numeric_limits<int64_t>::max();
  for (const Place* neighbour : neighbours) {
    const int64_t gap = neighbour->offset - end;
    if (gap >= place.bytes && gap < best_gap) {
      best = end;
      best_gap = gap;
    }
    end = std::max(end, neighbour->offset + neighbour->bytes);
  }
  return best >= 0 ? best : end;
}

// The most bytes alive at once.
int64_t most_alive(const std::vector<Place>& places) {
  int64_t most = 0;
  for (const Place& at : places) {  // the sum only rises where something begins
    int64_t alive = 0;
    for (const Place& place : places) {
      alive += place.first <= at.first && at.first <= place.last ? place.bytes : 0;
    }
    most = std::max(most, alive);
  }
  return most;
}

char letter(size_t i) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  return kLetters[i % kLetters.size()];
}

}  // namespace

MemoryPlan plan_memory(std::span<const Block> blocks, int64_t alignment) {
  if (alignment < 1) {
    throw std::invalid_argument("[plan] an alignment of " + std::to_string(alignment) + " is not positive");
  }
  std::vector<Place> places;
  std::vector<size_t> place_of(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    check(blocks, i);
    if (blocks[i].replaces != Block::kNothing) {
      place_of[i] = place_of[static_cast<size_t>(blocks[i].replaces)];
      Place& shared = places[place_of[i]];
      if (shared.last != blocks[i].first) {
        refuse(blocks[i], "replaces a block that another one has replaced already");
      }
      shared.last = blocks[i].last;
    } else {
      place_of[i] = places.size();
      places.push_back({.bytes = (blocks[i].bytes + alignment - 1) / alignment * alignment,
                        .first = blocks[i].first,
                        .last = blocks[i].last});
    }
  }

  std::vector<size_t> order(places.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return places[a].bytes > places[b].bytes; });
  std::vector<Place> placed;
  MemoryPlan plan;
  for (const size_t i : order) {
    places[i].offset = best_offset(places[i], placed);
    placed.push_back(places[i]);
    plan.arena_bytes = std::max(plan.arena_bytes, places[i].offset + places[i].bytes);
  }
  plan.lower_bound = most_alive(places);
  for (const size_t place : place_of) {
    plan.offsets.push_back(places[place].offset);
  }
  return plan;
}

std::string draw_plan(std::span<const Block> blocks, const MemoryPlan& plan, int width) {
  std::string text;
  if (blocks.empty() || plan.arena_bytes == 0 || width < 1) {
    return text;
  }
  int begin = blocks[0].first, end = blocks[0].last;
  for (const Block& block : blocks) {
    begin = std::min(begin, block.first);
    end = std::max(end, block.last);
  }
  const auto column = [&](int64_t byte) {
    return static_cast<size_t>(static_cast<double>(byte) / static_cast<double>(plan.arena_bytes) * width);
  };
  for (int op = begin; op <= end; ++op) {
    std::string row(static_cast<size_t>(width), '.');
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i].first <= op && op <= blocks[i].last && blocks[i].bytes > 0) {
        const size_t from = std::min(column(plan.offsets[i]), row.size() - 1);
        const size_t to = std::clamp(column(plan.offsets[i] + blocks[i].bytes), from + 1, row.size());
        std::fill(row.begin() + static_cast<std::ptrdiff_t>(from), row.begin() + static_cast<std::ptrdiff_t>(to),
                  letter(i));
      }
    }
    std::string label = std::to_string(op);
    label.insert(0, label.size() < 5 ? 5 - label.size() : 0, ' ');
    text += label + " |" + row + "|\n";
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    text += std::string(1, letter(i)) + " " + blocks[i].name + ": " + std::to_string(blocks[i].bytes) + " bytes at " +
            std::to_string(plan.offsets[i]) + ", ops " + std::to_string(blocks[i].first) + " to " +
            std::to_string(blocks[i].last) + "\n";
  }
  text += "arena " + std::to_string(plan.arena_bytes) + " bytes, no plan needs less than " +
          std::to_string(plan.lower_bound) + "\n";
  return text;
}

}  // namespace whittle::deploy
