#include "apps/data_options.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "apps/models.h"
#include "core/error.h"
#include "core/json.h"
#include "datasets/split.h"

namespace whittle::apps {

namespace {

constexpr double kDefaultShare = -1;  // in text: the data set's own
constexpr const char* kDefaultProtocol = "own";

// Whether everything that is said is what it was.
bool agrees(const OwnArguments& said, const OwnArguments& was) {
  const auto same = [](const auto& a, const auto& b) { return a == std::remove_cvref_t<decltype(a)>() || a == b; };
  return same(said.target, was.target) && same(said.drop, was.drop) && same(said.task, was.task) &&
         same(said.size, was.size) && same(said.grey, was.grey);
}

}  // namespace

data::LoadOptions DataArguments::load_options() const {
  const std::string split_by = protocol.value_or(kDefaultProtocol);
  require(split_by == "own" || split_by == "edge", "data", "there is no protocol '", split_by,
          "'; there are own and edge");
  require(own.task.empty() || own.task == "classes" || own.task == "number", "data", "there is no task '", own.task,
          "'; there are classes and number");
  require(std::ranges::count(data_names(), name) == 0 || own == OwnArguments{}, "data", name,
          ": --target, --drop, --task, --image-size and --grey are for files of your own");
  return {.data_dir = dir,
          .seed = seed.value_or(0),
          .protocol = split_by == "edge" ? data::Protocol::kEdge : data::Protocol::kOwn,
          .validation = validation,
          .standardize_target = standardize_target,
          .first_training = first.value_or(0),
          .own = {.target = own.target,
                  .drop = own.drop,
                  .classify = own.task.empty() ? std::nullopt : std::optional(own.task == "classes"),
                  .channels = own.grey ? 1 : 3,
                  .size = own.size,
                  .network = {}},
          .whole = whole};
}

std::string DataArguments::text() const {
  Json json = {{"name", name},
               {"protocol", protocol.value_or(kDefaultProtocol)},
               {"seed", seed.value_or(0)},
               {"validation", validation.value_or(kDefaultShare)},
               {"first", first.value_or(0)}};
  if (standardize_target) {  // else absent, as in checkpoints from before there was a choice
    json["standardize_target"] = true;
  }
  if (kept != 0) {
    json["kept"] = kept;
  }
  if (data::is_own(name)) {
    json["own"] = {
        {"target", own.target}, {"drop", own.drop}, {"task", own.task}, {"size", own.size}, {"grey", own.grey}};
    json["sum"] = sum;
  }
  return json.dump();
}

DataArguments DataArguments::from_text(const std::string& text) {
  try {
    const Json j = Json::parse(text);
    const auto share = j.at("validation").get<double>();
    DataArguments arguments{.name = j.at("name").get<std::string>(),
                            .dir = {},
                            .protocol = j.at("protocol").get<std::string>(),
                            .seed = j.at("seed").get<uint64_t>(),
                            .validation = share < 0 ? std::nullopt : std::optional(share),
                            .first = j.at("first").get<int64_t>(),
                            .kept = j.value("kept", int64_t{0}),
                            .standardize_target = j.value("standardize_target", false)};
    if (const auto own = j.find("own"); own != j.end()) {
      arguments.own = {.target = own->at("target").get<std::string>(),
                       .drop = own->at("drop").get<std::vector<std::string>>(),
                       .task = own->at("task").get<std::string>(),
                       .size = own->at("size").get<std::vector<int64_t>>(),
                       .grey = own->at("grey").get<bool>()};
      if (!data::is_own(arguments.name)) {
        arguments.name = "./" + arguments.name;  // a folder that is elsewhere now, and has no dot in its name
      }
      arguments.sum = j.value("sum", "");  // empty in checkpoints from before there was one
    }
    return arguments;
  } catch (const Json::exception& error) {
    fail("data", "the checkpoint's description of its data is damaged: ", error.what());
  }
}

std::vector<std::string> data_names() {
  std::vector<std::string> names;
  for (const data::DataInfo& info : data::list()) {
    names.push_back(info.name);
  }
  return names;
}

void add_data_arguments(CLI::App& verb, DataArguments& arguments) {
  offer(verb.add_option("--data", arguments.name,
                        "Data set (`whittle data list` names them), or a CSV file or folder of pictures of your own"),
        data_names());
  verb.add_option("--data-dir", arguments.dir, "Folder of the data files (default: $WHITTLE_DATA)");
  offer(verb.add_option("--protocol", arguments.protocol, "How data is split and scaled: own or edge"), {"own", "edge"})
      ->default_str(kDefaultProtocol);
  verb.add_option("--data-seed", arguments.seed, "Seed of random splits and generated data")->default_str("0");
  verb.add_option("--validation", arguments.validation, "Share of the data held back for validation");
  verb.add_option("--first", arguments.first, "Keep only N training samples (docs/data.md says which)");
}

namespace {

const std::string& metadata(const char* verb, const Checkpoint& checkpoint, const std::string& file, const char* key) {
  const auto found = checkpoint.metadata.find(key);
  require(found != checkpoint.metadata.end(), verb, file, " does not say what data it was trained on");
  return found->second;
}

}  // namespace

DataArguments data_arguments_of(const char* verb, const std::string& file, const Checkpoint& checkpoint,
                                const DataArguments& given) {
  if (!given.name.empty() && !data::is_own(given.name)) {
    return given;
  }
  const auto found = checkpoint.metadata.find(kDataKey);
  if (!given.name.empty() && found == checkpoint.metadata.end()) {
    return given;
  }
  DataArguments arguments = DataArguments::from_text(metadata(verb, checkpoint, file, kDataKey));
  const bool other_kind = !given.name.empty() && !data::is_own(arguments.name);
  require(other_kind || agrees(given.own, arguments.own), verb, file, " says how ", arguments.name,
          " is read; leave out --target, --drop, --task, --image-size and --grey");
  if (given.name.empty()) {
    const auto as_it_was = [&](const char* option, const auto& said, const auto& was) {
      require(!said.has_value() || said == was, verb, option, " would cut the data of ", file,
              " anew and mix what it was trained on with what was held back; leave it out, or name the data set with "
              "--data");
    };
    as_it_was("--protocol", given.protocol, arguments.protocol);
    as_it_was("--data-seed", given.seed, arguments.seed);
    as_it_was("--validation", given.validation, arguments.validation);
    require(!given.standardize_target || arguments.standardize_target, verb, file,
            " was trained on the target as it stands; leave out --standardize-target");
    arguments.kept = given.first.value_or(arguments.kept);
    arguments.dir = given.dir;
    arguments.whole = given.whole;
    return arguments;
  }
  // Another file of one's own is read as that of the training was.
  DataArguments other = given;
  if (data::is_own(arguments.name)) {
    other.own = arguments.own;
  }
  return other;
}

data::Preprocessing preprocessing_of(const char* verb, const std::string& file, const Checkpoint& checkpoint) {
  return data::preprocessing_from_json(metadata(verb, checkpoint, file, kPreprocessingKey));
}

SavedData data_of(const char* verb, const std::string& file, const Checkpoint& checkpoint, const DataArguments& given) {
  return data_by(verb, file, checkpoint, data_arguments_of(verb, file, checkpoint, given));
}

namespace {

// What is there now; empty for a data set with a name.
std::string sum_of(const DataArguments& arguments) {
  return data::is_own(arguments.name) ? data::fingerprint(data::own_path(arguments.name, arguments.dir)) : "";
}

}  // namespace

SavedData new_data(const DataArguments& given) {
  const data::DataInfo about = given.info();
  const bool edge = given.load_options().protocol == data::Protocol::kEdge;
  const bool fixed = about.fixed_validation || (edge && !about.images);
  require(!given.validation.has_value() || !fixed, "data", given.name,
          ": its validation part is not for choice here; leave out --validation");
  SavedData made{.arguments = given, .splits = data::load(given.name, given.load_options())};
  made.arguments.sum = sum_of(given);
  return made;
}

SavedData data_by(const char* verb, const std::string& file, const Checkpoint& checkpoint,
                  const DataArguments& arguments) {
  require(arguments.kept >= 0, verb, "--first ", arguments.kept, " is no number of samples");
  SavedData saved{.arguments = arguments, .splits = {}};
  const data::Preprocessing scaling = preprocessing_of(verb, file, checkpoint);
  data::LoadOptions loading = saved.arguments.load_options();
  loading.own.network = scaling;
  saved.splits = data::load(arguments.name, loading);
  saved.arguments.sum = sum_of(arguments);
  require(arguments.sum.empty() || arguments.whole || arguments.sum == saved.arguments.sum, verb, arguments.name,
          " has changed since ", file,
          " was trained on it: what it learned from may be among what is held back now; restore it, or say --data ",
          arguments.name, " to go on all the same");
  if (arguments.kept > 0) {
    saved.splits.train = saved.splits.train.subset(data::spread_over(saved.splits.train, arguments.kept));
  }
  for (data::Dataset* part : {&saved.splits.train, &saved.splits.validation, &saved.splits.test}) {
    if (!part->empty()) {
      *part = part->with(scaling);
    }
  }
  return saved;
}

const data::Dataset& split_named(const char* verb, const SavedData& saved, const std::string& name) {
  require(name == "test" || name == "validation" || name == "train" || saved.arguments.whole, verb,
          "there is no split '", name, "'; there are train, validation and test, and for eval all");
  const data::Dataset& chosen = name == "test" || saved.arguments.whole ? saved.splits.test
                                : name == "validation"                  ? saved.splits.validation
                                                                        : saved.splits.train;
  require(!chosen.empty(), verb, "the data set '", saved.arguments.name, "' has no ", name, " samples");
  return chosen;
}

void add_preparation_arguments(CLI::App& verb, DataArguments& arguments) {
  verb.add_flag("--standardize-target", arguments.standardize_target,
                "Regression: train on (target - mean) / deviation; mse is reported in the original unit all the same");
}

void add_own_arguments(CLI::App& verb, DataArguments& arguments) {
  verb.add_option("--target", arguments.own.target, "Your own table: the column to predict");
  verb.add_option("--drop", arguments.own.drop, "Your own table: columns that are no inputs")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME,NAME");
  offer(verb.add_option("--task", arguments.own.task,
                        "Your own table: classes or number (default: what the target looks like)"),
        {"classes", "number"});
  add_list(verb, "--image-size", arguments.own.size, "Your own pictures: height and width they are resized to");
  verb.add_flag("--grey", arguments.own.grey, "Your own pictures: one channel in place of three");
}

Shape one_sample(const Shape& sample) {
  std::vector<int64_t> batch{1};
  batch.insert(batch.end(), sample.dims().begin(), sample.dims().end());
  return Shape(batch);
}

}  // namespace whittle::apps
