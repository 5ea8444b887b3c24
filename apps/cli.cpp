#include "apps/cli.h"

#include <string_view>

namespace whittle::apps {

namespace {

std::string for_shell(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,@%+-";  // which no shell reads otherwise
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
    return word;
  }
  std::string quoted = "'";
  for (const char c : word) {
    quoted += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return quoted + "'";
}

}  // namespace

std::string command_line(const CLI::App& verb) {
  std::string line;
  for (const CLI::App* app = &verb; app->get_parent() != nullptr; app = app->get_parent()) {
    line = " " + app->get_name() + line;
  }
  line = "whittle" + line;
  for (const bool positional : {true, false}) {
    for (const CLI::Option* option : verb.get_options()) {
      if (option->get_positional() != positional || option->empty()) {
        continue;
      }
      const bool flag = option->get_items_expected_max() == 0;
      const bool joined = option->get_delimiter() != '\0';
      const std::string name = positional ? "" : " " + option->get_name();
      std::string values;
      for (const std::string& value : option->results()) {
        const bool first = values.empty();
        values += joined ? (first ? name + " " : std::string(1, option->get_delimiter())) + for_shell(value)
                  : flag ? (first ? name : "")
                         : name + " " + for_shell(value);
      }
      line += values;
    }
  }
  return line;
}

}  // namespace whittle::apps
