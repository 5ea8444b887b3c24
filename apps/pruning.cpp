#include "apps/pruning.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>

#include "core/error.h"
#include "core/json.h"
#include "datasets/split.h"
#include "train/evaluate.h"

namespace whittle::apps {

namespace {

const std::vector<std::string> kMethods{"magnitude", "random", "taylor",     "fisher", "movement",
                                        "bn-gamma",  "l1",     "activation", "edge"};

std::string listing(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return text;
}

bool by_gradients(const std::string& method) {
  return method == "taylor" || method == "fisher" || method == "movement";
}

prune::GradientScores::Kind gradient_kind(const std::string& method) {
  using Kind = prune::GradientScores::Kind;
  return method == "taylor" ? Kind::kTaylor : method == "fisher" ? Kind::kFisher : Kind::kMovement;
}

bool is_pattern(const PruneSpec& spec) {
  return prune::Granularity::parse(spec.granularity).kind == prune::Granularity::Kind::kPattern;
}

bool is_share(double x) { return x >= 0 && x < 1; }

}  // namespace

// ---- The words ------------------------------------------------------------------------

void PruneSpec::check(bool while_training) const {
  require(std::ranges::count(kMethods, method) > 0, "prune", "there is no method '", method, "'; there are ",
          listing(kMethods));
  require(scope == "local" || scope == "global", "prune", "there is no scope '", scope,
          "'; there are local and global");
  require(last == "spare" || last == "half" || last == "same", "prune", "the last layer cannot be treated as '", last,
          "'; there are spare, half and same");
  require(power > 0, "prune", "the power ", power, " is not positive");
  require(method != "movement" || power == 1, "prune",
          "the method movement has negative scores, whose sign a power loses; leave the power at 1");
  const bool channels = prune::Granularity::parse(granularity).kind == prune::Granularity::Kind::kChannel;
  require((method != "bn-gamma" && method != "activation") || channels, "prune", "the method ", method,
          " scores whole channels; it needs --granularity channel");
  require(method == "l1" || !lambda.has_value(), "prune", "lambda is for the method l1");
  require(!sigma.has_value() || (method == "magnitude" && granularity == "element" && scope == "local"), "prune",
          "sigma is a threshold for magnitudes of single weights, layer by layer");
  require(!sigma.has_value() || (std::isfinite(*sigma) && *sigma > 0), "prune", "sigma ", sigma.value_or(0),
          " is not a positive number");
  require(!(sigma.has_value() && while_training), "prune", "sigma prunes at once; gradual pruning takes an amount");
  if (method == "l1") {
    require(while_training, "prune",
            "the method l1 prunes while training; use --gradual with --epochs, or train --prune");
    require(lambda.has_value() && std::isfinite(*lambda) && *lambda > 0, "prune",
            "the method l1 needs a positive lambda");
    require(!amount.has_value(), "prune", "with l1 lambda decides how much goes; leave out the amount");
    require(granularity == "element", "prune", "the method l1 prunes single weights");
    require(last != "half", "prune", "the method l1 has no rate of which the last layer could have half");
  } else if (is_pattern(*this)) {
    require(!amount.has_value() && amounts.empty(), "prune", "the pattern ", granularity,
            " says itself how much goes; leave out the amount");
  } else {
    require(amount.has_value() != sigma.has_value(), "prune",
            sigma.has_value() ? "give either an amount or sigma" : "the amount is missing");
    require(!amount.has_value() || is_share(*amount) || (method == "edge" && *amount == 1), "prune", "the amount ",
            amount.value_or(0), " is not in [0, 1)");
  }
  require(method != "movement" || while_training, "prune",
          "the method movement prunes while training; use --gradual with --epochs, or train --prune");
  require(!while_training || (method != "activation" && method != "edge"), "prune", "the method ", method,
          " does not prune while training");
  require(last != "half" || (!while_training && scope == "local" && !sigma.has_value()), "prune",
          "half the rate for the last layer needs local scope and rounds");
  for (const auto& [layer, share] : amounts) {
    require(is_share(share), "prune", "the amount ", share, " of '", layer, "' is not in [0, 1)");
  }
  require(amounts.empty() || (!while_training && scope == "local" && method != "edge" && !sigma.has_value()), "prune",
          "amounts by layer need local scope and are not for gradual pruning, sigma or edge");
  require(begin >= 0 && begin < end && end <= 1, "prune", "gradual pruning from ", begin, " to ", end,
          " of the training is not a part of it");
  require(every >= 1, "prune", "gradual pruning every ", every, " steps is not possible");
}

prune::SelectOptions PruneSpec::selection() const {
  return {.granularity = prune::Granularity::parse(granularity),
          .scope = scope == "global" ? prune::Scope::kGlobal : prune::Scope::kLocal,
          .amount = amount.value_or(0),
          .power = power};
}

prune::TargetOptions PruneSpec::targets() const {
  return {.include = include, .skip = skip, .spare_last = last == "spare"};
}

Json PruneSpec::json() const {
  Json json = {{"method", method}, {"granularity", granularity}, {"scope", scope}, {"power", power}, {"last", last}};
  const auto add = [&json](const char* key, const auto& value) {
    if (value.has_value()) {
      json[key] = *value;
    }
  };
  add("amount", amount);
  add("sigma", sigma);
  add("lambda", lambda);
  if (std::isinf(power)) {
    json["power"] = "inf";
  }
  if (!amounts.empty()) {
    json["amounts"] = amounts;
  }
  if (!include.empty()) {
    json["include"] = include;
  }
  if (!skip.empty()) {
    json["skip"] = skip;
  }
  if (method == "random") {
    json["seed"] = seed;
  }
  return json;
}

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end == std::string::npos ? end : end - begin));
  }
  return parts;
}

template <class T>
T number(const std::string& key, const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(), "prune", "'", text, "' is not a number for ", key);
  return value;
}

}  // namespace

PruneSpec PruneSpec::parse(const std::string& text) {
  PruneSpec spec;
  const std::vector<std::string> parts = split(text, ',');
  spec.method = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    require(equals != std::string::npos, "prune", "'", parts[i], "' in '", text, "' is not KEY=VALUE");
    const std::string key = parts[i].substr(0, equals);
    const std::string value = parts[i].substr(equals + 1);
    if (key == "amount") {
      spec.amount = number<double>(key, value);
    } else if (key == "lambda") {
      spec.lambda = number<double>(key, value);
    } else if (key == "granularity") {
      spec.granularity = value;
    } else if (key == "scope") {
      spec.scope = value;
    } else if (key == "power") {
      spec.power = number<double>(key, value);
    } else if (key == "include") {
      spec.include = split(value, '+');
    } else if (key == "skip") {
      spec.skip = split(value, '+');
    } else if (key == "last") {
      spec.last = value;
    } else if (key == "seed") {
      spec.seed = number<uint64_t>(key, value);
    } else if (key == "begin") {
      spec.begin = number<double>(key, value);
    } else if (key == "end") {
      spec.end = number<double>(key, value);
    } else if (key == "every") {
      spec.every = number<int64_t>(key, value);
    } else {
      fail("prune", "there is no key '", key, "' for --prune; there are amount, lambda, granularity, scope, power, ",
           "include, skip, last, seed, begin, end and every");
    }
  }
  return spec;
}

// ---- Scores ----------------------------------------------------------------------------------

bool data_needed(const PruneSpec& spec) {
  return spec.method == "taylor" || spec.method == "fisher" || spec.method == "activation";
}

namespace {

// Samples spread over the set, in evaluation mode: scoring changes nothing about the model.
template <class Visit>
void for_each_batch(Module& model, const ScoreData& from, Visit visit) {
  require(from.data != nullptr && !from.data->empty(), "prune", "there is no data to score weights on");
  require(from.batch >= 1 && from.samples >= 1, "prune", "scores need at least one sample a batch");
  const EvaluationMode evaluating(model);
  const std::vector<int64_t> all = data::spread_over(*from.data, from.samples);
  const auto batch = static_cast<size_t>(from.batch);
  for (size_t first = 0; first < all.size(); first += batch) {
    visit(from.data->batch(std::span(all).subspan(first, std::min(batch, all.size() - first))));
  }
}

}  // namespace

prune::Scores scores_of(const PruneSpec& spec, Module& model, const std::vector<prune::Target>& targets,
                        const ScoreData& data) {
  if (spec.method == "magnitude") {
    return prune::magnitude(targets);
  }
  if (spec.method == "random") {
    return prune::random(targets, {.seed = spec.seed});
  }
  if (spec.method == "bn-gamma") {
    return prune::norm_scale(targets);
  }
  if (spec.method == "activation") {
    const prune::ActivationEnergy energy(targets);
    const NoGrad no_grad;
    for_each_batch(model, data, [&](const data::Batch& batch) { model(batch.inputs); });
    return energy.scores();
  }
  require(by_gradients(spec.method), "prune", "the method ", spec.method, " has no scores");
  prune::GradientScores scores(targets, gradient_kind(spec.method));
  const auto forget = [&model] {
    for (const NamedParameter& named : model.all_parameters()) {
      named.parameter->raw.zero_grad();
    }
  };
  for_each_batch(model, data, [&](const data::Batch& batch) {
    forget();
    backward(loss_of(model(batch.inputs), batch));
    scores.add();
  });
  forget();
  return scores.scores();
}

// ---- Inside a training -------------------------------------------------------------------------

PruneWhileTraining::PruneWhileTraining(Module& model, const Shape& input, PruneSpec spec)
    : model_(model), input_(input), spec_(std::move(spec)) {
  spec_.check(/*while_training=*/true);
  targets_ = prune::targets(model, input, spec_.targets());
  if (by_gradients(spec_.method)) {
    gradients_.emplace(targets_, gradient_kind(spec_.method));
  }
}

PruneWhileTraining::~PruneWhileTraining() = default;

prune::Gradual PruneWhileTraining::schedule(int64_t steps) const {
  const auto at = [steps](double share) { return std::llround(share * static_cast<double>(steps)); };
  const int64_t end = std::max<int64_t>(at(spec_.end), 2);
  return {.amount = spec_.amount.value_or(0),
          .begin = std::clamp<int64_t>(at(spec_.begin), 1, end - 1),  // the first pruning follows a step
          .end = end,
          .every = spec_.every};
}

FitHooks PruneWhileTraining::hooks() {
  FitHooks hooks{.after_step = [this](const FitHooks::Point& point) { after_step(point); },
                 .may_keep = [this](const FitHooks::Point& point) { return point.step >= schedule(point.steps).end; }};
  if (gradients_.has_value()) {
    hooks.after_backward = [this](const FitHooks::Point& point) {
      if (point.step < schedule(point.steps).end) {
        gradients_->add();
      }
    };
    hooks.store = [this](Checkpoint& checkpoint) { gradients_->store(checkpoint); };
    hooks.restore = [this](const Checkpoint& checkpoint) { gradients_->restore(checkpoint); };
  }
  return hooks;
}

void PruneWhileTraining::after_step(const FitHooks::Point& point) {
  const prune::Gradual when = schedule(point.steps);
  if (spec_.method == "l1") {
    if (point.step <= when.end) {
      prune::soft_threshold(targets_, point.rate * *spec_.lambda);
    }
    if (point.step == when.end) {
      finish_l1();
    }
    return;
  }
  if (!when.due(point.step)) {
    return;
  }
  prune::GradualPruner pruner(model_, input_, targets_, when, spec_.selection(),
                              [this](std::span<const prune::Target> targets) {
                                return gradients_.has_value()       ? gradients_->scores()
                                       : spec_.method == "random"   ? prune::random(targets, {.seed = spec_.seed})
                                       : spec_.method == "bn-gamma" ? prune::norm_scale(targets)
                                                                    : prune::magnitude(targets);
                              });
  pruner(point.step);
  if (gradients_.has_value() &&
      spec_.method != "movement") {  // movement is a sum over the training, the others are of now
    gradients_.emplace(targets_, gradient_kind(spec_.method));
  }
}

void PruneWhileTraining::finish_l1() {
  for (const prune::Target& target : targets_) {
    prune::set_mask(target.weight(), prune::Mask::of_nonzeros(target.weight().value().value()));
  }
}

}  // namespace whittle::apps
