// How long each kind of op takes on this CPU, and what a program will take by that.
//
//   LatencyTable table;
//   table.measure(engine);                          // every op of a program, alone
//   table.microseconds(other.program());            // a program that nobody has run
//
// Ops are told apart by all that does not change when channels are taken out: kind, kernel, stride and the extent of
// the result ("conv 3x3/1 to 32x32"). Of one kind, time is a function of the work (multiply-accumulates, or elements of
// the result where there are none): straight between measured points, from 0 at no work, and never falling.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/json_fwd.h"
#include "core/real.h"
#include "runtime/hosted/engine.h"

namespace whittle::inline WHITTLE_PRECISION::compress {

struct OpWork {
  std::string kind;  // "conv 3x3/1 to 32x32"
  double work = 0;
};
OpWork work_of(const runtime::Program& program, uint32_t op);

class LatencyTable {
 public:
  // Adds a point for each op of a program of integers: the median of `runs` measurements on one thread.
  void measure(const runtime::Engine& engine, int64_t runs = 200);

  // Throws Error if nothing of the kind was measured.
  double microseconds(const OpWork& op) const;
  double microseconds(const runtime::Program& program) const;

  // {"conv 3x3/1 to 32x32": [[work, microseconds], ...], ...} and back; throws Error on anything else.
  Json json() const;
  static LatencyTable from(const Json& json);

 private:
  void add(const OpWork& op, double microseconds);

  std::map<std::string, std::map<double, double>> points_;  // microseconds by kind and work; the least of each
};

}  // namespace whittle::inline WHITTLE_PRECISION::compress
