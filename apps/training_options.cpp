#include "apps/training_options.h"

namespace whittle::apps {

void add_training_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum) {
  verb.add_option("--epochs", fit.epochs, "Passes over the training data")->capture_default_str();
  verb.add_option("--batch", fit.batch, "Samples per step")->capture_default_str();
  offer(verb.add_option("--optimizer", fit.optimizer, "sgd, adam or adamw"), {"sgd", "adam", "adamw"})
      ->capture_default_str();
  verb.add_option("--rate", fit.rate, "Learning rate")->capture_default_str();
  verb.add_option("--momentum", momentum, "Momentum of sgd")->default_str(CLI::detail::to_string(fit.momentum));
  verb.add_flag("--nesterov", fit.nesterov, "Nesterov's momentum, for sgd");
  verb.add_option("--weight-decay", fit.weight_decay, "Weight decay of matrices and filters")->capture_default_str();
  verb.add_option("--schedule", fit.schedule,
                  "Of the rate: constant, cosine, step:30,60:0.1, onecycle; warmup:5+ in front of any")
      ->capture_default_str();
  verb.add_option("--clip-norm", fit.clip_norm, "Limit of the gradient's norm; 0: none")->capture_default_str();
  verb.add_option("--label-smoothing", fit.label_smoothing, "Share of each label spread over all classes")
      ->capture_default_str();
  verb.add_option("--ema", fit.ema, "Decay of averaged weights; 0: none")->capture_default_str();
  verb.add_option("--patience", fit.patience, "Stop after so many epochs without a better validation result; 0: never")
      ->capture_default_str();
}

void add_augmentation_arguments(CLI::App& verb, data::AugmentOptions& augment) {
  verb.add_option("--crop", augment.crop, "Shift images by up to so many pixels")->capture_default_str();
  verb.add_flag("--flip", augment.flip, "Mirror half of the images");
  verb.add_option("--rotation", augment.rotation, "Turn images by up to so many degrees")->capture_default_str();
  verb.add_option("--cutout", augment.cutout, "Side of a square in each image that is set to 0")->capture_default_str();
  verb.add_option("--mixup", augment.mixup, "Blend two images, share from Beta(a, a)")->capture_default_str();
}

FitHooks hooks_of(const quant::TrainingPlan& plan, Module& model, const Shape& input) {
  return {.after_step = [&plan, &model, input](
                            const FitHooks::Point& at) { quant::after_step(model, input, plan, at.step, at.steps); },
          .may_keep = [&plan](const FitHooks::Point& at) { return at.step >= plan.freeze_at(at.steps); }};
}

}  // namespace whittle::apps
