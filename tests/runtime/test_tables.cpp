// Which tables of kernels there are, which one runs, and that WHITTLE_KERNELS decides it.
//
// The entries runtime.with_* of CTest run all tests of this folder once for each table, with WHITTLE_KERNELS set.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/f32/table.h"
#include "kernels/hosted/forced.h"
#include "kernels/names.h"
#include "kernels/train/table.h"
#include "runtime/best.h"
#include "runtime/hosted/choose.h"
#include "runtime/hosted/engine.h"
#include "tests/runtime/net.h"
#include "tests/support/cpu.h"
#include "tests/support/seed.h"

namespace whittle {

namespace {

using runtime::choose_kernels;
using runtime::Engine;
using runtime::Kernels;

template <class Tables>
std::vector<std::string> names_of(const Tables& all) {
  std::vector<std::string> names;
  for (int i = 0; i < all.count; ++i) {
    names.emplace_back(all.tables[i]->name);
  }
  return names;
}

std::vector<std::string> expected_int8() {  // as the build was told
  std::istringstream names(WHITTLE_INT8_TABLES);
  return {std::istream_iterator<std::string>(names), {}};
}

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  const kernels::TableNames all = kernels::table_names();
  for (int i = 0; i < all.count; ++i) {
    names.emplace_back(all.names[i].name);
  }
  return names;
}

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// WHITTLE_KERNELS for as long as it lives.
class Forced {
 public:
  explicit Forced(const char* name) {
    const char* const before = kernels::forced_name();
    before_ = before == nullptr ? "" : before;
    setenv("WHITTLE_KERNELS", name, 1);
  }
  ~Forced() { setenv("WHITTLE_KERNELS", before_.c_str(), 1); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  std::string before_;
};

}  // namespace

TEST_SUITE("tables") {
  TEST_CASE("every table of the build is in the list, best first, and runs where the CPU has its instructions") {
    const kernels::Int8Tables all = kernels::int8_tables();
    CHECK(names_of(all) == expected_int8());
    std::string best;
    for (int i = 0; i < all.count; ++i) {
      const std::string name = all.tables[i]->name;
      CAPTURE(name);
      CHECK(all.tables[i]->runs_here() == cpu_has_table(name));
      best = best.empty() && cpu_has_table(name) ? name : best;
    }
    CHECK(runtime::best_kernels().int8->name == best);
  }

  TEST_CASE("the names are those of the tables of all kinds") {
    const auto int8 = names_of(kernels::int8_tables());
    const auto f32 = names_of(kernels::f32_tables());
    const auto train = names_of(kernels::float_train_tables());
    const auto all = all_names();
    for (const auto& names : {int8, f32, train}) {
      size_t after = 0;  // in the same order
      for (const std::string& name : names) {
        CAPTURE(name);
        const auto at = std::find(all.begin() + static_cast<std::ptrdiff_t>(after), all.end(), name);
        REQUIRE(at != all.end());
        after = static_cast<size_t>(at - all.begin());
      }
    }
    std::string here;
    for (const std::string& name : all) {
      CAPTURE(name);
      CHECK((holds(int8, name) || holds(f32, name) || holds(train, name)));
      CHECK(kernels::name_runs_here(name.c_str()) == cpu_has_table(name));
      here += !cpu_has_table(name) ? "" : (here.empty() ? "" : ", ") + name;
    }
    CHECK(std::string(kernels::names_that_run_here().text) == here);
    CHECK_FALSE(kernels::name_runs_here("avx"));
    CHECK_FALSE(kernels::name_runs_here(""));
  }

  TEST_CASE("the table that was asked for is the one that runs") {
    Net net(RngKey{.seed = test_seed()}.child("tables"));
    net.output(net.fully_connected(net.input({1, 8}), 4));
    const auto file = net.finish();
    const char* const forced = kernels::forced_name();
    MESSAGE("WHITTLE_KERNELS: " << std::string(forced == nullptr ? "not set" : forced));
    const std::string wanted =
        forced != nullptr && holds(expected_int8(), forced) ? forced : runtime::best_kernels().int8->name;
    CHECK(choose_kernels().int8->name == wanted);
    CHECK(Engine(file).kernels().int8->name == wanted);
    for (const std::string& name : expected_int8()) {
      if (!cpu_has_table(name)) {
        continue;
      }
      CHECK(Engine(file, {.kernels = name}).kernels().int8->name == name);  // goes before the environment
      const Forced by_environment(name.c_str());
      CHECK(Engine(file).kernels().int8->name == name);
      CHECK(choose_kernels().f32 != nullptr);
      const std::string other = name == "integer" ? "reference" : "integer";
      CHECK(Engine(file, {.kernels = other}).kernels().int8->name == other);
    }
  }

  TEST_CASE("a name that training alone has leaves programs the best; one that nothing has is refused") {
    for (const char* name : {"", "avx512"}) {
      if (*name == 0 || cpu_has_table(name)) {
        const Forced by_environment(name);
        CHECK(choose_kernels().int8 == runtime::best_kernels().int8);
      }
    }
    const std::string reason = "[kernels] no kernel table called 'none such' runs here, only " +
                               std::string(kernels::names_that_run_here().text);
    const Forced by_environment("none such");
    CHECK_THROWS_WITH_AS(choose_kernels(), reason.c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(choose_kernels("none such"), reason.c_str(), std::invalid_argument);
    Net net = small_net(RngKey{.seed = 5});
    const auto file = net.finish();
    CHECK_THROWS_WITH_AS(Engine{file}, reason.c_str(), std::invalid_argument);
    CHECK(Engine(file, {.kernels = "integer"}).kernels().int8 == &kernels::kInt8Integer);
  }
}

}  // namespace whittle
