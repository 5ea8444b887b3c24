// The summary: rows, totals, text. Float twin.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>

#include "layers/blocks.h"
#include "layers/linear.h"
#include "layers/sequential.h"
#include "layers/summary.h"

namespace whittle {

TEST_SUITE("summary") {
  TEST_CASE("a net counted by hand") {
    Sequential net;
    net.add<Conv2d>("conv1", {.in = 3, .out = 8, .padding = Padding::all(1), .norm = true, .act = Act::kRelu});
    net.add<MaxPool>("pool", {.kernel = {2, 2}});
    net.add<Flatten>("flatten");
    net.add<Linear>("fc", {.in = 4 * 4 * 8, .out = 10});
    const Summary s = summarize(net, {1, 8, 8, 3});
    REQUIRE(s.rows.size() == 4);
    CHECK(s.rows[0].trainable == 3 * 9 * 8 + 16);
    CHECK(s.rows[0].total == 3 * 9 * 8 + 32);
    CHECK(s.rows[0].macs == 8 * 8 * 8 * 27);
    CHECK(s.rows[1].output == Shape{1, 4, 4, 8});
    CHECK(s.rows[1].total == 0);
    CHECK(s.rows[3].trainable == 1290);
    CHECK(s.rows[3].macs == 1280);
    CHECK(s.trainable == 232 + 1290);
    CHECK(s.total == s.trainable + 16);
    CHECK(s.macs == 13824 + 1280);
    CHECK(summarize(net, {5, 8, 8, 3}).macs == 5 * s.macs);

    CHECK(to_text(s) ==
          "layer    kind                          output     trainable  total    MACs\n"
          "conv1    conv2d    3x3 3->8 norm relu  [1,8,8,8]        232    248  13,824\n"
          "pool     max_pool  2x2                 [1,4,4,8]          0      0       0\n"
          "flatten  flatten                       [1,128]            0      0       0\n"
          "fc       linear    128->10             [1,10]         1,290  1,290   1,280\n"
          "total                                                 1,522  1,538  15,104\n");
  }

  TEST_CASE("a layer used twice works twice and is stored once; one not used is in the total") {
    class Twice : public Module {
     public:
      Twice() {
        used_ = add_module("used", std::make_shared<Linear>(LinearOptions{.in = 4, .out = 4}));
        add_module("unused", std::make_shared<Linear>(LinearOptions{.in = 4, .out = 5}));
      }
      std::string_view kind() const override { return "twice"; }

     protected:
      Variable forward(std::span<const Variable> inputs) override { return (*used_)((*used_)(inputs[0])); }

     private:
      std::shared_ptr<Linear> used_;
    };
    Twice net;
    const Summary s = summarize(net, {1, 4});
    REQUIRE(s.rows.size() == 2);
    CHECK(s.rows[0].trainable == 20);
    CHECK(s.rows[1].trainable == 0);
    CHECK(s.macs == 32);
    CHECK(s.trainable == 20 + 25);
  }

  TEST_CASE("thousands") {
    CHECK(with_thousands(0) == "0");
    CHECK(with_thousands(999) == "999");
    CHECK(with_thousands(1000) == "1,000");
    CHECK(with_thousands(11181642) == "11,181,642");
    CHECK(with_thousands(-123456) == "-123,456");
    CHECK(with_thousands(-1234) == "-1,234");
  }
}

}  // namespace whittle
