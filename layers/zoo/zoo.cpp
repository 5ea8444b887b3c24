#include "layers/zoo/zoo.h"

#include <algorithm>
#include <stdexcept>

#include "core/error.h"
#include "core/json.h"
#include "layers/model_checkpoint.h"
#include "layers/weighted.h"
#include "layers/zoo/families.h"

namespace whittle::inline WHITTLE_PRECISION::zoo {

namespace {

// Every option with its name, for whoever must treat all of them alike.
template <class Visit, class... AnyOptions>
void for_each_option(Visit visit, AnyOptions&... o) {
  visit("classes", o.classes...);
  visit("input", o.input...);
  visit("hidden", o.hidden...);
  visit("width", o.width...);
  visit("dropout", o.dropout...);
  visit("norm", o.norm...);
  visit("norm_bias", o.norm_bias...);
}

std::string listing(const Options& options) {
  std::string text;
  for (const std::string& name : option_names(options)) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

void check_values(const Entry& e, const Options& o) {
  // Far beyond use, and small enough that a hostile description cannot ask for the whole memory at once.
  constexpr int64_t kLargest = 1 << 16;
  constexpr int64_t kLargestSample = 1 << 22;
  const auto is_width = [](int64_t n) { return n >= 1 && n <= kLargest; };
  require(is_width(*o.classes), "zoo", "classes ", *o.classes, " of '", e.name, "' is not between 1 and ", kLargest);
  require(o.input->elements() <= kLargestSample, "zoo", "input ", *o.input, " of '", e.name, "' has more than ",
          kLargestSample, " elements");
  require(o.input->rank() >= 1, "zoo", "input [] of '", e.name, "' is not the shape of a sample");
  require(o.hidden.has_value() || o.input->rank() == 3, "zoo", "input ", *o.input, " of '", e.name,
          "' is not an image {height, width, channels}");
  require(!o.hidden || std::ranges::all_of(*o.hidden, is_width), "zoo", "a hidden width of '", e.name,
          "' is not between 1 and ", kLargest);
  require(!o.width || (*o.width > 0 && *o.width <= 16), "zoo", "width ", o.width.value_or(0), " of '", e.name,
          "' is not above 0 and at most 16");
  require(!o.dropout || (*o.dropout >= 0 && *o.dropout < 1), "zoo", "dropout ", o.dropout.value_or(0), " of '", e.name,
          "' is outside [0, 1)");
}

}  // namespace

std::vector<std::string> option_names(const Options& options) {
  std::vector<std::string> names;
  for_each_option(
      [&names](const char* name, const auto& option) {
        if (option.has_value()) {
          names.emplace_back(name);
        }
      },
      options);
  return names;
}

Description describe(std::string_view name, const Options& options) {
  const Entry& e = entry(name);
  Description description{.name = e.name, .options = e.defaults};
  for_each_option(
      [&e](const char* option_name, const auto& wanted, auto& complete) {
        if (wanted.has_value()) {
          require(complete.has_value(), "zoo", "'", e.name, "' takes no ", option_name, "; it takes ",
                  listing(e.defaults));
          complete = wanted;
        }
      },
      options, description.options);
  check_values(e, description.options);
  return description;
}

namespace {

// Layers only ever lose channels.
void apply_widths(Module& model, const std::map<std::string, LayerWidths>& widths) {
  size_t found = 0;
  for (const auto& [path, module] : model.modules()) {
    const auto wanted = widths.find(path);
    if (wanted == widths.end()) {
      continue;
    }
    ++found;
    const LayerWidths as_built = module->widths();
    const auto [in, out] = wanted->second;
    require(in >= 1 && out >= 1 && in <= as_built.in && out <= as_built.out, "zoo", "the layer '", path,
            "' cannot have ", in, " inputs and ", out, " outputs: it is built with ", as_built.in, " and ",
            as_built.out);
    module->resize(wanted->second);
  }
  for (const auto& [path, wanted] : widths) {
    const auto modules = model.modules();
    require(found == widths.size() || std::ranges::find(modules, path, &NamedModule::name) != modules.end(), "zoo",
            "the description has widths for a layer '", path, "', which the model has not");
  }
}

}  // namespace

Model build(const Description& description) {
  // 8 GB of float32, fifteen times VGG-16. Every option of a model may be harmless and their product not.
  WeightLimit limit(int64_t{1} << 31, "which is the most the zoo builds");
  const NoInitialValues zeros;
  const Description complete = describe(description.name, description.options);
  Model model = entry(complete.name).build(complete.options);
  apply_widths(*model, description.widths);
  return model;
}

Model make(const Description& description) {
  Model model = build(description);
  initialize(*model, {.seed = 0});
  return model;
}

Model make(std::string_view name, const Options& options) { return make(describe(name, options)); }

std::shared_ptr<Sequential> begin() {
  auto net = std::make_shared<Sequential>();
  net->add<Input>("input");
  return net;
}

Size2 halved(std::string_view model, const Shape& input, int times) {
  const Size2 left{input[0] >> times, input[1] >> times};
  require(left.h >= 1 && left.w >= 1, "zoo", "'", model, "' needs images of at least ", 1 << times, "x", 1 << times,
          ", the input is ", input);
  return left;
}

// ---- Text -------------------------------------------------------------------------

namespace {

Json to_json(const Shape& shape) { return std::vector<int64_t>(shape.dims().begin(), shape.dims().end()); }
template <class T>
Json to_json(const T& value) {
  return value;
}

void read(const Json& json, bool& value) { value = json.get<bool>(); }
void read(const Json& json, double& value) { value = json.get<double>(); }
void read(const Json& json, int64_t& value) {
  if (!json.is_number_integer()) {  // the library would cut 10.5 to 10
    throw std::invalid_argument(json.dump() + " is not an integer");
  }
  value = json.get<int64_t>();
}
void read(const Json& json, std::vector<int64_t>& values) {
  if (!json.is_array() || json.size() > 64) {
    throw std::invalid_argument("it is not a list of at most 64 integers");
  }
  for (const Json& element : json) {
    read(element, values.emplace_back());
  }
}
void read(const Json& json, Shape& shape) {
  std::vector<int64_t> dims;
  read(json, dims);
  shape = Shape(dims);
}

std::map<std::string, LayerWidths> widths_from(const Json& json) {
  require(json.is_object(), "zoo", "the widths of a model's description are not a JSON object");
  std::map<std::string, LayerWidths> widths;
  for (const auto& [path, pair] : json.items()) {
    require(pair.is_array() && pair.size() == 2 && pair[0].is_number_integer() && pair[1].is_number_integer(), "zoo",
            "the widths of '", path, "' are not two integers");
    widths.emplace(path, LayerWidths{pair[0].get<int64_t>(), pair[1].get<int64_t>()});
  }
  return widths;
}

}  // namespace

std::string to_text(const Description& description) {
  Json options = Json::object();
  for_each_option(
      [&options](const char* name, const auto& option) {
        if (option.has_value()) {
          options[name] = to_json(*option);
        }
      },
      description.options);
  Json json = {{"name", description.name}, {"options", std::move(options)}};
  for (const auto& [path, widths] : description.widths) {
    json["widths"][path] = {widths.in, widths.out};
  }
  return json.dump();
}

Description from_text(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  require(json.is_object() && json.contains("name") && json["name"].is_string(), "zoo",
          "the description of a model is not a JSON object with a name");
  const Json given = json.value("options", Json::object());
  require(given.is_object(), "zoo", "the options of a model's description are not a JSON object");
  Options options;
  size_t known = 0;
  std::string names;
  for_each_option(
      [&](const char* name, auto& option) {
        names += (names.empty() ? "" : ", ") + std::string(name);
        if (given.contains(name)) {
          ++known;
          try {
            read(given[name], option.emplace());
          } catch (const std::exception& error) {
            fail("zoo", "the option ", name, " of a model's description cannot be read: ", error.what());
          }
        }
      },
      options);
  require(known == given.size(), "zoo", "a model's description has an option that is none of ", names, ": ",
          given.dump());
  Description description = describe(json["name"].get<std::string>(), options);
  description.widths = widths_from(json.value("widths", Json::object()));
  return description;
}

// ---- Checkpoints --------------------------------------------------------------------

void store(Checkpoint& checkpoint, const Description& description, Module& model) {
  checkpoint.metadata[kModelKey] = to_text(description);
  store_model(checkpoint, model);
}

Description description_of(const Checkpoint& checkpoint) {
  const auto text = checkpoint.metadata.find(kModelKey);
  require(text != checkpoint.metadata.end(), "zoo", "the checkpoint does not say which model it holds (metadata '",
          kModelKey, "')");
  return from_text(text->second);
}

Model load(const Checkpoint& checkpoint, const TransformKinds& kinds) {
  int64_t stored = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    stored += tensor.shape.elements();
  }
  const Description description = description_of(checkpoint);
  // A model that has lost channels is built whole and then cut: 1 GB of float32, twice VGG-16, is what a small file
  // may ask for.
  constexpr int64_t kMostBeforePruning = int64_t{1} << 28;
  WeightLimit limit(description.widths.empty() ? stored : std::max(stored, kMostBeforePruning),
                    description.widths.empty() ? "which is all the numbers that its checkpoint holds"
                                               : "which is the most that a pruned model may have had");
  Model model = build(description);
  restore_model(checkpoint, *model, kinds);
  return model;
}

}  // namespace whittle::inline WHITTLE_PRECISION::zoo
