#include "tests/apps/command.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/error.h"

namespace whittle {

Json Result::json() const {
  const size_t end = out.find_last_not_of('\n');
  const size_t begin = out.rfind('\n', end);
  return Json::parse(out.substr(begin == std::string::npos ? 0 : begin + 1), nullptr, /*allow_exceptions=*/false);
}

Running::Running(const TempFolder& folder, const Words& arguments, const Words& environment)
    : out_(folder / "stdout"), err_(folder / "stderr") {
  process_ = ::fork();
  require(process_ >= 0, "running", "cannot start a process");
  if (process_ != 0) {
    return;
  }
  const auto to_file = [](const std::filesystem::path& path, int descriptor) {
    ::dup2(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), descriptor);
  };
  to_file(out_, STDOUT_FILENO);
  to_file(err_, STDERR_FILENO);
  for (const std::string& setting : environment) {
    const size_t equals = setting.find('=');
    if (equals + 1 == setting.size()) {
      ::unsetenv(setting.substr(0, equals).c_str());
    } else {
      ::setenv(setting.substr(0, equals).c_str(), setting.substr(equals + 1).c_str(), 1);
    }
  }
  std::vector<char*> words;
  std::string program = WHITTLE_COMMAND;
  words.push_back(program.data());
  for (const std::string& argument : arguments) {
    words.push_back(const_cast<char*>(argument.c_str()));  // execv() changes nothing
  }
  words.push_back(nullptr);
  ::execv(words[0], words.data());
  ::_exit(127);
}

Running::~Running() {
  if (!ended()) {
    signal(SIGKILL);
    wait();
  }
}

bool Running::ended() {
  if (process_ > 0 && ::waitpid(process_, &status_, WNOHANG) == process_) {
    process_ = -1;
  }
  return process_ < 0;
}

void Running::signal(int number) const {
  if (process_ > 0) {
    ::kill(process_, number);
  }
}

Result Running::wait() {
  if (process_ > 0) {
    ::waitpid(process_, &status_, 0);
    process_ = -1;
  }
  return {.exit_code = WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_),
          .out = contents(out_),
          .err = contents(err_)};
}

Result whittle_command(const TempFolder& folder, const Words& arguments, const Words& environment) {
  return Running(folder, arguments, environment).wait();
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool one_line(const std::string& text) { return std::ranges::count(text, '\n') == 1 && text.back() == '\n'; }

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string refused(const TempFolder& folder, const Words& arguments) {
  const Result result = whittle_command(folder, arguments);
  CAPTURE(result.err);
  CHECK(result.exit_code == 1);
  CHECK(result.out.empty());
  CHECK(one_line(result.err));
  return result.err;
}

}  // namespace whittle
