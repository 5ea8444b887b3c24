// The command whittle-run, from outside.

#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <fstream>

#include "tests/runtime/net.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

struct Result {
  int status;
  std::string text;
};

Result whittle_run_with(const std::string& environment, const std::string& arguments) {
  std::FILE* pipe = popen((environment + " " + WHITTLE_RUN + " " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  std::array<char, 4096> part{};
  for (size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    text.append(part.data(), n);
  }
  return {pclose(pipe), text};
}

Result whittle_run(const std::string& arguments) { return whittle_run_with("", arguments); }

void write(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

bool holds(const Result& result, const std::string& part) { return result.text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("run") {
  TEST_CASE("runs a program on each sample of a file, tells what is in it, measures it") {
    const TempFolder folder;
    const std::string net_path = folder.path() / "net.wtl";
    const std::string input_path = folder.path() / "input.raw";
    Net net = small_net(RngKey{.seed = 21});
    const auto file = net.finish();
    std::vector<uint8_t> twice = net.input_bytes;
    twice.insert(twice.end(), net.input_bytes.begin(), net.input_bytes.end());
    write(net_path, file);
    write(input_path, twice);
    std::string line;
    for (const uint8_t byte : net.expected_bytes) {
      line += (line.empty() ? "" : " ") + std::to_string(static_cast<int8_t>(byte));
    }

    CHECK(whittle_run(net_path + " " + input_path).text == line + "\n" + line + "\n");
    CHECK(whittle_run(net_path + " - < " + input_path + " --kernels integer").text == line + "\n" + line + "\n");
    const Result real = whittle_run(net_path + " " + input_path + " --real");
    CHECK(std::stof(real.text) == doctest::Approx((static_cast<int8_t>(net.expected_bytes[0]) + 128) / 256.0));
    const Result info = whittle_run(net_path + " --info");
    CHECK(holds(info, "int8  (integer-only)"));
    CHECK(holds(info, "sum = length"));
    CHECK(holds(info, std::to_string(file.size()) + "\n"));
    CHECK(holds(whittle_run(net_path + " --bench 3"), "runs 3  kernels "));
    CHECK(holds(whittle_run("--help"), "whittle-run PROGRAM.wtl"));

    write(net_path, {file.begin(), file.end() - 1});
    const Result cut = whittle_run(net_path);
    CHECK(cut.status != 0);
    CHECK(cut.text == "whittle-run: " + net_path + ": the program is cut off\n");
    write(net_path, file);
    write(input_path, {1, 2, 3});
    CHECK(
        holds(whittle_run(net_path + " " + input_path), "has 3 bytes, which is no multiple of the 108 of one sample"));
    CHECK(holds(whittle_run(net_path + " --kernels nothing"), "no kernel table called 'nothing' runs here, only "));
    CHECK(holds(whittle_run(net_path + " --bench 1 --kernels integer"), "kernels integer\n"));
    CHECK(holds(whittle_run_with("WHITTLE_KERNELS=integer", net_path + " --bench 1"), "kernels integer\n"));
    CHECK(holds(whittle_run_with("WHITTLE_KERNELS=nothing", net_path),
                "no kernel table called 'nothing' runs here, only "));
    CHECK(holds(whittle_run(net_path + " --nothing"), "is no option"));
    CHECK(holds(whittle_run("/no/such/file"), "No such file"));
    CHECK(whittle_run("").status != 0);
  }
}

}  // namespace whittle
