#include "prune/targets.h"

#include <algorithm>
#include <set>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION::prune {

namespace {

// "layer1" fits "layer1" and "layer1.0.conv1", and not "layer10".
bool fits(const std::string& name, const std::string& path) {
  return path == name || path.starts_with(name + ".") || path + ".weight" == name;
}

bool any_fits(const std::vector<std::string>& names, const std::string& path) {
  return std::ranges::any_of(names, [&path](const std::string& name) { return fits(name, path); });
}

void check_names(const std::vector<std::string>& names, const std::vector<Target>& all) {
  for (const std::string& name : names) {
    if (std::ranges::none_of(all, [&name](const Target& target) { return fits(name, target.path); })) {
      std::string known;
      for (const Target& target : all) {
        known += (known.empty() ? "" : ", ") + target.path;
      }
      fail("prune", "there is no convolution or linear layer '", name, "'; there are ", known);
    }
  }
}

}  // namespace

std::vector<std::string> last_layers(const Trace& trace) {
  std::vector<std::string> last;
  std::vector<int> open{trace.output};
  std::set<int> seen;
  while (!open.empty()) {
    const int value = open.back();
    open.pop_back();
    const int producer = trace.values[static_cast<size_t>(value)].producer;
    if (producer == TracedValue::kInput || !seen.insert(value).second) {
      continue;
    }
    const TracedCall& call = trace.calls[static_cast<size_t>(producer)];
    if (dynamic_cast<const WeightedLayer*>(call.module) != nullptr) {
      last.push_back(call.path);
    } else {
      open.insert(open.end(), call.inputs.begin(), call.inputs.end());
    }
  }
  std::ranges::sort(last);
  last.erase(std::unique(last.begin(), last.end()), last.end());
  return last;
}

std::vector<Target> targets(const Trace& trace, const TargetOptions& options) {
  std::vector<Target> all;
  std::set<const Module*> seen;
  for (const TracedCall& call : trace.calls) {
    auto* const layer = dynamic_cast<WeightedLayer*>(call.module);
    if (layer != nullptr && seen.insert(layer).second) {
      all.push_back({.name = join_path(call.path, "weight"), .path = call.path, .layer = layer});
    }
  }
  require(!all.empty(), "prune", "the model has no convolution or linear layer");
  check_names(options.include, all);
  check_names(options.skip, all);
  const std::vector<std::string> last = options.spare_last ? last_layers(trace) : std::vector<std::string>();
  std::erase_if(all, [&](const Target& target) {
    const bool wanted =
        options.include.empty() ? std::ranges::count(last, target.path) == 0 : any_fits(options.include, target.path);
    return !wanted || any_fits(options.skip, target.path);
  });
  require(!all.empty(), "prune", "no layer is left to prune: the last one is spared",
          options.skip.empty() ? "" : " and the others are skipped");
  return all;
}

std::vector<Target> targets(Module& model, const Shape& input, const TargetOptions& options) {
  return targets(trace(model, input), options);
}

}  // namespace whittle::inline WHITTLE_PRECISION::prune
