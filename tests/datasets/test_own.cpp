// Tables and pictures of one's own: how they are read, and read again for a trained network.

#include <doctest/doctest.h>

#include "datasets/own.h"
#include "datasets/registry.h"
#include "datasets/sha256.h"
#include "tests/datasets/files.h"
#include "tests/support/bmp.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

constexpr const char* kFlowers =
    "length,kind,colour\n1.5,rose,red\n2,daisy,white\n3,rose,white\n2.5,daisy,white\n1,rose,red\n";

data::Dataset own(const std::string& text, const data::OwnOptions& options) {
  const TempFolder folder;
  return data::read_own(write(folder / "t.csv", text), options);
}

std::string refusal(const std::string& text, const data::OwnOptions& options) {
  return message_of([&] { return own(text, options); });
}

bool says(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("own") {
  TEST_CASE("a table however its program writes it is the same data set") {
    const data::OwnOptions options{.target = "kind"};
    const data::Dataset expected = own(kFlowers, options);
    CHECK(expected.size() == 5);
    CHECK(expected.preprocessing().classes == std::vector<std::string>{"daisy", "rose"});
    CHECK(expected.preprocessing().columns ==
          std::vector<data::InputColumn>{{"colour", "red"}, {"colour", "white"}, {"length"}});
    for (const char* separator : {";", "\t", " , "}) {
      for (const char* end : {"\n", "\r\n"}) {
        for (const char* quote : {"", "\""}) {
          std::string text = "\xef\xbb\xbf";
          for (const char* c = kFlowers; *c != '\0'; ++c) {
            const bool first = c == kFlowers || c[-1] == '\n' || c[-1] == ',';
            text += first ? quote : "";
            text += *c == ','    ? std::string(quote) + separator
                    : *c == '\n' ? std::string(quote) + end
                                 : std::string(1, *c);
          }
          CAPTURE(text);
          const data::Dataset same = own(text, options);
          CHECK(same.preprocessing().columns == expected.preprocessing().columns);
          CHECK(same.batch(std::vector<int64_t>{0, 1, 2, 3, 4}).labels ==
                expected.batch(std::vector<int64_t>{0, 1, 2, 3, 4}).labels);
          CHECK(same.values(4)[2] == 1);
        }
      }
    }
  }

  TEST_CASE("a first line with a number is a row") {
    const data::Dataset rows = own("1,2,a\n3,4,b\n", {.target = "3"});
    CHECK(rows.size() == 2);
    CHECK(rows.preprocessing().columns == std::vector<data::InputColumn>{{"1"}, {"2"}});
  }

  TEST_CASE("what the target is: text and few whole numbers are classes") {
    CHECK(own("x,y\n1,yes\n2,no\n", {.target = "y"}).is_classification());
    CHECK(own("x,y\n1,0\n2,1\n", {.target = "y"}).is_classification());
    CHECK_FALSE(own("x,y\n1,0\n2,1.5\n", {.target = "y"}).is_classification());
    CHECK_FALSE(own("x,y\n1,0\n2,1\n", {.target = "y", .classify = false}).is_classification());
    std::string many = "x,y\n";
    for (size_t i = 0; i <= data::kMostNumberedClasses; ++i) {
      many += "1," + std::to_string(i) + "\n";
    }
    CHECK_FALSE(own(many, {.target = "y"}).is_classification());
    CHECK(own(many, {.target = "y", .classify = true}).is_classification());
  }

  TEST_CASE("what cannot be read is said") {
    CHECK(says(refusal(kFlowers, {}), "which column is to be predicted? It has length, kind, colour"));
    CHECK(says(refusal(kFlowers, {.target = "Kind"}), "has no column 'Kind', only length, kind, colour"));
    CHECK(says(refusal("x,y\n1,a\n,b\n", {.target = "y"}), "line 3: column x has no value"));
    CHECK(says(message_of([] { return data::read_own("missing.csv", {}); }), "there is no such file or folder"));
    std::string names = "name,y\n";
    for (size_t i = 0; i <= data::kMostCategories; ++i) {
      names += "p" + std::to_string(i) + ",a\n";
    }
    CHECK(says(refusal(names, {.target = "y"}), "column name holds 101 different texts, such as 'p0'"));
  }

  TEST_CASE("numbers that are written otherwise, and names, are no categories and no classes") {
    const auto column = [](const std::string& name, const auto& cell) {
      std::string text = name + ";y\n";
      for (int i = 0; i < 60; ++i) {
        text += cell(i) + (i % 2 == 0 ? ";a\n" : ";b\n");
      }
      return text;
    };
    const auto decimal = [](int i) { return std::to_string(i % 30) + ",5"; };
    const auto euro = [](int i) { return "\u20ac 1." + std::to_string(100 + i % 30) + ",50"; };
    const auto share = [](int i) { return "-" + std::to_string(i % 30) + " %"; };
    CHECK(says(refusal(column("x", decimal), {.target = "y"}),
               "column x holds 30 different texts that look like numbers"));
    CHECK(says(refusal(column("x", euro), {.target = "y"}), "look like numbers"));
    CHECK(says(refusal(column("x", share), {.target = "y"}), "look like numbers"));
    CHECK(says(refusal(column("x", decimal), {.target = "x"}), "look like numbers"));
    CHECK(says(refusal(column("x", decimal), {.target = "y", .drop = {"x"}}), "no column is left"));  // and no more
    const auto code = [](int i) { return "A" + std::to_string(i % 30) + ",5"; };
    CHECK(own(column("x", code), {.target = "y"}).size() == 60);
    const auto plus = [](int i) { return "+" + std::to_string(i); };
    CHECK(own(column("x", plus), {.target = "y"}).preprocessing().columns.size() == 1);
    const auto name = [](int i) { return "n" + std::to_string(i); };
    CHECK(says(refusal(column("x", name), {.target = "x"}), "column x holds 60 different texts in 60 rows"));
    CHECK(says(refusal(kFlowers, {.target = "kind", .drop = {"kind"}}), "column kind is to be predicted"));
    CHECK(says(refusal("2021,y\n3,a\n4,b\n", {.target = "y"}), "its first line was taken for a row"));
  }

  TEST_CASE("split and scaled by load, like a data set with a name") {
    const TempFolder folder;
    std::string text = "constant,x,kind\n";
    for (int i = 0; i < 50; ++i) {
      text += "7," + std::to_string(i) + (i % 2 == 0 ? ",yes\n" : ",no\n");
    }
    const std::string file = write(folder / "t.csv", text).string();
    const data::LoadOptions options{.seed = 3, .own = {.target = "kind"}};
    CHECK(data::is_own(file));
    CHECK_FALSE(data::is_own("glyphs"));
    CHECK_FALSE(data::is_own(""));
    const data::DataInfo info = data::info(file, options);
    CHECK_FALSE(info.images);
    CHECK_FALSE(info.regression);
    const data::Splits splits = data::load(file, options);
    CHECK(splits.train.size() == 30);
    CHECK(splits.validation.size() == 10);
    CHECK(splits.test.size() == 10);
    CHECK(splits.train.batch(std::vector<int64_t>{0}).inputs.data()[0] == 0);
    CHECK(splits.test.preprocessing() == splits.train.preprocessing());
    data::LoadOptions whole = options;
    whole.whole = true;
    CHECK(data::load(file, whole).test.size() == 50);
    CHECK(says(
        message_of([&] { return data::load(file, {.protocol = data::Protocol::kEdge, .own = {.target = "kind"}}); }),
        "the Edge protocol is for data sets with a name"));
    CHECK(says(message_of([] { return data::load("glyphs", {.whole = true}); }), "has parts of its own"));
    CHECK(says(message_of([] { return data::load("flowers"); }), "no file or folder of that name"));
  }

  TEST_CASE("some samples of a table that is sorted by class are some of each") {
    const TempFolder folder;
    std::string rows = "x,y\n";
    for (int i = 0; i < 300; ++i) {
      rows += std::to_string(i) + ',' + "abc"[i / 100] + '\n';
    }
    const std::string file = write(folder / "sorted.csv", rows);
    for (const int64_t count : {12, 30, 100}) {
      const data::Splits splits = data::load(file, {.first_training = count, .own = {.target = "y"}});
      CHECK(splits.train.size() == count);
      for (const int64_t of_class : splits.train.class_counts()) {
        CHECK(of_class * 5 >= count);
      }
    }
  }

  TEST_CASE("a fingerprint is of what decides the split") {
    const TempFolder folder;
    const std::filesystem::path set = folder / "set";
    std::filesystem::create_directories(set / "b/.thumbnails");
    write(folder / "set/b/1.png", "12");
    write(folder / "set/b/2.png", "1");
    const std::string sum = data::fingerprint(set);
    CHECK(sum == sha256(std::as_bytes(std::span(std::string_view("b/1.png\n2\nb/2.png\n1\n")))));
    write(folder / "set/b/.thumbnails/1.png", "x");
    write(folder / "set/.DS_Store", "x");
    CHECK(data::fingerprint(set) == sum);
    write(folder / "set/b/2.png", "12");
    CHECK(data::fingerprint(set) != sum);
    write(folder / "set/b/2.png", "1");
    CHECK(data::fingerprint(set) == sum);
    std::filesystem::rename(set / "b/2.png", set / "b/0.png");
    CHECK(data::fingerprint(set) != sum);
    CHECK(data::fingerprint(write(folder / "t.csv", "abc")) == sha256(std::as_bytes(std::span("abc", 3))));
  }

  TEST_CASE("rows for a trained network: its columns in its order, its classes, its scales") {
    const TempFolder folder;
    data::Preprocessing network = own(kFlowers, {.target = "kind"}).preprocessing();
    network.centre = {0, 0, 2};
    network.spread = {1, 1, 0.5};
    const std::vector<std::filesystem::path> rows{write(folder / "new.csv", "colour;length\nwhite;3\nred;2\n")};
    const data::Dataset read = data::read_inputs(rows, network);
    CHECK(read.size() == 2);
    const Tensor inputs = read.all().inputs;
    CHECK(std::vector<real>(inputs.values().begin(), inputs.values().end()) == std::vector<real>{0, 1, 2, 1, 0, 0});

    const auto message = [&](const std::string& text) {
      const std::vector<std::filesystem::path> files{write(folder / "bad.csv", text)};
      return message_of([&] { return data::read_inputs(files, network); });
    };
    CHECK(says(message("colour,length\ngreen,3\n"), "column colour holds 'green', which the network has never seen"));
    CHECK(says(message("length\n3\n"), "has no column 'colour'"));
    CHECK(says(message("colour,length\nred,long\n"), "column length holds text, not numbers"));

    // A part of the classes counts as all of them do; another class is refused.
    const data::OwnOptions again{.target = "kind", .network = network};
    CHECK(own("colour,length,kind\nred,3,rose\n", again).label(0) == 1);
    CHECK(says(refusal("colour,length,kind\nred,3,tulip\n", again),
               "the class 'tulip', which the network does not know"));
  }

  TEST_CASE("categories that look like numbers stay categories") {
    const TempFolder folder;
    const data::Dataset trained = own("code,y\nA1,0\n12,1\n", {.target = "y"});
    const std::vector<std::filesystem::path> rows{write(folder / "new.csv", "code\n12\n")};
    const data::Dataset read = data::read_inputs(rows, trained.preprocessing());
    CHECK(std::vector<double>(read.values(0).begin(), read.values(0).end()) == std::vector<double>{1, 0});
  }

  TEST_CASE("pictures: of any size, for a network of one, by what their bytes are") {
    const TempFolder folder;
    write_bmp(folder / "set/cold/1.bmp", 5, 3, {0, 0, 200});
    write_bmp(folder / "set/cold/ä b.BMP", 2, 2, {0, 0, 100});
    write_bmp(folder / "set/warm/1.jpg", 4, 4, {200, 0, 0});  // no JPEG, whatever its name says
    const std::string set = (folder / "set").string();
    CHECK(says(message_of([&] { return data::read_own(set, {}); }), "give a height and a width to resize them"));
    CHECK(says(message_of([&] { return data::read_own(set, {.size = {4}}); }), "two sizes, height and width, not 1"));
    CHECK(says(message_of([&] { return data::read_own(set, {.size = {4, 0}}); }), "a side of 0 pixels"));
    const data::Dataset read = data::read_own(set, {.size = {4, 4}});
    CHECK(read.size() == 3);
    CHECK(read.pixels(2)[0] == 200);
    CHECK(read.preprocessing().classes == std::vector<std::string>{"cold", "warm"});
    CHECK(data::read_own(set, {.channels = 1, .size = {4, 4}}).sample_shape() == Shape{4, 4, 1});

    const std::vector<std::filesystem::path> files{folder / "set/warm/1.jpg", folder / "set/cold/1.bmp"};
    const data::Dataset inputs = data::read_inputs(files, read.preprocessing());
    CHECK(inputs.size() == 2);
    CHECK(inputs.pixels(0)[0] == 200);
    CHECK(inputs.pixels(1)[2] == 200);

    // Another folder for that network: one class alone will do, an unknown one will not.
    write_bmp(folder / "other/warm/1.bmp", 9, 9, {100, 0, 0});
    const data::OwnOptions again{.network = read.preprocessing()};
    CHECK(data::read_own(folder / "other", again).label(0) == 1);
    write_bmp(folder / "other/hot/1.bmp", 9, 9, {100, 0, 0});
    CHECK(says(message_of([&] { return data::read_own(folder / "other", again); }),
               "hot: the network knows no such class"));
  }
}

}  // namespace whittle
