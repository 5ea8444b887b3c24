// The tables of docs/grids.md, printed where WHITTLE_PRINT_FIGURES is set; and what must
// hold in them whatever the figures are.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "quant/array/few_bits.h"
#include "quant/array/grids.h"
#include "quant/array/multipoint.h"
#include "tests/datasets/files.h"
#include "tests/quant_array/samples.h"
#include "tests/support/sanitized.h"

namespace whittle {

namespace {

using namespace quant::array;  // NOLINT(google-build-using-namespace)

struct Subject {
  std::string name;
  std::vector<float> values;
  int64_t channels;
};

std::vector<Subject> subjects() {
  std::vector<Subject> all = {{"normal", normal_array(60 * 40, {1, 1}), 60},
                              {"Laplace", laplace_array(60 * 40, {1, 2}), 60}};
  if (const auto folder = real_data()) {
    const auto path = *folder / "edge-weights" / "telescope_complex.safetensors";
    if (std::filesystem::is_regular_file(path)) {
      const Tensor trained = load_checkpoint(path, {.allow_foreign = true}).at("net.6.weight").to_tensor();
      all.push_back({"trained", {trained.values().begin(), trained.values().end()}, trained.dim(0)});
    }
  }
  return all;
}

void print_line(const std::string& line) {
  static const bool wanted = std::getenv("WHITTLE_PRINT_FIGURES") != nullptr;
  if (wanted) {
    std::puts(line.c_str());
  }
}

// One line; returns the SQNR per subject.
template <class Make>
std::vector<double> row(const std::string& name, const std::vector<Subject>& all, Make make) {
  std::string line = "| " + name + " |";
  std::vector<double> found;
  for (const Subject& subject : all) {
    const Quantized q = make(subject);
    found.push_back(distortion(subject.values, q.values()).sqnr_db);
    char cell[64];
    std::snprintf(cell, sizeof cell, " %.2f, %.1f |", q.bits_per_weight(), found.back());
    line += cell;
  }
  print_line(line);
  return found;
}

}  // namespace

TEST_SUITE("figures") {
  TEST_CASE("figures of docs/grids.md; no grid beats the exact codebook of as many levels") {
    const std::vector<Subject> all = subjects();
    for (const int bits : kSanitized ? std::vector<int>{2, 4} : std::vector<int>{2, 3, 4, 6, 8}) {
      print_line("\n" + std::string(std::to_string(bits) + " bits: bits per weight, SQNR in dB"));
      const std::vector<double> best = row("kmeans-exact", all, [&](const Subject& s) {
        return quantize(s.values, {.grid = {.kind = GridKind::kKMeansExact, .bits = bits}});
      });
      for (const GridKind kind : all_grids()) {
        for (const bool flag : {false, true}) {
          GridSpec spec{.kind = kind, .bits = bits};
          (kind == GridKind::kAffine ? spec.symmetric : spec.zero) = flag;
          if ((kind == GridKind::kMidRise || kind == GridKind::kPowerOfTwo) && flag) {
            continue;
          }
          const std::string name =
              std::string(grid_name(kind)) + (kind == GridKind::kAffine ? (flag ? " symmetric" : " asymmetric")
                                              : flag                    ? " with zero"
                                                                        : "");
          const std::vector<double> found =
              row(name, all, [&](const Subject& s) { return quantize(s.values, {.grid = spec}); });
          for (size_t i = 0; i < all.size(); ++i) {
            CAPTURE(name);
            CHECK(found[i] <= best[i] + 1e-4);
          }
          if (kind == GridKind::kAffine || (kind == GridKind::kKMeans && !flag)) {
            row(name + " per channel", all,
                [&](const Subject& s) { return quantize(s.values, {.grid = spec, .groups = s.channels}); });
          }
        }
      }
    }
    print_line("\n" + std::string("roundings, affine symmetric 4 bits"));
    for (const Rounding rounding :
         {Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kStochastic, Rounding::kFloor}) {
      row(std::string(rounding_name(rounding)), all, [&](const Subject& s) {
        return quantize(s.values, {.grid = {.bits = 4}, .rounding = rounding, .key = {1, 3}});
      });
    }
    print_line("\n" + std::string("few bits"));
    row("binary", all, [](const Subject& s) { return binary(s.values); });
    row("binary per channel", all, [](const Subject& s) { return binary(s.values, s.channels); });
    row("ternary", all, [](const Subject& s) { return ternary(s.values); });
    row("ternary exact", all, [](const Subject& s) { return ternary(s.values, 1, TernaryThreshold::kExact); });
    row("ternary exact per channel", all,
        [](const Subject& s) { return ternary(s.values, s.channels, TernaryThreshold::kExact); });

    print_line("\n" + std::string("multi-point"));
    struct Choice {
      const char* name;
      int bits;
      int terms;
      bool centred;
    };
    for (const Choice& c : {Choice{"1 x 4", 4, 1, false}, Choice{"2 x 2", 2, 2, false}, Choice{"4 x 2", 2, 4, false},
                            Choice{"2 x 3", 3, 2, false}, Choice{"2 x 4", 4, 2, false},
                            Choice{"2 x 4 centred", 4, 2, true}, Choice{"3 x 4", 4, 3, false}}) {
      row(c.name, all, [&](const Subject& s) {
        return multipoint(s.values, {.bits = c.bits, .terms = c.terms, .centred = c.centred});
      });
      row(std::string(c.name) + " per channel", all, [&](const Subject& s) {
        return multipoint(s.values, {.bits = c.bits, .terms = c.terms, .groups = s.channels, .centred = c.centred});
      });
    }
    for (const double limit : {0.02, 0.01, 0.005}) {
      const std::string name = "4 bits adaptive, error <= " + std::to_string(limit);
      row(name, all, [&](const Subject& s) {
        return multipoint(s.values, {.bits = 4, .terms = 4, .groups = s.channels, .error_limit = limit});
      });
    }
  }
}

}  // namespace whittle
