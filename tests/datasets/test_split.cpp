// Data sets as values, splits, and scaling that looks at the training part alone.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "datasets/split.h"
#include "tests/datasets/files.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

// Row i is (i, 100 - i, 5), label i % 3.
data::Dataset rows(int n) {
  data::Samples samples;
  for (int i = 0; i < n; ++i) {
    samples.values.insert(samples.values.end(), {static_cast<double>(i), 100.0 - i, 5.0});
    samples.labels.push_back(i % 3);
  }
  return data::Dataset(
      {.data = "rows", .sample = {3}, .columns = {{"up"}, {"down"}, {"flat"}}, .classes = {"a", "b", "c"}}, samples);
}

bool is_partition(const data::SplitIndices& parts, int64_t n) {
  std::vector<int64_t> all = parts.train;
  all.insert(all.end(), parts.validation.begin(), parts.validation.end());
  all.insert(all.end(), parts.test.begin(), parts.test.end());
  std::ranges::sort(all);
  std::vector<int64_t> expected(static_cast<size_t>(n));
  std::iota(expected.begin(), expected.end(), int64_t{0});
  return all == expected;
}

}  // namespace

TEST_SUITE("split") {
  TEST_CASE("a data set checks what it is made of") {
    const data::Preprocessing two{.data = "t", .sample = {2}, .classes = {"a", "b"}};
    CHECK(message_of([&] {
            data::Dataset(two, {.values = {1, 2, 3}, .labels = {0}});
          }) == "[dataset] 't': 3 values for 1 samples of shape [2]");
    CHECK(message_of([&] {
            data::Dataset(two, {.values = {1, 2, 3, 4}, .labels = {0, 2}});
          }) == "[dataset] 't': sample 1 has label 2, there are 2 classes");
    CHECK(message_of([&] {
            data::Dataset(two, {.values = {1, 2, 3, NAN}, .labels = {0, 1}});
          }) == "[dataset] 't': value 1 of sample 1 is not a finite number");
    CHECK(message_of([&] {
            data::Dataset(two, {.values = {1, 2}, .targets = {1}});
          }) == "[dataset] 't': has class names, so labels and no targets");
    CHECK(message_of([&] { data::Dataset({.data = "r", .sample = {1}}, {.values = {1}, .targets = {INFINITY}}); }) ==
          "[dataset] 'r': the target of sample 0 is not a finite number");
    CHECK(message_of([&] { data::Dataset({.data = "r", .sample = {1}, .spread = {0.0}}, {}); }) ==
          "[dataset] 'r': a spread is not a positive number");
    CHECK(message_of([&] {
            data::Dataset({.data = "r", .sample = {4, 4}}, {});
          }).find("not [4,4]") != std::string::npos);
    CHECK(message_of([] { return rows(3).batch(std::vector<int64_t>{3}); }) ==
          "[dataset] 'rows' has 3 samples, there is no number 3");
    CHECK(message_of([] { return rows(3).pixels(0); }) == "[dataset] 'rows' holds rows, not images");
    CHECK(message_of([] { return rows(3).target(0); }) == "[dataset] 'rows' has labels, not targets");
    CHECK(rows(0).empty());
  }

  TEST_CASE("batches: scaled bytes, rows and targets") {
    const data::Dataset images(
        {.data = "i", .sample = {1, 2, 2}, .classes = {"a", "b"}, .centre = {10, 0}, .spread = {2, 255}},
        {.pixels = {10, 0, 14, 255, 0, 51, 0, 0}, .labels = {1, 0}});
    const data::Batch batch = images.batch(std::vector<int64_t>{1, 0, 0});
    CHECK(batch.inputs.shape() == Shape{3, 1, 2, 2});
    CHECK(batch.labels == std::vector<int32_t>{0, 1, 1});
    CHECK(batch.inputs.at({0, 0, 0, 0}) == -5);
    CHECK(batch.inputs.at({0, 0, 0, 1}) == real(51.0 / 255));
    CHECK(batch.inputs.at({2, 0, 1, 0}) == 2);
    CHECK(batch.inputs.at({2, 0, 1, 1}) == 1);
    CHECK_FALSE(batch.targets.defined());

    const data::Dataset houses({.data = "h", .sample = {1}, .target_centre = 100, .target_spread = 50},
                               {.values = {1, 2}, .targets = {150, 75}});
    const data::Batch all = houses.all();
    CHECK(all.targets.shape() == Shape{2, 1});
    CHECK(all.targets.at({0, 0}) == 1);
    CHECK(all.targets.at({1, 0}) == -0.5);
    CHECK(houses.target(1) == 75);
  }

  TEST_CASE("a subset is a view: numbers count within it") {
    const data::Dataset all = rows(10);
    const data::Dataset odd = all.subset(std::vector<int64_t>{1, 3, 5});
    const data::Dataset last = odd.subset(std::vector<int64_t>{2});
    CHECK(last.size() == 1);
    CHECK(last.values(0).data() == all.values(5).data());  // nothing was copied
    CHECK(odd.class_counts() == std::vector<int64_t>{1, 1, 1});
  }

  TEST_CASE("a preprocessing survives JSON and can be put on other data") {
    const data::Preprocessing fitted = data::fit_scaling(rows(7), {});
    CHECK(data::preprocessing_from_json(data::to_json(fitted)) == fitted);
    const data::Preprocessing table{.data = "t",
                                    .sample = {2},
                                    .columns = {{"a", "x"}, {"b"}},
                                    .centre = {0, 0.1},
                                    .spread = {1, 1e-7},
                                    .target_centre = 1.0 / 3,
                                    .target_spread = 2};
    CHECK(data::preprocessing_from_json(data::to_json(table)) == table);
    const data::Dataset other = rows(3).with(fitted);
    CHECK(static_cast<double>(other.all().inputs.at({0, 0})) == doctest::Approx(-1.5));
    CHECK(message_of([&] { return rows(3).with(table); }).find("the preprocessing is for [2]") != std::string::npos);
    CHECK(message_of([] { return data::preprocessing_from_json("{}"); }).find("[preprocessing] is not what") == 0);
    CHECK(message_of([] { return data::preprocessing_from_json("[1"); }).find("[preprocessing]") == 0);
    std::string zero = data::to_json(table);
    zero.replace(zero.find("1e-07"), 5, "0.0");
    CHECK(message_of([&] { return data::preprocessing_from_json(zero); }).find("not a positive number") !=
          std::string::npos);
  }

  TEST_CASE("permutations hold each number once and depend on the key") {
    for (const int64_t n : {1, 2, 3, 10, 1000}) {
      std::vector<int64_t> order = data::permutation(n, {.seed = 3});
      CHECK(order == data::permutation(n, {.seed = 3}));
      std::ranges::sort(order);
      CHECK(order.front() == 0);
      CHECK(order.back() == n - 1);
      CHECK(std::set<int64_t>(order.begin(), order.end()).size() == static_cast<size_t>(n));
    }
    CHECK(data::permutation(100, {.seed = 3}) != data::permutation(100, {.seed = 4}));
    // All six orders of three come about equally often.
    std::map<std::vector<int64_t>, int> counts;
    for (uint64_t seed = 0; seed < 6000; ++seed) {
      ++counts[data::permutation(3, {.seed = seed})];
    }
    CHECK(counts.size() == 6);
    for (const auto& [order, count] : counts) {
      CHECK(count > 850);
      CHECK(count < 1150);
    }
  }

  TEST_CASE("random splits: sizes, disjoint, by seed") {
    const data::SplitIndices parts = data::split_at_random(1001, {.validation = 0.1, .test = 0.25, .seed = 5});
    CHECK(parts.test.size() == 250);
    CHECK(parts.validation.size() == 100);
    CHECK(is_partition(parts, 1001));
    CHECK(std::ranges::is_sorted(parts.train));
    CHECK(data::split_at_random(1001, {.validation = 0.1, .test = 0.25, .seed = 5}).test == parts.test);
    CHECK(data::split_at_random(1001, {.validation = 0.1, .test = 0.25, .seed = 6}).test != parts.test);
    CHECK(data::split_at_random(10, {.validation = 0, .test = 0}).train.size() == 10);
    CHECK(message_of([] { return data::split_at_random(10, {.validation = 0.5, .test = 0.5}); }).find("leave none") !=
          std::string::npos);
    CHECK(message_of([] { return data::split_at_random(10, {.validation = -0.1}); }).find("[split]") == 0);
  }

  TEST_CASE("split files: marks on lines or in one line, counted exactly") {
    const TempFolder folder;
    for (const char* text : {"0\n1\n-\n2\n0\n", "01-20", "0\r\n1\r\n-\r\n2\r\n0"}) {
      const data::SplitIndices parts = data::read_split(write(folder / "s", text), 5);
      CHECK(parts.train == std::vector<int64_t>{0, 4});
      CHECK(parts.validation == std::vector<int64_t>{1});
      CHECK(parts.test == std::vector<int64_t>{3});
    }
    const auto path = write(folder / "s", "0\n1\nx\n");
    const std::string start = "[split] " + path.string() + ": ";
    CHECK(message_of([&] { return data::read_split(path, 3); }) ==
          start + "byte 4: sample 2 is marked with byte 120, not with 0, 1, 2 or -");
    write(path, "012");
    CHECK(message_of([&] { return data::read_split(path, 2); }) ==
          start + "byte 2: there are more marks than the 2 samples");
    CHECK(message_of([&] { return data::read_split(path, 4); }) == start + "3 marks for 4 samples");
  }

  TEST_CASE("the Edge split is NumPy's, as the published first rows show") {
    const data::SplitIndices telescope = data::edge_split(19020);
    CHECK(is_partition(telescope, 19020));
    CHECK(telescope.train.size() == 11412);
    CHECK(telescope.validation.size() == 3804);
    for (const int64_t row : {2983, 17821, 7825, 2046, 14301}) {
      CHECK(std::ranges::binary_search(telescope.train, row));
    }
    for (const int64_t row : {3158, 9267, 17775, 8974, 16956}) {
      CHECK(std::ranges::binary_search(telescope.test, row));
    }
    const data::SplitIndices churn = data::edge_split(10000);
    for (const int64_t row : {7809, 5279, 3279}) {
      CHECK(std::ranges::binary_search(churn.train, row));
    }
    for (const int64_t row : {1922, 2411, 6864}) {
      CHECK(std::ranges::binary_search(churn.test, row));
    }
  }

  TEST_CASE("the Edge split equals the published split files") {
    if (const auto dir = real_data()) {
      const std::pair<const char*, int64_t> whole[] = {{"telescope", 19020}, {"churn", 10000}, {"mv", 40768}};
      for (const auto& [set, n] : whole) {
        const std::string name = set;
        CAPTURE(name);
        const auto path = *dir / "tabular" / ("split_seed0_" + name + ".txt");
        const data::SplitIndices published = data::read_split(path, n);
        const data::SplitIndices ours = data::edge_split(n);
        CHECK(published.train == ours.train);
        CHECK(published.validation == ours.validation);
        CHECK(published.test == ours.test);
      }
    }
  }

  TEST_CASE("a few samples stand for all, whatever the order of the file") {
    const int64_t n = 2000;
    const auto set = [&](auto label, bool classes) {
      data::Samples samples;
      for (int64_t i = 0; i < n; ++i) {
        samples.values.push_back(static_cast<double>(i));
        if (classes) {
          samples.labels.push_back(static_cast<int32_t>(label(i)));
        } else {
          samples.targets.push_back(static_cast<double>(label(i)));
        }
      }
      const std::vector<std::string> ten = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
      return data::Dataset(
          {.data = "set", .sample = {1}, .columns = {{"i"}}, .classes = classes ? ten : std::vector<std::string>{}},
          samples);
    };
    const data::Dataset by_turns = set([](int64_t i) { return i % 10; }, true);
    const data::Dataset sorted = set([](int64_t i) { return i / (n / 10); }, true);
    const data::Dataset uneven = set([](int64_t i) { return i % 100 < 91 ? 0 : i % 100 - 90; }, true);
    const data::Dataset targets = set([](int64_t i) { return i; }, false);
    for (const int64_t count : {100, 200, 400, 1000, 2000}) {
      CAPTURE(count);
      for (const data::Dataset* data : {&by_turns, &sorted, &uneven, &targets}) {
        const std::vector<int64_t> some = data::spread_over(*data, count);
        REQUIRE(static_cast<int64_t>(some.size()) == count);
        CHECK(std::ranges::adjacent_find(some, std::greater_equal<>()) == some.end());
        CHECK(some == data::spread_over(*data, count));
        if (data->is_classification()) {
          const std::vector<int64_t> all = data->class_counts();
          const std::vector<int64_t> taken = data->subset(some).class_counts();
          for (size_t c = 0; c < all.size(); ++c) {
            CHECK(taken[c] * n == all[c] * count);
          }
        }
        // From every tenth of the file a tenth, and of every residue its share: 6 deviations at most.
        const double most = 6 * std::sqrt(0.09 * static_cast<double>(count)) + 1e-9;
        for (int64_t part = 0; part < 10; ++part) {
          const auto here = std::ranges::count_if(some, [&](int64_t i) { return i / (n / 10) == part; });
          const auto residue = std::ranges::count_if(some, [&](int64_t i) { return i % 10 == part; });
          CHECK(std::abs(static_cast<double>(here - count / 10)) <= most);
          CHECK(std::abs(static_cast<double>(residue - count / 10)) <= most);
        }
      }
    }
    CHECK(data::spread_over(sorted, 5000).size() == 2000);
    CHECK(data::spread_over(sorted, 0).empty());
  }

  TEST_CASE("splits that cannot be trained on are refused") {
    const data::Dataset data = rows(9);
    CHECK(message_of([&] { return data::split(data, {.train = {}, .validation = {0}, .test = {}}); }) ==
          "[split] 'rows': the training part is empty");
    CHECK(message_of([&] {
            return data::split(data, {.train = {0, 3, 6}, .validation = {1}, .test = {}});
          }) == "[split] 'rows': the 3 training samples are all of one class");
    CHECK(message_of([&] {
            return data::split(data, {.train = {0, 1, 9}, .validation = {}, .test = {}});
          }).find("there is no number 9") != std::string::npos);
    CHECK(data::split(data, {.train = {0, 1}, .validation = {}, .test = {}}).test.empty());
  }

  TEST_CASE("scaling is found on the training part and applied to all") {
    const data::Splits parts = data::split(rows(9), {.train = {0, 1, 2, 3, 4}, .validation = {5}, .test = {8}});
    const data::Splits standard = data::scale_by_training_part(parts, {.inputs = data::Scale::kStandardize});
    CHECK(standard.test.preprocessing().centre == std::vector<double>{2, 98, 5});
    CHECK(standard.train.preprocessing().spread[0] == doctest::Approx(std::sqrt(2)));
    CHECK(standard.train.preprocessing().spread[2] == 1);  // a column that never changes
    CHECK(static_cast<double>(standard.test.all().inputs.at({0, 0})) == doctest::Approx(6 / std::sqrt(2)));
    const data::Splits range = data::scale_by_training_part(parts, {.inputs = data::Scale::kMinMax});
    CHECK(range.train.all().inputs.at({4, 0}) == 1);
    CHECK(range.train.all().inputs.at({4, 1}) == 0);
    CHECK(range.test.all().inputs.at({0, 0}) == 2);  // beyond what training saw
  }

  TEST_CASE("one-hot inputs are not scaled, targets are if asked") {
    const data::Dataset table({.data = "t", .sample = {2}, .columns = {{"c", "x"}, {"n"}}},
                              {.values = {1, 10, 0, 30}, .targets = {3, 7}});
    const data::Preprocessing fitted = data::fit_scaling(table, {.inputs = data::Scale::kMinMax, .target = true});
    CHECK(fitted.centre == std::vector<double>{0, 10});
    CHECK(fitted.spread == std::vector<double>{1, 20});
    CHECK(fitted.target_centre == 5);
    CHECK(fitted.target_spread == 2);
    CHECK(message_of([] { return data::fit_scaling(rows(2), {.target = true}); }).find("no target to scale") !=
          std::string::npos);
  }
}

}  // namespace whittle
