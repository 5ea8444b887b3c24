// Tables: CSV and KEEL files, and what becomes of their columns.

#include <doctest/doctest.h>

#include <clocale>
#include <cmath>

#include "datasets/registry.h"
#include "datasets/split.h"
#include "datasets/tabular.h"
#include "tests/datasets/files.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

// What read_csv or read_keel says about `text`, without the file's name.
std::string refusal(std::string_view text, bool keel = false, const data::CsvOptions& options = {}) {
  const TempFolder folder;
  const auto path = write(folder / "t", text);
  const std::string message = message_of([&] { return keel ? data::read_keel(path) : data::read_csv(path, options); });
  const std::string start = std::string(keel ? "[keel] " : "[csv] ") + path.string() + ": ";
  return message.starts_with(start) ? message.substr(start.size()) : "unexpected: " + message;
}

data::Table csv(std::string_view text, const data::CsvOptions& options = {}) {
  const TempFolder folder;
  return data::read_csv(write(folder / "t", text), options);
}

}  // namespace

TEST_SUITE("csv") {
  TEST_CASE("numbers, text, quotes, spaces, line ends of all kinds") {
    const data::Table table =
        csv("\xef\xbb\xbf"
            "a, b ,c\r\n1, red ,\"x, \"\"y\"\"\"\r\n\r\n-2.5e3,blue,z");
    CHECK(table.rows == 2);
    CHECK(table.column("a").numbers == std::vector<double>{1, -2500});
    CHECK(table.column("b").categories == std::vector<std::string>{"blue", "red"});
    CHECK(table.column("b").codes == std::vector<int32_t>{1, 0});
    CHECK(table.column("c").categories[0] == "x, \"y\"");
    CHECK(message_of([&] { return table.column("d"); }).find("has no column 'd', only a, b, c") != std::string::npos);
  }

  TEST_CASE("without a header, and columns declared as text") {
    const data::Table table =
        csv("1;2\n3;4\n", {.header = false, .names = {"x", "code"}, .text = {"code"}, .separator = ';'});
    CHECK(table.column("x").numbers == std::vector<double>{1, 3});
    CHECK(table.column("code").categories == std::vector<std::string>{"2", "4"});
    CHECK(csv("1,2\n", {.header = false}).column("2").numbers[0] == 2);
  }

  TEST_CASE("gzip works for text too") {
    const TempFolder folder;
    CHECK(data::read_csv(write(folder / "t.csv.gz", gzip(bytes("a\n1\n2\n")))).rows == 2);
  }

  TEST_CASE("decimal points do not depend on the locale") {
    const std::string before = std::setlocale(LC_ALL, nullptr);
    for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "C"}) {
      std::setlocale(LC_ALL, name);
      CHECK(csv("a\n1.5\n").column("a").numbers[0] == 1.5);
    }
    std::setlocale(LC_ALL, before.c_str());
  }

  TEST_CASE("bad cells are refused with line and column") {
    CHECK(refusal("") == "is empty");
    CHECK(refusal(std::string_view("\xff\xfe"
                                   "a\0\n\0",
                                   6)) == "line 1: is UTF-16; save the table as UTF-8");
    CHECK(refusal("a,b\n") == "holds no rows");
    CHECK(refusal("a,b\n1,2\n3\n") == "line 3: has 1 cells, not 2");
    CHECK(refusal("a,b\n1,2,3\n") == "line 2: has 3 cells, not 2");
    CHECK(refusal("a,b\n1,2,\n") == "line 2: has 3 cells, not 2");
    CHECK(refusal("a,b\n1,2\n\n3,x\n") == "line 4: column b holds 'x', which is not a number");
    CHECK(refusal("a\n1\nnan\n") == "line 3: column a holds 'nan', which is not a finite number");
    CHECK(refusal("a\n1\n-inf\n") == "line 3: column a holds '-inf', which is not a finite number");
    CHECK(refusal("a\nnan\n") == "line 2: column a holds 'nan', which is not a finite number");
    CHECK(refusal("a\n1\n1e300\n") == "line 3: column a holds '1e300', which is beyond single precision (3.40282e+38)");
    CHECK(refusal("a\n1\n1e999\n") == "line 3: column a holds '1e999', which is not a number");
    CHECK(refusal("a\n1\n0x10\n") == "line 3: column a holds '0x10', which is not a number");
    CHECK(refusal("a\n1\n1,5\n") == "line 3: has 2 cells, not 1");
    CHECK(refusal("a,b\n1,2\n,3\n") == "line 3: column a has no value");
    CHECK(refusal("a,b\n1,2\n?,3\n") == "line 3: column a has no value");
    CHECK(refusal("a,a\n1,2\n") == "line 1: two columns are called 'a'");
    CHECK(refusal("a,\n1,2\n") == "line 1: column 2 has no name");
    CHECK(refusal("a\n\"x\n") == "line 2: a quoted cell does not end on its line");
    CHECK(refusal("a\n\"x\"y\n") == "line 2: text follows the closing quote of a cell");
    CHECK(refusal(std::string_view("a\n1\n1\0\n", 7)) == "line 3: column a holds '1?', which is not a number");
    const std::string not_utf8 = ": is not UTF-8 (but Latin-1 or the like, or no text); save the table as UTF-8";
    CHECK(refusal("a\n1\n\xff\n") == "line 3" + not_utf8);
    CHECK(refusal("stra\xdf"
                  "e\n1\n") == "line 1" + not_utf8);
    CHECK(refusal("a\n\xed\xa0\x80\n") == "line 2" + not_utf8);  // half of a surrogate pair
    CHECK(refusal("PK\x03\x04\x14\n") ==
          "line 1: is no text but a packed file, as spreadsheet programs write them; save the table as CSV");
    CHECK(refusal("a,b\r1,2\r3,4\r") ==
          "line 1: holds a carriage return that ends no line; save the table with lines that end in \\n or \\r\\n");
    CHECK(refusal("a,b\nNA,2\n3,4\n5,6\n") == "column a has no value in its first row ('NA'); its others are numbers");
    CHECK(csv("a\nNA\nEU\n1\n").column("a").categories.size() == 3);  // a word like others
    CHECK(csv("a\nNA\n1\n", {.text = {"a"}}).column("a").categories.size() == 2);
    CHECK(csv("a\n3+\n1\n2\n").column("a").categories.size() == 3);
    CHECK(refusal("a\n1\n", false, {.text = {"b"}}) == "has no column 'b' to read as text");
  }

  TEST_CASE("a line over one megabyte is refused, one of a megabyte is not") {
    CHECK(refusal("a\n" + std::string(data::kMaxLine + 1, 'x') + "\n") == "line 2: is longer than 1048576 bytes");
    CHECK(csv("a\n" + std::string(data::kMaxLine, 'x') + "\n").rows == 1);
    const TempFolder folder;  // and a packed file that is one endless line costs no memory
    const auto bomb = write(folder / "b.gz", gzip(Bytes(50'000'000, 'x')));
    CHECK(message_of([&] { return data::read_csv(bomb); }).find("line 1: is longer") != std::string::npos);
  }

  TEST_CASE("KEEL: types, ranges and lists are held to") {
    const std::string head =
        "@relation r\n@attribute A real[-1.5, 2]\n@attribute B integer [0,3]\n@attribute C {yes, no}\n"
        "@inputs A, B\n@outputs C\n@data\n";
    const TempFolder folder;
    const data::Table table = data::read_keel(write(folder / "k", head + "0.5, 3, no\r\n-1.5,0,yes\r\n"));
    CHECK(table.rows == 2);
    CHECK(table.column("A").numbers == std::vector<double>{0.5, -1.5});
    CHECK(table.column("C").categories == std::vector<std::string>{"no", "yes"});
    CHECK(table.column("C").codes == std::vector<int32_t>{0, 1});

    CHECK(refusal(head + "0,0,maybe\n", true) == "line 8: column C holds 'maybe', which its declaration does not list");
    CHECK(refusal(head + "3,0,no\n", true) ==
          "line 8: column A holds 3, which is outside its declared range of -1.5 to 2");
    CHECK(refusal(head + "0,0.5,no\n", true) == "line 8: column B holds 0.5, but is declared integer");
    CHECK(refusal(head, true) == "holds no rows");
    CHECK(refusal("@relation r\n@attribute A real\n", true) == "has no @data line");
    CHECK(refusal("@data\n1\n", true) == "line 1: @data comes before any @attribute");
    CHECK(refusal("1,2\n", true) == "line 1: '1,2' is not a KEEL keyword");
    CHECK(refusal("@attribute A real[2,1]\n", true) == "line 1: the range of A is not [low, high]");
    CHECK(refusal("@attribute A real[1,2\n", true) == "line 1: the type of A does not end with its bracket");
    CHECK(refusal("@attribute A date\n", true) == "line 1: the type of A is not real, integer or a list in braces");
    CHECK(refusal("@attribute A\n", true) == "line 1: an attribute needs a name and a type");
  }

  TEST_CASE("a table becomes a data set: one-hot first, dropped columns gone, classes sorted") {
    const data::Table table = csv("id,colour,size,kind\n1,red,5,b\n2,blue,7,a\n3,red,6,b\n");
    const data::Tabular made = data::make_dataset(table, {.name = "t", .target = "kind", .drop = {"id"}});
    const data::Dataset& set = made.data;
    CHECK(set.preprocessing().columns ==
          std::vector<data::InputColumn>{{"colour", "blue"}, {"colour", "red"}, {"size"}});
    CHECK(set.preprocessing().classes == std::vector<std::string>{"a", "b"});
    CHECK(std::vector<double>(set.values(1).begin(), set.values(1).end()) == std::vector<double>{1, 0, 7});
    CHECK(set.label(0) == 1);

    // Another table through the columns of the first; there, green is no known colour.
    const auto through = [&](std::string_view text) {
      return data::make_dataset(csv(text), {.name = "t", .target = "kind", .columns = set.preprocessing().columns})
          .data;
    };
    const data::Dataset again = through("size,kind,colour\n9,a,red\n8,b,red\n");  // an input for blue, all the same
    CHECK(std::vector<double>(again.values(0).begin(), again.values(0).end()) == std::vector<double>{0, 1, 9});
    CHECK(message_of([&] { through("size,kind,colour\n9,a,green\n"); }).find("'green', which the network has never") !=
          std::string::npos);
    CHECK(std::vector<double>(again.values(1).begin(), again.values(1).end()) == std::vector<double>{0, 1, 8});

    CHECK(message_of([&] {
            return data::make_dataset(table, {.target = "kind", .drop = {"Id"}});
          }).find("has no column 'Id'") != std::string::npos);
    CHECK(message_of([&] {
            return data::make_dataset(table, {.target = "kind", .classify = false});
          }).find("holds text and cannot be a regression target") != std::string::npos);
    const data::Table halves = csv("x,y\n1,0.5\n2,1\n");
    CHECK(message_of([&] {
            return data::make_dataset(halves, {.target = "y"});
          }).find("classes are text or whole numbers") != std::string::npos);
  }

  TEST_CASE("quantiles interpolate linearly, trimming keeps both ends") {
    CHECK(data::quantile({4, 1, 3, 2}, 0.5) == 2.5);
    CHECK(data::quantile({4, 1, 3, 2}, 0) == 1);
    CHECK(data::quantile({4, 1, 3, 2}, 1) == 4);
    CHECK(data::quantile({10, 20}, 0.25) == 12.5);
    CHECK(data::quantile({7}, 0.3) == 7);
    const data::Table table = csv("x,y\n1,10\n2,20\n3,30\n4,40\n5,50\n");
    const data::Tabular made = data::make_dataset(
        table, {.target = "y", .classify = false, .target_divisor = 10, .trim_low = 0.25, .trim_high = 0.75});
    CHECK(made.rows == std::vector<int64_t>{1, 2, 3});
    CHECK(made.data.target(0) == 2);
    CHECK(made.data.values(2)[0] == 4);
  }

  TEST_CASE("churn and telescope as the Edge project prepared them") {
    if (const auto dir = real_data()) {
      const data::Splits churn = data::load("churn", {.data_dir = *dir, .protocol = data::Protocol::kEdge});
      CHECK(churn.train.size() == 6000);
      CHECK(churn.validation.size() == 2000);
      CHECK(churn.test.size() == 2000);
      CHECK(churn.train.sample_shape() == Shape{13});
      const std::vector<data::InputColumn>& columns = churn.train.preprocessing().columns;
      CHECK(columns[0] == data::InputColumn{"Geography", "France"});
      CHECK(columns[4] == data::InputColumn{"Gender", "Male"});
      CHECK(columns[5] == data::InputColumn{"CreditScore"});
      CHECK(columns[12] == data::InputColumn{"EstimatedSalary"});
      CHECK(churn.train.class_counts()[1] + churn.validation.class_counts()[1] + churn.test.class_counts()[1] == 2037);
      CHECK(churn.test.class_counts()[0] == 1595);  // majority 0.7975

      const data::Splits telescope = data::load("telescope", {.data_dir = *dir, .protocol = data::Protocol::kEdge});
      CHECK(telescope.train.size() == 11412);
      CHECK(telescope.test.size() == 3804);
      CHECK(telescope.train.preprocessing().classes == std::vector<std::string>{"g", "h"});
      CHECK(static_cast<double>(telescope.test.class_counts()[0]) / 3804 == doctest::Approx(0.6399).epsilon(1e-4));
      // Scaled over the whole set: mean 0 and deviation 1 over all parts together.
      double sum = 0, squares = 0;
      for (const data::Dataset* part : {&telescope.train, &telescope.validation, &telescope.test}) {
        const data::Batch all = part->all();
        for (int64_t i = 0; i < part->size(); ++i) {
          const double v = static_cast<double>(all.inputs.at({i, 3}));
          sum += v;
          squares += v * v;
        }
      }
      CHECK(std::abs(sum / 19020) < 1e-6);
      CHECK(squares / 19020 == doctest::Approx(1).epsilon(1e-6));
    }
  }

  TEST_CASE("california and mv as the Edge project prepared them") {
    if (const auto dir = real_data()) {
      const data::Splits california = data::load("california", {.data_dir = *dir, .protocol = data::Protocol::kEdge});
      CHECK(california.train.size() == 11146);
      CHECK(california.validation.size() == 3715);
      CHECK(california.test.size() == 3716);  // 18,577 together
      CHECK(california.train.sample_shape() == Shape{6});
      CHECK(california.train.preprocessing().columns[0].name == "HousingMedianAge");
      double low = INFINITY, high = -INFINITY, sum = 0, squares = 0;
      for (const data::Dataset* part : {&california.train, &california.validation, &california.test}) {
        for (int64_t i = 0; i < part->size(); ++i) {
          low = std::min(low, part->target(i));
          high = std::max(high, part->target(i));
          sum += part->target(i);
          squares += part->target(i) * part->target(i);
        }
      }
      CHECK(low >= 66.2);
      CHECK(high <= 489.81);
      CHECK(squares / 18577 - (sum / 18577) * (sum / 18577) == doctest::Approx(8692).epsilon(1e-3));

      const data::Splits mv = data::load("mv", {.data_dir = *dir, .protocol = data::Protocol::kEdge});
      CHECK(mv.train.size() == 24460);
      CHECK(mv.test.size() == 8154);
      // Edge's trivial baseline: the mean of the training targets has test MSE 107.4.
      double mean = 0, error = 0;
      for (int64_t i = 0; i < mv.train.size(); ++i) {
        mean += mv.train.target(i) / 24460;
      }
      for (int64_t i = 0; i < mv.test.size(); ++i) {
        error += (mv.test.target(i) - mean) * (mv.test.target(i) - mean) / 8154;
      }
      CHECK(error == doctest::Approx(107.4).epsilon(1e-3));
    }
  }
}

}  // namespace whittle
