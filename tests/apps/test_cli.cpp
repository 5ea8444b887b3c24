// The whittle command as its users meet it: output, exit codes, error sentences.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/checkpoint.h"
#include "core/json.h"

namespace whittle {

namespace {

struct Result {
  int exit_code;
  std::string out;
  std::string err;
};

std::string contents(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// A folder that disappears with the test.
class Scratch {
 public:
  Scratch() : path_(std::filesystem::temp_directory_path() / ("whittle_cli_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::filesystem::path operator/(const char* name) const { return path_ / name; }

  Result whittle(const std::string& arguments) const {
    const std::string command = std::string(WHITTLE_COMMAND) + " " + arguments + " >'" + (*this / "out").string() +
                                "' 2>'" + (*this / "err").string() + "'";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, contents(*this / "out"), contents(*this / "err")};
  }

 private:
  std::filesystem::path path_;
};

bool one_line(const std::string& text) { return std::ranges::count(text, '\n') == 1 && text.back() == '\n'; }

std::filesystem::path save_example(const Scratch& scratch) {
  Checkpoint checkpoint;
  checkpoint.tensors["conv1.weight"] = StoredTensor::from(Tensor::zeros({4, 3, 3, 2}));
  checkpoint.tensors["step"] = StoredTensor::from(Tensor::scalar(1));
  checkpoint.metadata["model"] = "example";
  checkpoint.metadata["\x1b[2Jnote"] = "a key that would clear the screen";
  save_checkpoint(scratch / "example.safetensors", checkpoint);
  return scratch / "example.safetensors";
}

}  // namespace

TEST_SUITE("cli") {
  TEST_CASE("help and version succeed, every verb shows an example") {
    const Scratch scratch;
    CHECK(scratch.whittle("--version").out.starts_with("whittle "));
    for (const char* arguments : {"--version", "--help", "info --help", "inspect --help"}) {
      CAPTURE(arguments);
      const Result result = scratch.whittle(arguments);
      CHECK(result.exit_code == 0);
      CHECK(result.err.empty());
      if (std::string_view(arguments).find(' ') != std::string_view::npos) {
        CHECK(result.out.find("Example:\n  whittle ") != std::string::npos);
      }
    }
  }

  TEST_CASE("wrong usage: exit code 2 and one sentence") {
    const Scratch scratch;
    for (const char* arguments : {"", "no-such-verb", "info --no-such-flag", "inspect", "inspect a b"}) {
      CAPTURE(arguments);
      const Result result = scratch.whittle(arguments);
      CHECK(result.exit_code == 2);
      CHECK(result.out.empty());
      CHECK(one_line(result.err));
    }
  }

  TEST_CASE("bad input: exit code 1 and one sentence that names the file") {
    const Scratch scratch;
    std::ofstream(scratch / "rubbish") << "not a checkpoint";
    for (const char* file : {"rubbish", "missing", "."}) {
      const Result result = scratch.whittle("inspect '" + (scratch / file).string() + "'");
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(result.out.empty());
      CHECK(one_line(result.err));
      CHECK(result.err.find((scratch / file).string()) != std::string::npos);
    }
  }

  TEST_CASE("info --json ends with one line of JSON") {
    const Scratch scratch;
    const Result result = scratch.whittle("info --json");
    CHECK(result.exit_code == 0);
    REQUIRE(one_line(result.out));
    const Json info = Json::parse(result.out);
    CHECK(info.at("threads").get<int>() >= 1);
    for (const char* key : {"version", "compiler", "cpu", "parallel", "blas"}) {
      CHECK(info.at(key).is_string());
    }
  }

  TEST_CASE("inspect lists tensors, and does not pass control characters on") {
    const Scratch scratch;
    const Result result = scratch.whittle("inspect '" + save_example(scratch).string() + "'");
    CAPTURE(result.out);
    CHECK(result.exit_code == 0);
    CHECK(result.out.find("conv1.weight") != std::string::npos);
    CHECK(result.out.find("[4,3,3,2]") != std::string::npos);
    CHECK(result.out.find("2 tensors") != std::string::npos);
    CHECK(result.out.find("checksums ok") != std::string::npos);
    CHECK(result.out.find("\\x1b[2Jnote") != std::string::npos);
    CHECK(result.out.find('\x1b') == std::string::npos);
  }

  TEST_CASE("inspect --json says the same to a machine") {
    const Scratch scratch;
    const Result result = scratch.whittle("inspect --json '" + save_example(scratch).string() + "'");
    CHECK(result.exit_code == 0);
    REQUIRE(one_line(result.out));
    const Json report = Json::parse(result.out);
    CHECK(report.at("checksums") == "ok");
    CHECK(report.at("bytes") == 4 * (72 + 1));
    CHECK(report.at("tensors").size() == 2);
    CHECK(report.at("tensors")[0].at("shape") == Json({4, 3, 3, 2}));
    CHECK(report.at("metadata").at("model") == "example");
  }

  TEST_CASE("a damaged file is refused, also where foreign files are welcome") {
    const Scratch scratch;
    const std::filesystem::path path = save_example(scratch);
    std::string bytes = contents(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    std::ofstream(path, std::ios::binary) << bytes;
    CHECK(scratch.whittle("inspect '" + path.string() + "'").exit_code == 1);
    CHECK(scratch.whittle("inspect --foreign '" + path.string() + "'").exit_code == 1);
  }

  TEST_CASE("a foreign file is read where asked for") {
    const Scratch scratch;
    const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(header.size());
    std::ofstream(scratch / "foreign", std::ios::binary) << bytes + header + std::string(4, '\0');
    const std::string file = "'" + (scratch / "foreign").string() + "'";
    CHECK(scratch.whittle("inspect " + file).exit_code == 1);
    const Result result = scratch.whittle("inspect --foreign " + file);
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    CHECK(result.out.find("without checksums") != std::string::npos);
  }
}

}  // namespace whittle
