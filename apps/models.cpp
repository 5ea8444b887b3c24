#include "apps/models.h"

#include <algorithm>

#include "compress/inq.h"
#include "layers/fold.h"
#include "prune/mask.h"
#include "quant/fake_quant.h"
#include "quant/half.h"
#include "quant/levels.h"

namespace whittle::apps {

namespace {

// "mlp, edge-simple": the models that take this option.
std::string takers(const std::string& option) {
  std::string names;
  for (const zoo::Entry& entry : zoo::list()) {
    if (std::ranges::count(zoo::option_names(entry.defaults), option) > 0) {
      names += (names.empty() ? "" : ", ") + entry.name;
    }
  }
  return names;
}

}  // namespace

zoo::Options ModelArguments::options() const {
  zoo::Options options{.width = width, .dropout = dropout};
  if (!hidden.empty()) {
    options.hidden = hidden;
  }
  return options;
}

CLI::Option* add_list(CLI::App& verb, const std::string& name, std::vector<int64_t>& values, const std::string& help) {
  return verb.add_option(name, values, help)->delimiter(',')->allow_extra_args(false)->type_name("N,N");
}

void add_model_arguments(CLI::App& verb, ModelArguments& arguments) {
  add_list(verb, "--hidden", arguments.hidden, "Widths of the hidden layers, for " + takers("hidden"));
  verb.add_option("--width", arguments.width, "Multiplier of all channels, for " + takers("width"));
  verb.add_option("--dropout", arguments.dropout, "Dropout probability, for " + takers("dropout"));
}

const TransformKinds& known_transforms() {
  static const TransformKinds kinds = [] {
    TransformKinds known;
    prune::add_mask_kind(known);
    add_fold_kind(known);
    quant::add_fake_quant_kind(known);
    quant::add_half_kind(known);
    quant::add_levels_kind(known);
    compress::add_inq_kind(known);
    return known;
  }();
  return kinds;
}

std::string model_name(const Checkpoint& checkpoint) {
  return checkpoint.metadata.contains(zoo::kModelKey) ? zoo::description_of(checkpoint).name : "";
}

std::shared_ptr<Module> load_model(const Checkpoint& checkpoint) { return zoo::load(checkpoint, known_transforms()); }

}  // namespace whittle::apps
