// whittle data: list, info, fetch.

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "datasets/http.h"
#include "tests/apps/command.h"
#include "tests/datasets/files.h"
#include "tests/datasets/http_server.h"

namespace whittle {

namespace {

const std::string kLabels = "t10k-labels-idx1-ubyte.gz";  // the smallest file of MNIST

// Addresses are part of the program; a proxy is how the world is replaced.
std::vector<std::string> world(const HttpServer& server) {
  return {"http_proxy=" + server.url(""), "no_proxy=", "NO_PROXY=", "all_proxy=", "ALL_PROXY="};
}

}  // namespace

TEST_SUITE("data") {
  TEST_CASE("list names the sets, info describes one") {
    const TempFolder folder;
    const Result list = whittle_command(folder, {"data", "list"});
    CHECK(list.exit_code == 0);
    CHECK(contains(list.out, "glyphs            ten signs drawn by code"));
    const Json sets = whittle_command(folder, {"data", "list", "--json"}).json();
    CHECK(sets.size() == 12);
    CHECK(sets[0].at("name") == "moons");

    const Json moons = whittle_command(folder, {"data", "info", "moons", "--json"}, {"WHITTLE_DATA="}).json();
    CHECK(moons.at("name") == "moons");
    CHECK(moons.at("files").empty());
    for (const char* key : {"description", "samples", "licence"}) {
      CHECK(moons.at(key).is_string());
    }

    std::filesystem::create_directories(folder / "mnist");
    std::ofstream(folder / ("mnist/" + kLabels)) << "something else";
    const Json mnist = whittle_command(folder, {"data", "info", "mnist", "--data-dir", folder.path(), "--json"}).json();
    REQUIRE(mnist.at("files").size() == 4);
    CHECK(mnist.at("files")[0].at("state") == "missing");
    CHECK(mnist.at("files")[1].at("state") == "differs from the known sum");
    const Result text = whittle_command(folder, {"data", "info", "mnist"}, {"WHITTLE_DATA=" + folder.path().string()});
    CHECK(contains(text.out, "differs from the known sum"));
    CHECK(contains(text.out, "licence: "));
  }

  TEST_CASE("wrong names, folders that are not there, sets without an address") {
    const TempFolder folder;
    const auto refused = [&](const std::vector<std::string>& arguments, const std::string& sentence) {
      const Result result = whittle_command(folder, arguments, {"WHITTLE_DATA="});
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
    };
    refused({"data", "info", "minst"}, "there is no data set 'minst'");
    refused({"data", "info", "mnist"}, "Give --data-dir or set WHITTLE_DATA");
    refused({"data", "fetch", "minst", "--data-dir", folder.path()}, "there is no data set 'minst'");
    refused({"data", "fetch", "mnist"}, "Give --data-dir or set WHITTLE_DATA");
    refused({"data", "fetch", "moons", "--data-dir", folder.path()}, "there is nothing to fetch");
    refused({"data", "fetch", "churn", "--data-dir", folder.path()}, "has no address to fetch it from");
  }

  TEST_CASE("fetch: a server that sends something else, or nothing") {
    if (!http_available()) {
      MESSAGE("skipped: built without libcurl");
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const auto refused = [&](const std::string& sentence) {
      const Result result =
          whittle_command(folder, {"data", "fetch", "mnist", "--data-dir", folder / "data"}, world(server));
      CAPTURE(result.err);
      CHECK(result.exit_code == 1);
      CHECK(one_line(result.err));
      CHECK(contains(result.err, sentence));
      CHECK_FALSE(std::filesystem::exists(folder / "data/mnist/t10k-images-idx3-ubyte.gz"));
      REQUIRE_FALSE(server.requests().empty());
      CHECK(contains(server.requests()[0],
                     "GET http://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz "));
    };
    server.behave({.body = "another page"});
    refused("it was thrown away");
    server.behave({.status = 404});
    refused("404");
  }

  TEST_CASE("fetch: what is missing of the real files, and only that, resumed where it broke off") {
    const auto real = real_data();
    if (!http_available() || !real.has_value()) {
      return;
    }
    const TempFolder folder;
    std::filesystem::create_directories(folder / "mnist");
    for (const auto& entry : std::filesystem::directory_iterator(*real / "mnist")) {
      std::filesystem::create_symlink(entry.path(), folder / "mnist" / entry.path().filename());
    }
    std::filesystem::remove(folder / "mnist" / kLabels);
    const std::string body = contents(*real / "mnist" / kLabels);
    HttpServer server;
    server.behave({.body = body, .cut_after = 1000, .cuts = 1});
    const std::vector<std::string> command = {"data", "fetch", "mnist", "--data-dir", folder.path()};
    const Result result = whittle_command(folder, command, world(server));
    CAPTURE(result.err);
    CHECK(result.exit_code == 0);
    CHECK(result.out == "mnist: all files are here\n");
    CHECK(contents(folder / "mnist" / kLabels) == body);
    REQUIRE(server.requests().size() == 2);
    CHECK(contains(server.requests()[1], "Range: bytes=1000-"));
    CHECK(whittle_command(folder, command, world(server)).exit_code == 0);
    CHECK(server.requests().size() == 2);
  }
}

}  // namespace whittle
