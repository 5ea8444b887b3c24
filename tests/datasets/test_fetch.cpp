// Downloading, against a server on this machine that cuts connections, ignores ranges and
// sends wrong bytes.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>

#include "datasets/fetch.h"
#include "datasets/http.h"
#include "datasets/sha256.h"
#include "tests/datasets/files.h"
#include "tests/datasets/http_server.h"
#include "tests/support/message.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

std::string content(size_t size) {
  std::string text(size, '\0');
  uint32_t state = 1;
  for (char& c : text) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return text;
}
std::string sum_of(const std::string& text) { return sha256(std::as_bytes(std::span(text))); }

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_SUITE("sha256") {
  TEST_CASE("the published examples, in one piece and in many") {
    CHECK(sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sum_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sum_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    const std::string million(1'000'000, 'a');
    CHECK(sum_of(million) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    for (const size_t step : {1U, 55U, 56U, 63U, 64U, 65U, 1000U}) {
      Sha256 sum;
      for (size_t at = 0; at < 10'000; at += step) {
        sum.update(std::as_bytes(std::span(million)).subspan(at, std::min(step, 10'000 - at)));
      }
      CHECK(sum.hex() == sum_of(million.substr(0, 10'000)));
    }
    const TempFolder folder;
    CHECK(sha256_of_file(write(folder / "f", "abc")) == sum_of("abc"));
    CHECK(message_of([&] { return sha256_of_file(folder / "none"); }).find("cannot be opened") != std::string::npos);
  }
}

TEST_SUITE("fetch") {
  TEST_CASE("a file arrives under its name, into folders that did not exist, once") {
    if (!http_available()) {
      MESSAGE("skipped: built without libcurl");
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(300'000);
    server.behave({.body = body});
    const auto path = folder / "a/b/file";
    uint64_t last = 0, total = 0;
    CHECK(data::fetch(server.url(), path, sum_of(body), {.progress = [&](uint64_t have, uint64_t of) {
                        CHECK(have > last);
                        last = have;
                        total = of;
                      }}) == data::Fetched::kDownloaded);
    CHECK(read(path) == body);
    CHECK(last == body.size());
    CHECK(total == body.size());
    CHECK_FALSE(std::filesystem::exists(folder / "a/b/file.part"));
    CHECK(server.requests().size() == 1);
    CHECK(data::fetch(server.url(), path, sum_of(body)) == data::Fetched::kWasThere);
    CHECK(server.requests().size() == 1);
  }

  TEST_CASE("cut connections are resumed where they broke off, within a call and by the next one") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(200'000);
    server.behave({.body = body, .cut_after = 70'000, .cuts = 2});
    CHECK(data::fetch(server.url(), folder / "f", sum_of(body)) == data::Fetched::kDownloaded);
    CHECK(read(folder / "f") == body);
    REQUIRE(server.requests().size() == 3);
    CHECK(server.requests()[2].find("Range: bytes=140000-") != std::string::npos);

    server.behave({.body = body, .cut_after = 50'000});
    const std::string message =
        message_of([&] { return data::fetch(server.url(), folder / "g", sum_of(body), {.attempts = 1}); });
    CHECK(message.find("[fetch] " + server.url()) == 0);
    CHECK(message.find("50000 bytes are kept, the next call goes on from there") != std::string::npos);
    CHECK(read(folder / "g.part") == body.substr(0, 50'000));
    CHECK_FALSE(std::filesystem::exists(folder / "g"));
    server.behave({.body = body});
    CHECK(data::fetch(server.url(), folder / "g", sum_of(body)) == data::Fetched::kDownloaded);
    CHECK(read(folder / "g") == body);
    CHECK(server.requests()[0].find("Range: bytes=50000-") != std::string::npos);
  }

  TEST_CASE("a server without ranges, a full .part, and one of another file") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(100'000);
    write(folder / "whole.part", body.substr(0, 30'000));
    server.behave({.body = body, .ranges = false});
    data::fetch(server.url(), folder / "whole", sum_of(body));
    CHECK(read(folder / "whole") == body);

    write(folder / "full.part", body);
    server.behave({.body = body});
    data::fetch(server.url(), folder / "full", sum_of(body));
    CHECK(read(folder / "full") == body);

    write(folder / "other.part", std::string(30'000, 'x'));
    server.behave({.body = body});
    data::fetch(server.url(), folder / "other", sum_of(body));
    CHECK(read(folder / "other") == body);
    CHECK(server.requests().size() == 2);

    write(folder / "long.part", std::string(130'000, 'x'));
    server.behave({.body = body});
    data::fetch(server.url(), folder / "long", sum_of(body));
    CHECK(read(folder / "long") == body);
  }

  TEST_CASE("wrong bytes never get the name") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(1000);
    for (const bool announce : {true, false}) {
      server.behave({.body = body + "x", .announce_size = announce});
      CHECK(message_of([&] {
              return data::fetch(server.url(), folder / "f", sum_of(body));
            }).find("what came has SHA-256 " + sum_of(body + "x") + ", not " + sum_of(body) + "; it was thrown away") !=
            std::string::npos);
      CHECK_FALSE(std::filesystem::exists(folder / "f"));
      CHECK_FALSE(std::filesystem::exists(folder / "f.part"));
    }
    // A cut that a server does not announce looks like the end; the sum tells.
    server.behave({.body = body, .cut_after = 500, .announce_size = false});
    CHECK(message_of([&] { return data::fetch(server.url(), folder / "f", sum_of(body)); }).find("thrown away") !=
          std::string::npos);
    write(folder / "g", "precious");
    server.behave({.body = body});
    CHECK(message_of([&] {
            return data::fetch(server.url(), folder / "g", sum_of(body));
          }).find("is there with other content") != std::string::npos);
    CHECK(read(folder / "g") == "precious");
  }

  TEST_CASE("errors of servers: final ones at once, others after trying again") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(1000);
    server.behave({.body = body, .status = 404});
    CHECK(message_of([&] { return data::fetch(server.url(), folder / "f", sum_of(body)); }).find("404") !=
          std::string::npos);
    CHECK(server.requests().size() == 1);
    CHECK(std::filesystem::is_empty(folder / "f.part") == true);
    server.behave({.body = body, .failures = 2});
    CHECK(data::fetch(server.url(), folder / "f", sum_of(body)) == data::Fetched::kDownloaded);
    CHECK(server.requests().size() == 3);
    server.behave({.body = body, .failures = 3});
    CHECK(message_of([&] { return data::fetch(server.url(), folder / "g", sum_of(body)); }).find("503") !=
          std::string::npos);
    server.behave({.body = content(200'000)});
    CHECK(message_of([&] {
            return data::fetch(server.url(), folder / "h", sum_of(body), {.max_bytes = 1000, .attempts = 1});
          }).find("the answer is larger than 1000 bytes") != std::string::npos);
    CHECK(message_of([&] {
            return data::fetch("http://127.0.0.1:1/x", folder / "i", sum_of(body), {.attempts = 1});
          }).find("[fetch] http://127.0.0.1:1/x: ") == 0);
  }

  TEST_CASE("redirects are followed, but never out of http") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(1000);
    server.behave({.body = body, .redirect = server.url("/there")});
    CHECK(data::fetch(server.url(), folder / "f", sum_of(body)) == data::Fetched::kDownloaded);
    const auto secret = write(folder / "secret", body);
    server.behave({.body = "x", .redirect = "file://" + secret.string()});
    CHECK(message_of([&] {
            return data::fetch(server.url(), folder / "g", sum_of(body), {.attempts = 1});
          }).starts_with("[fetch] "));
    CHECK_FALSE(std::filesystem::exists(folder / "g"));
  }

  TEST_CASE("an exception from the progress report stops the download and comes through") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    const std::string body = content(500'000);
    server.behave({.body = body});
    CHECK(message_of([&] {
            return data::fetch(server.url(), folder / "f", sum_of(body),
                               {.progress = [](uint64_t, uint64_t) { throw Error("enough"); }});
          }) == "enough");
    CHECK(std::filesystem::file_size(folder / "f.part") > 0);
    CHECK(data::fetch(server.url(), folder / "f", sum_of(body)) == data::Fetched::kDownloaded);
  }

  TEST_CASE("two programs do not download the same file at once") {
    if (!http_available()) {
      return;
    }
    const TempFolder folder;
    HttpServer server;
    server.behave({.body = "x"});
    const std::string part = (folder / "f.part").string();
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    const pid_t other = ::fork();  // locks belong to processes
    if (other == 0) {
      const int file = ::open(part.c_str(), O_RDWR | O_CREAT, 0666);
      struct flock lock {};
      lock.l_type = F_WRLCK;
      lock.l_whence = SEEK_SET;
      const bool locked = ::fcntl(file, F_SETLK, &lock) == 0;
      static_cast<void>(::write(ready[1], locked ? "y" : "n", 1));
      ::pause();
      ::_exit(0);
    }
    char answer = 0;
    REQUIRE(::read(ready[0], &answer, 1) == 1);
    CHECK(answer == 'y');
    CHECK(message_of([&] {
            return data::fetch(server.url(), folder / "f", sum_of("x"));
          }).find("another program is downloading it") != std::string::npos);
    ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
    CHECK(data::fetch(server.url(), folder / "f", sum_of("x")) == data::Fetched::kDownloaded);
  }

  TEST_CASE("what is no address, no sum or no file name is refused") {
    const TempFolder folder;
    const std::string sum = sum_of("x");
    CHECK(message_of([&] { return data::fetch("ftp://host/x", folder / "f", sum); }) ==
          "[fetch] 'ftp://host/x' is not an http address");
    CHECK(message_of([&] { return data::fetch("http://host/x", folder / "f", "abc"); }).find("is not a SHA-256") !=
          std::string::npos);
    CHECK(message_of([&] { return data::fetch("http://host/x", folder / "", sum); }).find("names no file") !=
          std::string::npos);
  }
}

}  // namespace whittle
