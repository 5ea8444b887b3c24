#include "apps/cli.h"

#include <string_view>

#include "apps/text.h"

namespace whittle::apps {

namespace {

std::string for_shell(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,@%+-";  // which no shell reads otherwise
  const bool plain = !word.empty() && word.find_first_not_of(kPlain) == std::string::npos;
  return plain ? word : shell_quoted(word);
}

// " --name value", with its spaces, as often as it was given.
std::string as_typed(const CLI::Option& option) {
  std::string name = option.get_positional() ? "" : " " + option.get_name();
  if (option.get_items_expected_max() == 0) {  // a flag
    return name;
  }
  if (const char delimiter = option.get_delimiter(); delimiter != '\0') {
    return name + " " + for_shell(joined(option.results(), std::string(1, delimiter)));
  }
  std::string text;
  for (const std::string& value : option.results()) {
    text += name + " " + for_shell(value);
  }
  return text;
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
      if (option->get_positional() == positional && !option->empty()) {
        line += as_typed(*option);
      }
    }
  }
  return line;
}

}  // namespace whittle::apps
