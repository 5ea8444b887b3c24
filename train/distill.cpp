#include "train/distill.h"

#include <cmath>

#include "core/error.h"
#include "core/ops.h"

namespace whittle::inline WHITTLE_PRECISION {

void check_distillation(const Distillation& distillation) {
  if (distillation.teacher == nullptr) {
    return;
  }
  require(distillation.share > 0 && distillation.share <= 1, "distillation", "the teacher's share ", distillation.share,
          " is outside (0, 1]");
  require(std::isfinite(distillation.temperature) && distillation.temperature > 0, "distillation", "the temperature ",
          distillation.temperature, " is not a finite number > 0");
}

Variable distillation_loss(const Variable& student, const Tensor& teacher, double temperature) {
  require(student.shape() == teacher.shape(), "distillation", "the student answers with ", student.shape(),
          ", the teacher with ", teacher.shape());
  const Tensor p = [&] {
    const NoGrad no_grad;
    return softmax(static_cast<real>(1 / temperature) * Variable(teacher)).value();
  }();
  // KL is the cross-entropy less the teacher's own entropy, in which the student has no part.
  double entropy = 0;
  for (const real share : p.values()) {
    entropy -= share > 0 ? static_cast<double>(share) * std::log(static_cast<double>(share)) : 0;
  }
  entropy /= static_cast<double>(teacher.dim(0));
  const Variable cross = cross_entropy(static_cast<real>(1 / temperature) * student, p);
  const double square = temperature * temperature;
  return affine(cross, static_cast<real>(square), static_cast<real>(-square * entropy));
}

Tensor taught(const Distillation& distillation, const Tensor& inputs) {
  const NoGrad no_grad;
  const EvaluationMode evaluation(*distillation.teacher);
  return (*distillation.teacher)(inputs).value();
}

}  // namespace whittle::inline WHITTLE_PRECISION
