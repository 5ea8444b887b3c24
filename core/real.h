// The one scalar type of the training stack.
//
// `real` is float. The test build compiles the same sources a second time with
// WHITTLE_DOUBLE, where `real` is double: gradients are checked there against
// central differences, which need the extra digits. Everything that depends on
// `real` lives in `namespace whittle::inline WHITTLE_PRECISION`, so both twins
// link into one program and users still write plain `whittle::`.
//
// This is not a template parameter on purpose: one type keeps every header and
// every error message readable.
#pragma once

#if defined(WHITTLE_DOUBLE)
#define WHITTLE_PRECISION f64
#else
#define WHITTLE_PRECISION f32
#endif

namespace whittle::inline WHITTLE_PRECISION {

#if defined(WHITTLE_DOUBLE)
using real = double;
#else
using real = float;
#endif

}  // namespace whittle::inline WHITTLE_PRECISION
