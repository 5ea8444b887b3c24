#include "train/distill.h"

#include <cmath>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

void check_distillation(const Distillation& distillation) {
  require(distillation.share > 0 && distillation.share <= 1, "distillation", "the teacher's share ", distillation.share,
          " is outside (0, 1]");
  require(std::isfinite(distillation.temperature) && distillation.temperature > 0, "distillation", "the temperature ",
          distillation.temperature, " is not a finite number > 0");
}

Tensor taught(const Distillation& distillation, const Tensor& inputs) {
  const NoGrad no_grad;
  const EvaluationMode evaluation(*distillation.teacher);
  return (*distillation.teacher)(inputs).value();
}

}  // namespace whittle::inline WHITTLE_PRECISION
