// Which tables of kernels the environment asks for: WHITTLE_KERNELS=name (kernels/names.h).
//
// The one place that reads it, for training, for the Engine and for whittle-run. Hosted.
#pragma once

namespace whittle::kernels {

// Null if nothing is asked for.
const char* forced_name();

}  // namespace whittle::kernels
