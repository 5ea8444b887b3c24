// Prints the tables of docs/grids.md. Not run by default:
//
//   test_quant_array --no-skip -tc="figures*"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "quant/array/few_bits.h"
#include "quant/array/grids.h"
#include "quant/array/multipoint.h"
#include "tests/datasets/files.h"
#include "tests/quant_array/samples.h"

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

template <class Make>
void row(const char* name, const std::vector<Subject>& all, Make make) {
  std::printf("| %s |", name);
  for (const Subject& subject : all) {
    const Quantized q = make(subject);
    std::printf(" %.2f, %.1f |", q.bits_per_weight(), distortion(subject.values, q.values()).sqnr_db);
  }
  std::printf("\n");
}

}  // namespace

TEST_SUITE("figures") {
  TEST_CASE("figures of docs/grids.md" * doctest::skip()) {
    const std::vector<Subject> all = subjects();
    for (const int bits : {2, 3, 4, 6, 8}) {
      std::printf("\n%d bits: bits per weight, SQNR in dB\n", bits);
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
          row(name.c_str(), all, [&](const Subject& s) { return quantize(s.values, {.grid = spec}); });
          if (kind == GridKind::kAffine || (kind == GridKind::kKMeans && !flag)) {
            row((name + " per channel").c_str(), all,
                [&](const Subject& s) { return quantize(s.values, {.grid = spec, .groups = s.channels}); });
          }
        }
      }
    }
    std::printf("\nroundings, affine symmetric 4 bits\n");
    for (const Rounding rounding :
         {Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kStochastic, Rounding::kFloor}) {
      row(std::string(rounding_name(rounding)).c_str(), all, [&](const Subject& s) {
        return quantize(s.values, {.grid = {.bits = 4}, .rounding = rounding, .key = {1, 3}});
      });
    }
    std::printf("\nfew bits\n");
    row("binary", all, [](const Subject& s) { return binary(s.values); });
    row("binary per channel", all, [](const Subject& s) { return binary(s.values, s.channels); });
    row("ternary", all, [](const Subject& s) { return ternary(s.values); });
    row("ternary exact", all, [](const Subject& s) { return ternary(s.values, 1, TernaryThreshold::kExact); });
    row("ternary exact per channel", all,
        [](const Subject& s) { return ternary(s.values, s.channels, TernaryThreshold::kExact); });

    std::printf("\nmulti-point\n");
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
      row((std::string(c.name) + " per channel").c_str(), all, [&](const Subject& s) {
        return multipoint(s.values, {.bits = c.bits, .terms = c.terms, .groups = s.channels, .centred = c.centred});
      });
    }
    for (const double limit : {0.02, 0.01, 0.005}) {
      const std::string name = "4 bits adaptive, error <= " + std::to_string(limit);
      row(name.c_str(), all, [&](const Subject& s) {
        return multipoint(s.values, {.bits = 4, .terms = 4, .groups = s.channels, .error_limit = limit});
      });
    }
  }
}

}  // namespace whittle
