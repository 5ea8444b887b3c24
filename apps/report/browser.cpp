#include "apps/report/browser.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "core/error.h"

namespace whittle::apps::report {

namespace {

constexpr std::chrono::seconds kPatience{180};

// Empty: there is none.
std::filesystem::path browser_program() {
  const char* path = std::getenv("PATH");
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
    std::istringstream folders(path != nullptr ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');) {
      std::filesystem::path file = std::filesystem::path(folder) / name;
      if (::access(file.c_str(), X_OK) == 0) {
        return file;
      }
    }
  }
  return {};
}

std::string contents(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string url_of(const std::filesystem::path& file) {
  std::string url = "file://";
  for (const char c : std::filesystem::absolute(file).string()) {
    constexpr const char* kHex = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("/-_.~").find(c) != std::string_view::npos) {
      url += c;
    } else {
      url += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return url;
}

}  // namespace

bool Browser::available() { return !browser_program().empty(); }

Browser::Browser() : program_(browser_program()) {
  require(!program_.empty(), "report", "there is no browser to draw with; install Debian's chromium");
  std::string name = (std::filesystem::temp_directory_path() / "whittle-browser-XXXXXX").string();
  require(::mkdtemp(name.data()) != nullptr, "report", "cannot make a folder ", name);
  folder_ = name;
}

Browser::~Browser() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Browser::Shown Browser::run(const std::vector<std::string>& arguments) const {
  std::vector<std::string> words = {program_.string(),
                                    "--headless",
                                    "--disable-gpu",
                                    "--hide-scrollbars",
                                    "--no-first-run",
                                    "--enable-logging=stderr",
                                    "--user-data-dir=" + (folder_ / "profile").string()};
  if (::geteuid() == 0) {
    words.emplace_back("--no-sandbox");  // it refuses to be root in one
  }
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  const std::filesystem::path out = folder_ / "stdout";
  const std::filesystem::path log = folder_ / "stderr";
  const pid_t process = ::fork();
  require(process >= 0, "report", "cannot start ", program_.string());
  if (process == 0) {
    ::setpgid(0, 0);
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  const auto start = std::chrono::steady_clock::now();
  int status = 0;
  while (::waitpid(process, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() - start > kPatience) {
      ::kill(-process, SIGKILL);  // its own group: with its helpers
      ::waitpid(process, &status, 0);
      fail("report", program_.string(), " did not end within ", kPatience.count(), " s");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "report", program_.string(), " failed");
  return {.dom = contents(out), .log = contents(log)};
}

Browser::Shown Browser::open(const std::filesystem::path& page, const std::string& fragment) const {
  return run({"--window-size=1200,900", "--virtual-time-budget=20000", "--dump-dom", url_of(page) + fragment});
}

void Browser::picture(const std::filesystem::path& page, const std::filesystem::path& png, int width,
                      int height) const {
  run({"--window-size=" + std::to_string(width) + "," + std::to_string(height), "--force-device-scale-factor=2",
       "--screenshot=" + std::filesystem::absolute(png).string(), url_of(page)});
  require(std::filesystem::exists(png), "report", program_.string(), " drew nothing into ", png.string());
}

}  // namespace whittle::apps::report
