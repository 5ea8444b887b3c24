// Transforms for tests: stand-ins for what prune/ and quant/ plug into the sockets.
#pragma once

#include <memory>
#include <vector>

#include "core/json.h"
#include "core/ops.h"
#include "core/parameter.h"

namespace whittle {

// x times a trained step; counts the training calls in a state. Needs a spec, a
// state and a parameter to come back from a checkpoint.
class Scaler : public Transform {
 public:
  explicit Scaler(double first_step, Stage stage = Stage::kFakeQuant)
      : step(Tensor::full({1}, static_cast<real>(first_step))), calls(Tensor::zeros({1})), stage_(stage) {}

  std::string_view kind() const override { return "scaler"; }
  Stage stage() const override { return stage_; }
  Variable apply(const Variable& x) override {
    if (training) {
      calls.mutable_data()[0] += 1;
    }
    return mul(x, step.value());
  }
  void train(bool on) override { training = on; }
  Json spec() const override { return {{"stage", static_cast<int>(stage_)}}; }
  void visit_state(const std::function<void(std::string_view, Tensor&)>& visit) override { visit("calls", calls); }
  void visit_parameters(const std::function<void(std::string_view, Parameter&)>& visit) override {
    visit("step", step);
  }

  Parameter step;
  Tensor calls;
  bool training = true;

 private:
  Stage stage_;
};

inline TransformKinds scaler_kinds() {
  TransformKinds kinds;
  kinds.add("scaler", [](const Json& spec, const Shape&) -> std::shared_ptr<Transform> {
    return std::make_shared<Scaler>(0, static_cast<Stage>(spec.at("stage").get<int>()));
  });
  return kinds;
}

inline std::vector<real> numbers(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

}  // namespace whittle
