#include "train/metrics.h"

#include <algorithm>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

int64_t right_answers(const Tensor& logits, std::span<const int32_t> labels, std::vector<bool>* each) {
  require(logits.defined() && logits.rank() == 2 && logits.dim(0) == static_cast<int64_t>(labels.size()), "accuracy",
          "logits have shape ", logits.shape(), ", expected [", labels.size(), ",C]");
  const int64_t classes = logits.dim(1);
  int64_t correct = 0;
  for (int64_t n = 0; n < logits.dim(0); ++n) {
    const real* row = logits.data() + n * classes;
    const bool right = std::max_element(row, row + classes) - row == labels[static_cast<size_t>(n)];
    correct += right ? 1 : 0;
    if (each != nullptr) {
      each->push_back(right);
    }
  }
  return correct;
}

double accuracy(const Tensor& logits, std::span<const int32_t> labels) {
  return static_cast<double>(right_answers(logits, labels)) / static_cast<double>(labels.size());
}

}  // namespace whittle::inline WHITTLE_PRECISION
