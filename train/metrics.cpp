#include "train/metrics.h"

#include <algorithm>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

double accuracy(const Tensor& logits, std::span<const int32_t> labels) {
  require(logits.defined() && logits.rank() == 2 && logits.dim(0) == static_cast<int64_t>(labels.size()), "accuracy",
          "logits have shape ", logits.shape(), ", expected [", labels.size(), ",C]");
  const int64_t classes = logits.dim(1);
  int64_t correct = 0;
  for (int64_t n = 0; n < logits.dim(0); ++n) {
    const real* row = logits.data() + n * classes;
    correct += std::max_element(row, row + classes) - row == labels[static_cast<size_t>(n)] ? 1 : 0;
  }
  return static_cast<double>(correct) / static_cast<double>(labels.size());
}

}  // namespace whittle::inline WHITTLE_PRECISION
