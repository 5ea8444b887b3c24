#include "datasets/registry.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <numeric>

#include "core/error.h"
#include "datasets/cifar.h"
#include "datasets/generators.h"
#include "datasets/glyphs.h"
#include "datasets/idx.h"
#include "datasets/picture.h"
#include "datasets/sha256.h"
#include "datasets/source.h"
#include "datasets/split.h"
#include "datasets/tabular.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace fs = std::filesystem;

namespace {

// ---- Finding files -------------------------------------------------------------------------

class Finder {
 public:
  Finder(std::string name, fs::path folder) : name_(std::move(name)), folder_(std::move(folder)) {}

  // The first of the candidates that exists; nothing if none does, and all are noted.
  std::optional<fs::path> find(const std::vector<std::string>& candidates) {
    for (const std::string& candidate : candidates) {
      fs::path path = folder_ / candidate;
      std::error_code error;
      if (fs::exists(path, error)) {
        return path;
      }
      looked_ += (looked_.empty() ? "" : ", ") + candidate;
    }
    return std::nullopt;
  }

  fs::path need(const std::vector<std::string>& candidates) {
    looked_.clear();
    std::optional<fs::path> path = find(candidates);
    if (!path.has_value()) {
      not_found();
    }
    return *path;
  }

  [[noreturn]] void not_found() const {
    fail("data", name_, ": in ", folder_.string(), " there is none of ", looked_, " (see `whittle data info ", name_,
         "`)");
  }

 private:
  std::string name_;
  fs::path folder_;
  std::string looked_;
};

Finder finder(const std::string& name, const LoadOptions& options) {
  fs::path folder = options.data_dir;
  if (folder.empty()) {
    const char* from_environment = std::getenv("WHITTLE_DATA");
    require(from_environment != nullptr && *from_environment != '\0', "data", name,
            ": is read from files; give their folder with --data-dir or in $WHITTLE_DATA");
    folder = from_environment;
  }
  std::error_code error;
  require(fs::is_directory(folder, error), "data", name, ": ", folder.string(), " is not a folder");
  return {name, folder};
}

std::vector<std::string> read_names(const fs::path& path) {
  FileReader file(path, "names");
  std::vector<uint8_t> text(65536);
  text.resize(file.read(text));
  file.expect_end("lists of names are short");
  std::vector<std::string> names;
  std::string name;
  for (const uint8_t byte : text) {
    if (byte == '\n') {
      names.push_back(std::move(name));
      name.clear();
    } else if (byte != '\r') {
      name += static_cast<char>(byte);
    }
  }
  if (!name.empty()) {
    names.push_back(std::move(name));
  }
  while (!names.empty() && names.back().empty()) {  // the original lists end with blank lines
    names.pop_back();
  }
  return names;
}

// ---- Preparing -------------------------------------------------------------------------------

Dataset first_samples(const Dataset& data, int64_t count) {
  if (count == 0 || count >= data.size()) {
    return data;
  }
  require(count > 0, "data", "cannot keep the first ", count, " samples");
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return data.subset(indices);
}

// Scales pixel/255 by mean and deviation.
Dataset standardized(const Dataset& images, const std::vector<double>& mean, const std::vector<double>& deviation) {
  Preprocessing preprocessing = images.preprocessing();
  for (size_t c = 0; c < mean.size(); ++c) {
    preprocessing.centre[c] = 255 * mean[c];
    preprocessing.spread[c] = 255 * deviation[c];
  }
  return images.with(preprocessing);
}

// 32 x 32 in three channels.
Dataset as_edge_image(const Dataset& images) {
  constexpr int64_t kSide = 32;
  Preprocessing preprocessing{.data = images.name(),
                              .sample = {kSide, kSide, 3},
                              .classes = images.preprocessing().classes,
                              .centre = {127.5, 127.5, 127.5},
                              .spread = {127.5, 127.5, 127.5}};
  const Shape& from = images.sample_shape();
  Samples samples;
  for (int64_t i = 0; i < images.size(); ++i) {
    samples.labels.push_back(images.label(i));
    const std::span<const uint8_t> pixels = images.pixels(i);
    const Picture picture =
        resized({.height = from[0], .width = from[1], .channels = from[2], .pixels = {pixels.begin(), pixels.end()}},
                kSide, kSide);
    for (int64_t k = 0; k < kSide * kSide * 3; ++k) {
      samples.pixels.push_back(picture.pixels[static_cast<size_t>(from[2] == 3 ? k : k / 3)]);
    }
  }
  return Dataset(std::move(preprocessing), std::move(samples));
}

struct Scales {
  std::vector<double> mean;
  std::vector<double> deviation;
};

Splits image_splits(Dataset train, Dataset test, const Scales& scales, const LoadOptions& options) {
  train = first_samples(train, options.first_training);
  const bool edge = options.protocol == Protocol::kEdge;
  const double share = options.validation.value_or(edge ? 0 : 0.1);
  if (edge) {
    train = as_edge_image(train);
    test = as_edge_image(test);
  } else {
    train = standardized(train, scales.mean, scales.deviation);
    test = standardized(test, scales.mean, scales.deviation);
  }
  Splits splits = split(train, split_at_random(train.size(), {.validation = share, .test = 0, .seed = options.seed}));
  splits.test = std::move(test);
  return splits;
}

struct TableRecipe {
  Scale scale = Scale::kStandardize;
  TabularOptions edge;  // columns and rows as the Edge project chose them
  TabularOptions own;
};

Splits random_splits(const Dataset& data, Scale scale, const LoadOptions& options) {
  Splits splits =
      split(data, split_at_random(data.size(),
                                  {.validation = options.validation.value_or(0.2), .test = 0.2, .seed = options.seed}));
  if (options.first_training > 0) {  // tables are often sorted by class
    splits.train = splits.train.subset(spread_over(splits.train, options.first_training));
  }
  return scale_by_training_part(splits, {.inputs = scale, .target = options.standardize_target});
}

Splits table_splits(const Table& table, const TableRecipe& recipe, const LoadOptions& options) {
  if (options.protocol == Protocol::kOwn) {
    return random_splits(make_dataset(table, recipe.own).data, recipe.scale, options);
  }
  const Dataset data = make_dataset(table, recipe.edge).data;
  // The target's scale was never part of that protocol; it comes from the training part.
  Splits splits = split(data, edge_split(data.size()));
  const bool scale_target = options.standardize_target;
  Preprocessing leaky = fit_scaling(data, {.inputs = recipe.scale});
  if (scale_target) {
    const Preprocessing honest = fit_scaling(splits.train, {.inputs = Scale::kNone, .target = true});
    leaky.target_centre = honest.target_centre;
    leaky.target_spread = honest.target_spread;
  }
  return {.train = first_samples(splits.train.with(leaky), options.first_training),
          .validation = splits.validation.with(leaky),
          .test = splits.test.with(leaky)};
}

// ---- The sets ----------------------------------------------------------------------------------

Splits load_moons(const LoadOptions& options) {
  const Labelled points = moons({.samples = 2000, .noise = 0.15, .seed = options.seed});
  return random_splits(make_dataset(points, "moons"), Scale::kStandardize, options);
}

Splits load_spirals(const LoadOptions& options) {
  const Labelled points = spirals({.samples = 2000, .noise = 0.05, .seed = options.seed});
  return random_splits(make_dataset(points, "spirals"), Scale::kStandardize, options);
}

Splits load_glyphs(const LoadOptions& options) {
  constexpr int64_t kTrain = 10'000, kOther = 2'000;
  const auto part = [&](int64_t first, int64_t samples) {
    return glyphs({.samples = samples, .first = first, .seed = options.seed});
  };
  return {.train = first_samples(part(0, kTrain), options.first_training),
          .validation = part(kTrain, kOther),
          .test = part(kTrain + kOther, kOther)};
}

Splits load_mv_generated(const LoadOptions& options) {
  return random_splits(mv({.seed = options.seed}), Scale::kMinMax, options);
}

Splits load_idx(const std::string& name, const std::vector<std::string>& folders,
                const std::vector<std::string>& classes, const Scales& scales, const LoadOptions& options) {
  Finder files = finder(name, options);
  const auto part = [&](const std::string& images, const std::string& labels) {
    const auto path = [&](const std::string& base, const std::string& kind) {
      std::vector<std::string> candidates;
      for (const std::string& folder : folders) {
        for (const char* dot : {"-", "."}) {
          for (const char* packed : {".gz", ""}) {
            candidates.push_back(folder + base);
            candidates.back() += dot + kind + packed;
          }
        }
      }
      return files.need(candidates);
    };
    return read_idx_images(path(images, "idx3-ubyte"), path(labels, "idx1-ubyte"), {.name = name, .classes = classes});
  };
  return image_splits(part("train-images", "train-labels"), part("t10k-images", "t10k-labels"), scales, options);
}

Splits load_mnist(const LoadOptions& options) {
  return load_idx("mnist", {"mnist/", "MNIST/raw/"}, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
                  {.mean = {0.1307}, .deviation = {0.3081}}, options);
}

Splits load_fashion_mnist(const LoadOptions& options) {
  return load_idx(
      "fashion-mnist", {"fashion-mnist/", "FashionMNIST/raw/"},
      {"t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"},
      {.mean = {0.2860}, .deviation = {0.3530}}, options);
}

Splits load_cifar10(const LoadOptions& options) {
  Finder files = finder("cifar10", options);
  const std::vector<std::string> folders = {"cifar10/", "cifar-10-batches-bin/"};
  const auto both = [&](const std::string& base) {
    std::vector<std::string> candidates;
    for (const std::string& folder : folders) {
      candidates.insert(candidates.end(), {folder + base + ".bin", folder + base + ".bin.xz"});
    }
    return candidates;
  };
  // The five original batches if they are there, else the file of the first 20,000.
  std::vector<fs::path> train;
  if (const auto first = files.find(both("data_batch_1"))) {
    for (int batch = 1; batch <= 5; ++batch) {
      train.push_back(files.need(both("data_batch_" + std::to_string(batch))));
    }
  } else if (const auto part = files.find(both("train_first20000"))) {
    train.push_back(*part);
  } else {
    files.not_found();
  }
  const fs::path names = files.need({"cifar10/label_names.txt", "cifar-10-batches-bin/batches.meta.txt"});
  CifarOptions reading{.labels = CifarLabels::kTen, .name = "cifar10", .classes = read_names(names)};
  const Dataset test = read_cifar({files.need(both("test_batch"))}, reading);
  reading.first = options.first_training;
  // Mean and deviation of all 50,000 training images.
  return image_splits(read_cifar(train, reading), test,
                      {.mean = {0.4914, 0.4822, 0.4465}, .deviation = {0.2470, 0.2435, 0.2616}}, options);
}

Splits load_cifar100(const LoadOptions& options) {
  Finder files = finder("cifar100", options);
  const auto file = [&](const std::string& base) {
    return files.need({"cifar100/" + base, "cifar100/" + base + ".xz", "cifar-100-binary/" + base});
  };
  CifarOptions reading{
      .labels = CifarLabels::kHundredFine,
      .name = "cifar100",
      .classes = read_names(files.need({"cifar100/fine_label_names.txt", "cifar-100-binary/fine_label_names.txt"}))};
  const Dataset test = read_cifar({file("test.bin")}, reading);
  reading.first = options.first_training;
  return image_splits(read_cifar({file("train.bin")}, reading), test,
                      {.mean = {0.50707516, 0.48654887, 0.44091784}, .deviation = {0.26733429, 0.25643846, 0.27615047}},
                      options);
}

Splits load_churn(const LoadOptions& options) {
  Finder files = finder("churn", options);
  const Table table = read_csv(files.need({"tabular/churn.csv", "churn.csv", "Churn_Modelling.csv"}));
  const TabularOptions recipe{.name = "churn", .target = "Exited", .drop = {"RowNumber", "CustomerId", "Surname"}};
  return table_splits(table, {.scale = Scale::kStandardize, .edge = recipe, .own = recipe}, options);
}

Splits load_telescope(const LoadOptions& options) {
  Finder files = finder("telescope", options);
  const Table table = read_csv(files.need({"tabular/telescope.dat", "telescope.dat", "magic04.data"}),
                               {.header = false,
                                .names = {"fLength", "fWidth", "fSize", "fConc", "fConc1", "fAsym", "fM3Long",
                                          "fM3Trans", "fAlpha", "fDist", "class"}});
  const TabularOptions recipe{.name = "telescope", .target = "class"};
  return table_splits(table, {.scale = Scale::kStandardize, .edge = recipe, .own = recipe}, options);
}

Splits load_california(const LoadOptions& options) {
  Finder files = finder("california", options);
  const Table table = read_keel(files.need({"tabular/california.dat", "california.dat"}));
  const TabularOptions own{
      .name = "california", .target = "MedianHouseValue", .classify = false, .target_divisor = 1000};
  TabularOptions edge = own;
  edge.drop = {"Longitude", "Latitude"};
  edge.trim_low = 0.05;
  edge.trim_high = 0.95;
  return table_splits(table, {.scale = Scale::kMinMax, .edge = edge, .own = own}, options);
}

Splits load_mv(const LoadOptions& options) {
  Finder files = finder("mv", options);
  const Table table = read_keel(files.need({"tabular/mv.dat", "mv.dat"}));
  const TabularOptions recipe{.name = "mv", .target = "Y", .classify = false};
  return table_splits(table, {.scale = Scale::kMinMax, .edge = recipe, .own = recipe}, options);
}

struct Entry {
  DataInfo info;
  std::function<Splits(const LoadOptions&)> load;
};

std::vector<KnownFile> idx_files(const std::string& folder, const std::string& site,
                                 const std::array<const char*, 4>& sums) {
  const std::array names = {"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz",
                            "train-labels-idx1-ubyte.gz"};
  std::vector<KnownFile> files;
  for (size_t i = 0; i < names.size(); ++i) {
    files.push_back({.path = folder + names[i], .sha256 = sums[i], .url = site + names[i]});
  }
  return files;
}

std::vector<Entry> make_entries() {
  std::vector<Entry> entries;
  const auto add = [&](DataInfo info, Splits (*load)(const LoadOptions&)) {
    entries.push_back({std::move(info), load});
  };
  const std::string own_work = "none needed: generated by this program";
  add({.name = "moons",
       .description = "two interleaved half circles in the plane",
       .samples = "2,000 points, 2 classes",
       .licence = own_work},
      load_moons);
  add({.name = "spirals",
       .description = "two intertwined spirals in the plane",
       .samples = "2,000 points, 2 classes",
       .licence = own_work},
      load_spirals);
  add({.name = "glyphs",
       .description = "ten signs drawn by code, badly distorted: the set for when there is no other",
       .samples = "10,000 training, 2,000 validation, 2,000 test images of 28 x 28 x 1, 10 classes",
       .licence = own_work,
       .images = true,
       .fixed_validation = true},
      load_glyphs);
  add({.name = "mv-generated",
       .description = "regression on ten dependent inputs, drawn anew by the definition behind mv",
       .samples = "40,768 rows of 10 inputs, one target",
       .licence = own_work + "; definition after L. Torgo",
       .regression = true},
      load_mv_generated);
  add({.name = "mnist",
       .description = "handwritten digits",
       .samples = "60,000 training, 10,000 test images of 28 x 28 x 1, 10 classes",
       .licence = "CC BY-SA 3.0 by most redistributors; cite LeCun, Bottou, Bengio, Haffner 1998",
       .images = true,
       .files = idx_files("mnist/", "http://ossci-datasets.s3.amazonaws.com/mnist/",
                          {"8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                           "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                           "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                           "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"})},
      load_mnist);
  add({.name = "fashion-mnist",
       .description = "pictures of clothing",
       .samples = "60,000 training, 10,000 test images of 28 x 28 x 1, 10 classes",
       .licence = "MIT, (c) 2017 Zalando SE; cite Xiao, Rasul, Vollgraf 2017",
       .images = true,
       .files = idx_files("fashion-mnist/", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                          {"346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                           "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                           "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                           "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"})},
      load_fashion_mnist);
  add({.name = "cifar10",
       .description = "tiny colour photographs of ten kinds of things",
       .samples = "50,000 training images (or the first 20,000), 10,000 test images of 32 x 32 x 3, 10 classes",
       .licence = "none stated, free for research; cite Krizhevsky 2009",
       .images = true,
       .files = {{"cifar10/train_first20000.bin.xz", "afc29a9de4dec30e9701e674177653430e1bfaaae7044fac7aea71a57b7dea6a",
                  ""},
                 {"cifar10/test_batch.bin.xz", "fc2855555bc4f75e12dae8b893306580f68a575e8c370d96c97840847fb4e41f", ""},
                 {"cifar10/label_names.txt", "2ce042b1e0b48db4bb214408e6414ba18b2731c24af244f2d6c112fddf31af00", ""}}},
      load_cifar10);
  add({.name = "cifar100",
       .description = "tiny colour photographs of a hundred kinds of things",
       .samples = "50,000 training, 10,000 test images of 32 x 32 x 3, 100 classes",
       .licence = "none stated, free for research; cite Krizhevsky 2009",
       .images = true,
       .files = {{"cifar100/train.bin.xz", "9c3829bb0489bf725a42bc99de5f1ba8fca665ae661fceb8e7b0730bfb0a6902", ""},
                 {"cifar100/test.bin.xz", "5318dab2ea84d1b2e272828ab2e7601a7140b9c195871e3a6ca91c1d43cc16ea", ""},
                 {"cifar100/fine_label_names.txt", "4a53f81a8af29bb6aa646bfe2c455db1b061edfde82a39c0cfc313ef536c681b",
                  ""}}},
      load_cifar100);
  add({.name = "churn",
       .description = "which customers leave a bank (artificial, widely copied)",
       .samples = "10,000 rows of 13 inputs, 2 classes (1 in 2,037 rows)",
       .licence = "none stated (Kaggle)",
       .files = {{"tabular/churn.csv", "3996cd1fa372e0db0cd9c0ebac35bbd4e8e3c65fb942bb010c826e7b1eeef0a0", ""}}},
      load_churn);
  add({.name = "telescope",
       .description = "gamma rays or hadrons in a Cherenkov telescope (MAGIC, simulated)",
       .samples = "19,020 rows of 10 inputs, 2 classes (g 12,332, h 6,688)",
       .licence = "CC BY 4.0 (UCI); cite Bock et al. 2004",
       .files = {{"tabular/telescope.dat", "b07bb5bcbb55d0cd762aaea99eb52655668412899c5936632fa3877cf7b109d6", ""}}},
      load_telescope);
  add({.name = "california",
       .description = "median house value of Californian districts in 1990, in 1,000 dollars",
       .samples = "20,640 rows of 8 inputs, one target (Edge protocol: 18,577 rows of 6)",
       .licence = "none stated (KEEL); cite Pace and Barry 1997",
       .regression = true,
       .target_unit = "1,000 dollars",
       .files = {{"tabular/california.dat", "ba289e08737e6d620511da6a9434c76562f7e43841d0cb7ad1ac502a2483e1cb", ""}}},
      load_california);
  add({.name = "mv",
       .description = "regression on ten dependent inputs (artificial)",
       .samples = "40,768 rows of 10 inputs, one target",
       .licence = "none stated (KEEL); cite L. Torgo",
       .regression = true,
       .files = {{"tabular/mv.dat", "39bc066602fd26032f0a071e0dd46d29198a169bfd04e93fea542f3a5e4ccd46", ""}}},
      load_mv);
  return entries;
}

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = make_entries();
  return all;
}

const Entry& entry(const std::string& name) {
  std::string names;
  for (const Entry& candidate : entries()) {
    if (candidate.info.name == name) {
      return candidate;
    }
    names += (names.empty() ? "" : ", ") + candidate.info.name;
  }
  fail("data", "there is no data set '", name, "', only ", names, "; and no file or folder of that name");
}

}  // namespace

std::span<const DataInfo> list() {
  static const std::vector<DataInfo> all = [] {
    std::vector<DataInfo> infos;
    for (const Entry& entry : entries()) {
      infos.push_back(entry.info);
    }
    return infos;
  }();
  return all;
}

bool is_own(const std::string& name) {
  std::error_code error;
  return std::ranges::find(list(), name, &DataInfo::name) == list().end() &&
         (name.find_first_of("./") != std::string::npos || fs::exists(name, error)) && !name.empty();
}

fs::path own_path(const std::string& name, const fs::path& data_dir) {
  std::error_code error;
  const fs::path there = data_dir / name;
  return !fs::exists(name, error) && fs::exists(there, error) ? there : fs::path(name);
}

DataInfo info(const std::string& name, const LoadOptions& options) {
  if (!is_own(name)) {
    return entry(name).info;
  }
  std::error_code error;
  const fs::path path = own_path(name, options.data_dir);
  const bool images = fs::is_directory(path, error);
  const bool classes = images || (options.own.classify.has_value() ? *options.own.classify
                                                                   : read_own(path, options.own).is_classification());
  return {.name = name,
          .description = images ? "a folder of pictures" : "a table",
          .samples = {},
          .licence = "your own",
          .images = images,
          .regression = !classes};
}

Splits load(const std::string& name, const LoadOptions& options) {
  const bool own = is_own(name);
  const Entry* const found = own ? nullptr : &entry(name);
  const double share = options.validation.value_or(0);
  require(share >= 0 && share < 1, "data", name, ": a validation share of ", share, " is not from 0 to below 1");
  require(options.first_training >= 0, "data", name, ": the first ", options.first_training,
          " training samples are no part of them");
  const Dataset all = own ? read_own(own_path(name, options.data_dir), options.own) : Dataset();
  require((own ? !all.is_classification() : found->info.regression) || !options.standardize_target, "data", name,
          ": has classes; only the target of a regression can be standardized");
  if (!own) {
    require(!options.whole, "data", name, ": has parts of its own; all of it at once is for files of your own");
    return found->load(options);
  }
  require(options.protocol == Protocol::kOwn, "data", name, ": the Edge protocol is for data sets with a name");
  return options.whole ? Splits{.train = {}, .validation = {}, .test = all}
                       : random_splits(all, Scale::kStandardize, options);
}

std::vector<FileState> check_files(const std::string& name, const fs::path& data_dir) {
  std::vector<FileState> states;
  for (const KnownFile& file : entry(name).info.files) {
    const fs::path path = data_dir / file.path;
    std::error_code error;
    const bool present = fs::is_regular_file(path, error);
    states.push_back({.file = file, .present = present, .intact = present && sha256_of_file(path) == file.sha256});
  }
  return states;
}

void fetch_files(const std::string& name, const fs::path& data_dir, const FetchOptions& options) {
  const DataInfo& wanted = entry(name).info;
  require(!wanted.files.empty(), "data", name, ": is generated, there is nothing to fetch");
  for (const KnownFile& file : wanted.files) {
    std::error_code error;
    const fs::path path = data_dir / file.path;
    require(!file.url.empty() || fs::exists(path, error), "data", name, ": ", path.string(),
            " has no address to fetch it from; docs/data.md says how to get it");
  }
  for (const KnownFile& file : wanted.files) {
    if (!file.url.empty()) {
      fetch(file.url, data_dir / file.path, file.sha256, options);
    }
  }
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
