#include "compress/latency.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/rng.h"
#include "core/timing.h"
#include "runtime/hosted/names.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

namespace {

using runtime::OpKind;

constexpr int kTogether = 8;  // runs between two looks at the clock, which takes as long as a small op

struct FreeBlock {
  void operator()(uint8_t* block) const { ::operator delete (block, std::align_val_t{64}); }
};
using Block = std::unique_ptr<uint8_t, FreeBlock>;
Block make_block(uint64_t bytes) {
  return Block(static_cast<uint8_t*>(::operator new (static_cast<size_t>(bytes), std::align_val_t{64})));
}

std::string extent(uint32_t h, uint32_t w) { return std::to_string(h) + "x" + std::to_string(w); }

}  // namespace

OpWork work_of(const runtime::Program& program, uint32_t number) {
  const runtime::OpRecord op = program.op(number);
  const runtime::ValueRecord x = program.value(program.operand(op, 0));
  const runtime::ValueRecord y = program.value(op.output);
  OpWork result{.kind = runtime::name_of(op.kind), .work = static_cast<double>(runtime::elements(y))};
  if (op.kind == OpKind::kConv || op.kind == OpKind::kMaxPool || op.kind == OpKind::kAveragePool) {
    result.kind += " " + extent(op.kernel[0], op.kernel[1]) + "/" + std::to_string(op.stride[0]);
    result.kind += y.rank == 4 ? " to " + extent(y.dims[1], y.dims[2]) : "";
  }
  if (op.kind == OpKind::kConv) {
    const bool depthwise = op.groups > 1 && op.groups == x.dims[3];
    result.kind = (depthwise ? "depthwise " : op.groups > 1 ? "grouped " : "") + result.kind;
    result.work *= static_cast<double>(op.kernel[0] * op.kernel[1]) * x.dims[3] / std::max(1u, op.groups);
  }
  if (op.kind == OpKind::kFullyConnected) {
    result.work *= static_cast<double>(runtime::elements(x) / x.dims[0]);
  }
  return result;
}

void LatencyTable::add(const OpWork& op, double microseconds) {
  const auto [at, fresh] = points_[op.kind].emplace(op.work, microseconds);
  at->second = std::min(at->second, microseconds);
}

void LatencyTable::measure(const runtime::Engine& engine, int64_t runs) {
  const runtime::Program& program = engine.program();
  runtime::Kernels kernels = engine.kernels();
  const runtime::PackSize size = runtime::pack_size(program, kernels);
  const Block packed = make_block(size.packed_bytes);
  const Block scratch = make_block(size.scratch_bytes);
  const Block arena = make_block(program.arena_bytes());
  runtime::pack(program, kernels, packed.get());
  kernels.packed = packed.get();
  kernels.scratch = scratch.get();
  kernels.scratch_bytes = size.scratch_bytes;
  kernels.threads = {};
  Rng rng(RngKey{.seed = 1});
  std::generate_n(arena.get(), program.arena_bytes(), [&] { return static_cast<uint8_t>(rng.below(256)); });
  for (uint32_t op = 0; op < program.op_count(); ++op) {
    const auto times = times_of(runs, [&] {
      for (int i = 0; i < kTogether; ++i) {
        const runtime::Status status =
            runtime::run_ops(program, kernels, arena.get(), static_cast<size_t>(program.arena_bytes()), op, op + 1);
        require(status == runtime::Status::kOk, "latency", runtime::status_text(status));
      }
    });
    add(work_of(program, op), microseconds_at(times, 50) / kTogether);
  }
}

double LatencyTable::microseconds(const OpWork& op) const {
  const auto found = points_.find(op.kind);
  require(found != points_.end() && !found->second.empty(), "latency", "no ", op.kind,
          " was measured; the table is of another net");
  // The time so far is that of the largest seen: more work never takes less.
  double work = 0;
  double time = 0;
  for (const auto& [next_work, measured] : found->second) {
    const double next_time = std::max(time, measured);
    if (op.work <= next_work) {
      return time + (next_time - time) * (op.work - work) / (next_work - work);
    }
    work = next_work;
    time = next_time;
  }
  return time * op.work / work;
}

double LatencyTable::microseconds(const runtime::Program& program) const {
  double sum = 0;
  for (uint32_t op = 0; op < program.op_count(); ++op) {
    sum += microseconds(work_of(program, op));
  }
  return sum;
}

Json LatencyTable::json() const {
  Json json = Json::object();
  for (const auto& [kind, points] : points_) {
    for (const auto& [work, microseconds] : points) {
      json[kind].push_back({work, microseconds});
    }
  }
  return json;
}

LatencyTable LatencyTable::from(const Json& json) {
  LatencyTable table;
  require(json.is_object() && !json.empty(), "latency", "this is not a table of latencies");
  for (const auto& [kind, points] : json.items()) {
    require(points.is_array(), "latency", "the points of ", kind, " are not a list");
    for (const Json& point : points) {
      require(point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number(), "latency",
              "a point of ", kind, " is not [work, microseconds]");
      const auto work = point[0].get<double>();
      const auto microseconds = point[1].get<double>();
      require(work > 0 && std::isfinite(work) && microseconds >= 0 && std::isfinite(microseconds), "latency",
              "a point of ", kind, " has ", work, " as work and ", microseconds, " microseconds");
      table.add({.kind = kind, .work = work}, microseconds);
    }
  }
  return table;
}

}  // namespace whittle::inline WHITTLE_PRECISION::compress
