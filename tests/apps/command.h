// The whittle command, run as a user runs it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "tests/support/temp_folder.h"

namespace whittle {

using Words = std::vector<std::string>;

inline Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

struct Result {
  int exit_code;  // or minus the signal that ended it
  std::string out;
  std::string err;

  // The last line of the output, which is JSON where --json was given.
  Json json() const;
};

// A command that has been started, with its output going to files of the folder.
class Running {
 public:
  Running(const TempFolder& folder, const Words& arguments, const Words& environment);
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running();

  bool ended();  // without waiting
  void signal(int number) const;
  Result wait();

 private:
  std::filesystem::path out_;
  std::filesystem::path err_;
  pid_t process_ = -1;
  int status_ = 0;
};

// Runs it to its end. `environment` holds NAME=VALUE beside what there is; NAME= takes a variable away.
Result whittle_command(const TempFolder& folder, const Words& arguments, const Words& environment = {});

// Runs a command that must be refused in one sentence, which is returned.
std::string refused(const TempFolder& folder, const Words& arguments);

std::string contents(const std::filesystem::path& path);
bool one_line(const std::string& text);
bool contains(const std::string& text, const std::string& part);

}  // namespace whittle
