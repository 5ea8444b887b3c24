#include "apps/training_options.h"

#include "core/error.h"

namespace whittle::apps {

void add_step_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum) {
  verb.add_option("--batch", fit.batch, "Samples per step")->capture_default_str();
  offer(verb.add_option("--optimizer", fit.optimizer, "sgd, adam or adamw"), {"sgd", "adam", "adamw"})
      ->capture_default_str();
  verb.add_option("--rate", fit.rate, "Learning rate")->capture_default_str();
  verb.add_option("--momentum", momentum, "Momentum of sgd")->default_str(CLI::detail::to_string(fit.momentum));
  verb.add_flag("--nesterov", fit.nesterov, "Nesterov's momentum, for sgd");
  verb.add_option("--weight-decay", fit.weight_decay, "Weight decay of matrices and filters")->capture_default_str();
  verb.add_option("--clip-norm", fit.clip_norm, "Limit of the gradient's norm; 0: none")->capture_default_str();
  verb.add_option("--label-smoothing", fit.label_smoothing, "Share of each label spread over all classes")
      ->capture_default_str();
}

void add_training_arguments(CLI::App& verb, FitOptions& fit, std::optional<double>& momentum) {
  verb.add_option("--epochs", fit.epochs, "Passes over the training data")->capture_default_str();
  add_step_arguments(verb, fit, momentum);
  verb.add_option("--schedule", fit.schedule,
                  "Of the rate: constant, cosine, step:30,60:0.1, onecycle; warmup:5+ in front of any")
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

void add_distillation_arguments(CLI::App& verb, Distillation& distillation) {
  verb.add_option("--distill", distillation.share, "The teacher's share of the loss, in (0, 1]")->capture_default_str();
  verb.add_option("--temperature", distillation.temperature, "At which teacher and student are compared")
      ->capture_default_str();
}

void check_momentum(const char* verb, const FitOptions& fit, const std::optional<double>& momentum) {
  require(!momentum.has_value() || fit.optimizer == "sgd", verb, "--momentum is for sgd, not for ", fit.optimizer);
}

void check_augmentation_for(const data::DataInfo& about, const char* verb, const data::AugmentOptions& augment) {
  require(about.images || augment == data::AugmentOptions{}, verb, "'", about.name,
          "' holds rows of numbers; --crop, --flip, --rotation, --cutout and --mixup are for images");
}

}  // namespace whittle::apps
