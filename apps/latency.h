// How long one run of a model or a program takes, measured here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "apps/program.h"
#include "core/timing.h"
#include "layers/module.h"

namespace whittle::apps {

// Nanoseconds of a float model's evaluation on one sample, so many times. `input` is the shape of a batch of one.
std::vector<int64_t> times_of(Module& model, const Shape& input, int64_t runs);

// An input that stands for any: floats drawn from a normal distribution, or any codes.
void write_any_input(const runtime::Program& program, std::span<uint8_t> to);

// Of a program. Samples that run at once have an arena and a thread each, and all their times are in the list.
std::vector<int64_t> times_of(const ProgramFile& program, int64_t runs, int at_once = 1);

}  // namespace whittle::apps
