// Data sets by name: what is listed, where files are looked for, and what comes out.

#include <doctest/doctest.h>

#include <set>

#include "datasets/registry.h"
#include "datasets/sha256.h"
#include "tests/datasets/files.h"
#include "tests/datasets/http_server.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

// Ten 28 x 28 images of each digit under the names of the original distribution.
void write_idx_set(const std::filesystem::path& folder, bool packed) {
  for (const std::string part : {"train", "t10k"}) {
    Bytes images = bytes({0, 0, 8, 3}) + big_endian(100) + big_endian(28) + big_endian(28);
    Bytes labels = bytes({0, 0, 8, 1}) + big_endian(100);
    for (int i = 0; i < 100; ++i) {
      images = images + Bytes(784, static_cast<uint8_t>(i));
      labels.push_back(static_cast<uint8_t>(i % 10));
    }
    const std::string end = packed ? ".gz" : "";
    write(folder / (part + "-images-idx3-ubyte" + end), packed ? gzip(images) : images);
    write(folder / (part + "-labels-idx1-ubyte" + end), packed ? gzip(labels) : labels);
  }
}

void write_cifar_batch(const std::filesystem::path& path, int first, int count, int label_bytes) {
  Bytes file;
  for (int i = 0; i < count; ++i) {
    file = file + Bytes(static_cast<size_t>(label_bytes), static_cast<uint8_t>((first + i) % 10)) +
           Bytes(3072, static_cast<uint8_t>(first + i));
  }
  write(path, file);
}

}  // namespace

TEST_SUITE("registry") {
  TEST_CASE("every set has a name of its own, a description, sizes and a licence") {
    std::set<std::string> names;
    for (const data::DataInfo& info : data::list()) {
      CHECK(names.insert(info.name).second);
      CHECK_FALSE(info.description.empty());
      CHECK_FALSE(info.samples.empty());
      CHECK_FALSE(info.licence.empty());
      for (const data::KnownFile& file : info.files) {
        CHECK(file.sha256.size() == 64);
        CHECK((file.url.empty() || file.url.starts_with("http")));
      }
      CHECK(data::info(info.name).description == info.description);
    }
    CHECK(names.size() == 12);
  }

  TEST_CASE("unknown names list the known ones") {
    const std::string message = message_of([] { return data::load("minst"); });
    CHECK(message.find("[data] there is no data set 'minst', only moons, spirals, glyphs, ") == 0);
    CHECK(message_of([] { return data::info(""); }).find("[data] there is no data set ''") == 0);
  }

  TEST_CASE("generated sets need no folder and depend on the seed") {
    for (const std::string name : {"moons", "spirals", "glyphs", "mv-generated"}) {
      CAPTURE(name);
      const data::DataInfo& info = data::info(name);
      const data::Splits a = data::load(name, {.seed = 1}), b = data::load(name, {.seed = 1}),
                         c = data::load(name, {.seed = 2});
      CHECK(a.train.name() == name);
      CHECK(a.train.is_images() == info.images);
      CHECK(a.train.is_classification() != info.regression);
      CHECK(a.train.size() > 2 * a.test.size());
      CHECK(a.validation.size() == a.test.size());
      const auto bytes_of = [](const data::Dataset& set) {
        const data::Batch batch = set.all();
        return sha256(std::as_bytes(batch.inputs.values()));
      };
      CHECK(bytes_of(a.train) == bytes_of(b.train));
      CHECK(bytes_of(a.test) == bytes_of(b.test));
      CHECK(bytes_of(a.train) != bytes_of(c.train));
      CHECK(bytes_of(a.validation) != bytes_of(a.test));
      CHECK(data::load(name, {.seed = 1, .first_training = 100}).train.size() == 100);
    }
    CHECK(data::load("mv-generated", {.standardize_target = true}).train.preprocessing().target_spread != 1);
    CHECK(message_of([] { return data::load("moons", {.standardize_target = true}); }) ==
          "[data] moons: has classes; only the target of a regression can be standardized");
    CHECK(message_of([] { return data::load("moons", {.validation = 0.9}); }).find("leave none for training") !=
          std::string::npos);
    CHECK(message_of([] { return data::load("moons", {.validation = -1.0}); }).find("[data] moons") == 0);
    CHECK(message_of([] { return data::load("glyphs", {.first_training = -1}); }).find("[data] glyphs") == 0);
  }

  TEST_CASE("a file that is missing is one sentence with every place looked at") {
    const TempFolder folder;
    const std::string message = message_of([&] { return data::load("churn", {.data_dir = folder.path()}); });
    CHECK(message == "[data] churn: in " + folder.path().string() +
                         " there is none of tabular/churn.csv, churn.csv, Churn_Modelling.csv (see `whittle data info "
                         "churn`)");
    CHECK(message_of([&] {
            return data::load("cifar10", {.data_dir = folder.path()});
          }).find("cifar10/data_batch_1.bin, cifar10/data_batch_1.bin.xz, cifar-10-batches-bin/data_batch_1.bin") !=
          std::string::npos);
    CHECK(message_of([&] { return data::load("mv", {.data_dir = folder / "none"}); }).find("is not a folder") !=
          std::string::npos);
    // Without a folder the environment is asked.
    const char* before = std::getenv("WHITTLE_DATA");
    const std::string saved = before != nullptr ? before : "";
    ::unsetenv("WHITTLE_DATA");
    CHECK(message_of([] { return data::load("mnist"); }) ==
          "[data] mnist: is read from files; give their folder with --data-dir or in $WHITTLE_DATA");
    ::setenv("WHITTLE_DATA", folder.path().c_str(), 1);
    CHECK(message_of([] { return data::load("mnist"); }).find("[data] mnist: in " + folder.path().string()) == 0);
    if (before != nullptr) {
      ::setenv("WHITTLE_DATA", saved.c_str(), 1);
    } else {
      ::unsetenv("WHITTLE_DATA");
    }
  }

  TEST_CASE("IDX sets in our folder layout and in torchvision's, packed or not") {
    const TempFolder folder;
    write_idx_set(folder / "one/mnist", true);
    write_idx_set(folder / "two/MNIST/raw", false);
    for (const char* where : {"one", "two"}) {
      const data::Splits splits = data::load("mnist", {.data_dir = folder / where, .seed = 2, .validation = 0.25});
      CHECK(splits.train.size() == 75);
      CHECK(splits.validation.size() == 25);
      CHECK(splits.test.size() == 100);
      CHECK(splits.test.label(13) == 3);
      CHECK(static_cast<double>(splits.test.batch(std::vector<int64_t>{51}).inputs.at({0, 0, 0, 0})) ==
            doctest::Approx((0.2 - 0.1307) / 0.3081));
    }
    const data::Splits edge =
        data::load("mnist", {.data_dir = folder / "one", .protocol = data::Protocol::kEdge, .first_training = 50});
    CHECK(edge.train.size() == 50);
    CHECK(edge.validation.empty());
    const data::LoadOptions held_back{
        .data_dir = folder / "one", .protocol = data::Protocol::kEdge, .validation = 0.25, .first_training = 50};
    CHECK(data::load("mnist", held_back).validation.size() == 13);  // 12.5, rounded
    CHECK(edge.train.sample_shape() == Shape{32, 32, 3});
    CHECK(static_cast<double>(edge.test.batch(std::vector<int64_t>{51}).inputs.at({0, 5, 5, 2})) ==
          doctest::Approx((0.2 - 0.5) / 0.5));
  }

  TEST_CASE("CIFAR: original batches before the first 20,000, names of both layouts") {
    const TempFolder folder;
    const auto ours = folder / "cifar10", original = folder / "cifar-10-batches-bin";
    const std::string names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
    write(ours / "label_names.txt", names);
    write_cifar_batch(ours / "test_batch.bin", 0, 20, 1);
    write_cifar_batch(ours / "train_first20000.bin", 0, 20, 1);
    CHECK(data::load("cifar10", {.data_dir = folder.path(), .validation = 0.0}).train.size() == 20);
    for (int batch = 1; batch <= 5; ++batch) {
      write_cifar_batch(original / ("data_batch_" + std::to_string(batch) + ".bin"), 10 * batch, 10, 1);
    }
    write(original / "batches.meta.txt", names + "\n\n");
    const data::Splits splits = data::load("cifar10", {.data_dir = folder.path(), .validation = 0.0});
    CHECK(splits.train.size() == 50);
    CHECK(splits.train.pixels(49)[0] == 59);
    std::filesystem::remove(original / "data_batch_4.bin");
    CHECK(message_of([&] {
            return data::load("cifar10", {.data_dir = folder.path()});
          }).find("none of cifar10/data_batch_4.bin") != std::string::npos);

    std::string hundred;
    for (int i = 0; i < 100; ++i) {
      hundred += "thing" + std::to_string(i) + "\n";
    }
    write(folder / "cifar-100-binary/fine_label_names.txt", hundred);
    write_cifar_batch(folder / "cifar-100-binary/train.bin", 0, 20, 2);
    write_cifar_batch(folder / "cifar-100-binary/test.bin", 0, 10, 2);
    const data::Splits fine = data::load("cifar100", {.data_dir = folder.path(), .first_training = 10});
    CHECK(fine.train.size() == 9);
    CHECK(fine.validation.size() == 1);
    CHECK(fine.train.classes() == 100);
  }

  TEST_CASE("tables: own protocol scales on the training part, Edge's on everything") {
    const TempFolder folder;
    std::string text;
    for (int i = 0; i < 50; ++i) {
      for (int c = 0; c < 10; ++c) {
        text += std::to_string(i * (c + 1)) + ",";
      }
      text += i % 3 == 0 ? "g\n" : "h\n";
    }
    write(folder / "magic04.data", text);
    const data::Splits own = data::load("telescope", {.data_dir = folder.path(), .seed = 1});
    const data::Splits edge =
        data::load("telescope", {.data_dir = folder.path(), .seed = 1, .protocol = data::Protocol::kEdge});
    CHECK(edge.train.preprocessing().centre[0] == 24.5);
    CHECK(edge.test.preprocessing() == edge.train.preprocessing());
    double mean = 0;
    for (int64_t i = 0; i < own.train.size(); ++i) {
      mean += own.train.values(i)[0] / static_cast<double>(own.train.size());
    }
    CHECK(own.train.preprocessing().centre[0] == doctest::Approx(mean));
    CHECK(own.train.size() == 30);
    CHECK(own.validation.size() == 10);
    CHECK(own.test.size() == 10);
  }

  TEST_CASE("the state of files, and fetching what is missing") {
    const TempFolder folder;
    const std::vector<data::FileState> none = data::check_files("mnist", folder.path());
    CHECK(none.size() == 4);
    CHECK_FALSE(none[0].present);
    write(folder / "mnist/t10k-labels-idx1-ubyte.gz", "not it");
    const std::vector<data::FileState> wrong = data::check_files("mnist", folder.path());
    CHECK(wrong[1].present);
    CHECK_FALSE(wrong[1].intact);
    CHECK(message_of([&] { return data::fetch_files("glyphs", folder.path()), 0; }).find("there is nothing to fetch") !=
          std::string::npos);
    CHECK(message_of([&] { return data::fetch_files("churn", folder.path()), 0; }).find("has no address") !=
          std::string::npos);
  }

  TEST_CASE("the real files are the ones the table names") {
    if (const auto dir = real_data()) {
      for (const data::DataInfo& info : data::list()) {
        for (const data::FileState& state : data::check_files(info.name, *dir)) {
          CAPTURE(state.file.path);
          CHECK(state.intact);
        }
      }
    }
  }
}

}  // namespace whittle
