// whittle explain: whoever reads the printed chain and calculates along gets the byte.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/apps/command.h"

namespace whittle {

namespace {

// A small net of every kind of layer that makes codes, quantized and exported.
std::string exported(const TempFolder& folder, const Words& model) {
  const std::string m = folder / "m.safetensors", q = folder / "q.safetensors", wtl = folder / "q.wtl";
  Words train{"train", "--epochs", "1", "--quiet", "--threads", "2", "--out", m};
  train.insert(train.end(), model.begin(), model.end());
  for (const Words& words :
       {train, Words{"quantize", m, "--samples", "64", "--quiet", "--out", q}, Words{"export", q, "--out", wtl}}) {
    const Result result = whittle_command(folder, words);
    CAPTURE(result.err);
    REQUIRE(result.exit_code == 0);
  }
  return wtl;
}

// ---- Arithmetic of the reader: integers alone (A10) ------------------------------------

// value / 2^shift, rounded half to even; shift may be negative.
int64_t shifted(int64_t value, int shift) {
  const bool negative = value < 0;
  const auto size = static_cast<uint64_t>(negative ? -value : value);
  uint64_t result = 0;
  if (shift <= 0) {
    result = size << -shift;
  } else if (shift < 64) {
    const uint64_t rest = size & ((uint64_t{1} << shift) - 1), half = uint64_t{1} << (shift - 1);
    result = size >> shift;
    result += rest > half || (rest == half && result % 2 == 1) ? 1 : 0;
  }
  return negative ? -static_cast<int64_t>(result) : static_cast<int64_t>(result);
}

int bits_of(int64_t value) {
  int bits = 0;
  for (auto size = static_cast<uint64_t>(value < 0 ? -value : value); size != 0; size >>= 1) {
    ++bits;
  }
  return bits;
}

// value 2^exponent with 24 significant bits, half to even.
void to_24_bits(int64_t& value, int& exponent) {
  const int excess = bits_of(value) - 24;
  if (excess > 0) {
    value = shifted(value, excess);
    exponent += excess;
  }
}

// What a reader of the text finds in it.
struct Printed {
  std::vector<std::array<int64_t, 4>> terms;  // code, zero-point, weight, product
  int64_t bias = 0, accumulator = 0, mantissa = 0;
  int exponent = 0;
  int64_t lo = 0, hi = 0, zero_point = 0, code = 0;
  std::map<std::string, double> steps;
};

Printed parse(const std::string& text) {
  Printed p;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    long long a = 0, b = 0, c = 0, d = 0;
    int e = 0;
    const char* from = line.c_str();
    if (const size_t at = line.find(": ("); at != std::string::npos && line.starts_with("  input ")) {
      REQUIRE(std::sscanf(from + at, ": (%lld - %lld) * %lld = %lld", &a, &b, &c, &d) == 4);
      p.terms.push_back({a, b, c, d});
    } else if (std::sscanf(from, "  bias %lld, accumulator %lld", &a, &b) == 2) {
      p.bias = a;
      p.accumulator = b;
    } else if (std::sscanf(from, "  multiplier M = %*s = %lld * 2^%d", &a, &e) == 2) {
      p.mantissa = a;
      p.exponent = e;
    } else if (std::sscanf(from, "  limits lo %lld, hi %lld, zero-point Z %lld", &a, &b, &c) == 3) {
      p.lo = a;
      p.hi = b;
      p.zero_point = c;
    } else if (std::sscanf(from, "  code %lld", &a) == 1) {
      p.code = a;
    } else if (const size_t equals = line.rfind(" = "); equals != std::string::npos && !line.starts_with("  real")) {
      p.steps[line.substr(2, equals - 2)] = std::strtod(from + equals + 3, nullptr);
    }
  }
  return p;
}

int64_t limited(int64_t code, const Printed& p) { return std::min(std::max(code, p.lo), p.hi); }

// Requantization of the printed sum by the printed multiplier.
int64_t requantized(const Printed& p) {
  int64_t sum = p.bias;
  for (const auto& [code, zero_point, weight, product] : p.terms) {
    REQUIRE((code - zero_point) * weight == product);
    sum += product;
  }
  REQUIRE(sum == p.accumulator);
  REQUIRE(p.mantissa >= 1 << 23);
  REQUIRE(p.mantissa < 1 << 24);
  int exponent = 0;
  to_24_bits(sum, exponent);
  int64_t scaled = sum * p.mantissa;
  exponent += p.exponent;
  to_24_bits(scaled, exponent);
  if (bits_of(scaled) + exponent > 40) {  // far beyond every code
    return scaled < 0 ? p.lo : p.hi;
  }
  return limited(shifted(scaled, -exponent) + p.zero_point, p);
}

std::vector<std::string> values_of(const Json& ops, const char* key) {
  std::vector<std::string> values;
  for (const Json& op : ops) {
    values.push_back(op.at(key).get<std::string>());
  }
  return values;
}

}  // namespace

TEST_SUITE("explain") {
  TEST_CASE("replaying what is printed gives the byte that the program makes") {
    const TempFolder folder;
    const std::string wtl = exported(folder, {"--model", "resnet8", "--data", "glyphs", "--first", "100"});
    std::array<std::string, 2> inputs;
    for (size_t k = 0; k < inputs.size(); ++k) {
      inputs[k] = folder / ("x" + std::to_string(k) + ".raw");
      std::ofstream file(inputs[k], std::ios::binary);
      for (size_t i = 0; i < 28 * 28; ++i) {
        file << static_cast<char>((i * i * (k + 3) + i * 7) % 256);
      }
    }
    const Json ops = whittle_command(folder, {"inspect", wtl, "--json"}).json().at("ops");
    const std::vector<std::string> kinds = values_of(ops, "kind"), names = values_of(ops, "name");
    int requantizations = 0;
    for (size_t i = 0; i < kinds.size(); ++i) {
      for (const std::string& input : inputs) {
        CAPTURE(names[i]);
        const Result result =
            whittle_command(folder, {"explain", wtl, "--layer", std::to_string(i), "--input", input, "--json"});
        REQUIRE(result.exit_code == 0);
        const Printed p = parse(result.out);
        const Json json = result.json();
        CHECK(json.at("layer") == names[i]);
        CHECK(json.at("kind") == kinds[i]);
        CHECK(json.at("code") == p.code);
        CHECK(json.at("terms").size() == p.terms.size());
        CHECK(result.out.starts_with(input + "\n"));
        if (kinds[i] == "conv" || kinds[i] == "fully_connected" || kinds[i] == "average_pool") {
          CHECK(requantized(p) == p.code);
          CHECK(json.at("bias") == p.bias);
          CHECK(json.at("accumulator") == p.accumulator);
          CHECK(json.at("multiplier").at("mantissa") == p.mantissa);
          CHECK(json.at("multiplier").at("exponent") == p.exponent);
          ++requantizations;
        } else if (kinds[i] == "add") {
          const auto fl = [](double x) { return static_cast<double>(static_cast<float>(x)); };
          const double partly = fl(p.steps.at("c") + fl(static_cast<double>(p.terms.at(0)[0]) * p.steps.at("r_a")));
          const double sum = fl(partly + fl(static_cast<double>(p.terms.at(1)[0]) * p.steps.at("r_b")));
          const double limit = std::min(std::max(sum, static_cast<double>(p.lo)), static_cast<double>(p.hi));
          CHECK(static_cast<int64_t>(std::nearbyint(limit)) == p.code);
        } else {
          CHECK(p.terms.at(0)[0] == p.code);  // a copy
        }
      }
    }
    CHECK(requantizations >= 10);

    // Without --index the largest is told.
    int64_t largest = -1000;
    for (int c = 0; c < 10; ++c) {
      const Json json =
          whittle_command(folder, {"explain", wtl, "--index", std::to_string(c), "--input", inputs[0], "--json"})
              .json();
      CHECK(json.at("index") == Json({0, c}));
      largest = std::max(largest, json.at("code").get<int64_t>());
    }
    CHECK(whittle_command(folder, {"explain", wtl, "--input", inputs[0], "--json"}).json().at("code") == largest);
    const Result told =
        whittle_command(folder, {"explain", wtl, "--layer", names[0], "--index", "0,0,1", "--sample", "7", "--json"});
    CHECK(told.out.starts_with("glyphs test sample 7\n"));
    const Json corner = told.json();
    CHECK(corner.at("terms").at(0).at("index").is_null());  // padding
    CHECK(corner.at("index") == Json({0, 0, 0, 1}));
  }

  TEST_CASE("an input from a file; what makes no sense is refused in one sentence") {
    const TempFolder folder;
    const std::string wtl = exported(folder, {"--model", "edge-simple", "--data", "moons", "--first", "600"});
    const std::string raw = folder / "x.raw";
    std::ofstream(raw, std::ios::binary) << std::string{'\x05', '\x7f'};
    const Json json = whittle_command(folder, {"explain", wtl, "--layer", "0", "--input", raw, "--json"}).json();
    CHECK(json.at("terms").at(0).at("code") == 5);
    CHECK(json.at("terms").at(1).at("code") == 127);
    CHECK(json.at("about") == raw);
    CHECK(contains(refused(folder, {"explain", folder / "q.safetensors"}), "is no program; whittle export makes one"));
    CHECK(contains(refused(folder, {"explain", folder / "none.wtl"}), "none.wtl"));
    CHECK(contains(refused(folder, {"explain", wtl, "--layer", "conv9"}), "has no layer 'conv9'"));
    CHECK(contains(refused(folder, {"explain", wtl, "--layer", "99"}), "has no layer 99, it has "));
    CHECK(contains(refused(folder, {"explain", wtl, "--index", "1,2,3"}), "--index has 3 numbers"));
    CHECK(contains(refused(folder, {"explain", wtl, "--index", "0,64"}), "--index 64 is outside of [1,"));
    CHECK(contains(refused(folder, {"explain", wtl, "--index", "-1"}), "--index -1 is outside of [1,"));
    CHECK(contains(refused(folder, {"explain", wtl, "--sample", "100000"}), "there is no test sample 100000"));
    CHECK(contains(refused(folder, {"explain", wtl, "--split", "best"}), "no split 'best'"));
    CHECK(
        contains(refused(folder, {"explain", wtl, "--input", raw, "--sample", "1"}), "leave --data and --sample out"));
    CHECK(contains(refused(folder, {"explain", wtl, "--input", raw, "--first", "1"}), "leave --data and --sample out"));
    std::ofstream(raw, std::ios::binary) << "abc";
    CHECK(contains(refused(folder, {"explain", wtl, "--input", raw}), "has 3 bytes, the program reads 2"));
    const std::string floats = folder / "f.wtl";
    REQUIRE(whittle_command(folder, {"export", folder / "m.safetensors", "--out", floats}).exit_code == 0);
    CHECK(contains(refused(folder, {"explain", floats}), "touches floats; only codes are explained"));
  }
}

}  // namespace whittle
