// whittle completion: what a shell must know to complete our command lines, made from the same tree of
// verbs and options that reads them.
//
// All three scripts do the same. `at` becomes the verb, with its sub-verb, that stands on the line; then
// the word in front decides: behind an option that takes one of a few words come these, behind
// another with a value come files; else verbs, options, and the words that an argument can be.

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli.h"
#include "apps/text.h"
#include "core/error.h"

namespace whittle::apps {

namespace {

std::map<const CLI::Option*, std::vector<std::string>>& offers() {
  static std::map<const CLI::Option*, std::vector<std::string>> words;
  return words;
}

const std::vector<std::string>& offered(const CLI::Option* option) {
  static const std::vector<std::string> none;
  const auto found = offers().find(option);
  return found == offers().end() ? none : found->second;
}

// A verb as shells see it.
struct Verb {
  std::string path;  // "whittle data info"
  std::string help;
  std::vector<std::string> verbs;  // below it
  std::vector<const CLI::Option*> options;
  std::vector<std::string> words;  // what its arguments can be
};

std::vector<std::string> spellings(const CLI::Option* option) {
  std::vector<std::string> names;
  for (const std::string& name : option->get_lnames()) {
    names.push_back("--" + name);
  }
  for (const std::string& name : option->get_snames()) {
    names.push_back("-" + name);
  }
  return names;
}

bool takes_value(const CLI::Option* option) { return option->get_items_expected_max() > 0; }

void read(const CLI::App* app, const std::string& path, std::vector<Verb>& verbs) {
  Verb verb{.path = path, .help = app->get_description(), .verbs = {}, .options = {}, .words = {}};
  const auto below = app->get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* sub : below) {
    verb.verbs.push_back(sub->get_name());
  }
  for (const CLI::Option* option : app->get_options()) {
    if (option->nonpositional()) {
      verb.options.push_back(option);
    } else {
      verb.words.insert(verb.words.end(), offered(option).begin(), offered(option).end());
    }
  }
  verbs.push_back(std::move(verb));
  for (const CLI::App* sub : below) {
    read(sub, path + " " + sub->get_name(), verbs);
  }
}

// The branches of `case "$at $before"` and `case $at`, which bash and zsh write alike. What they set: `words`, or
// `files` if only files will do.
std::string cases(const std::vector<Verb>& verbs) {
  std::string of_options = "  case \"$at $before\" in\n";
  std::string of_verbs = "    case $at in\n";
  for (const Verb& verb : verbs) {
    std::vector<std::string> names;
    for (const CLI::Option* option : verb.options) {
      std::vector<std::string> patterns;
      for (const std::string& name : spellings(option)) {
        names.push_back(name);
        patterns.push_back("'" + verb.path + " " + name + "'");
      }
      if (takes_value(option)) {
        const std::vector<std::string>& words = offered(option);
        of_options += "    " + joined(patterns, " | ") + ") " +
                      (words.empty() ? "files=1" : "choices=" + shell_quoted(joined(words, " "))) + " ;;\n";
      }
    }
    std::vector<std::string> words = verb.verbs;
    words.insert(words.end(), verb.words.begin(), verb.words.end());
    of_verbs += "      '" + verb.path + "') choices=" + shell_quoted(joined(words, " ")) +
                " options=" + shell_quoted(joined(names, " ")) + " ;;\n";
  }
  return of_options + "  esac\n  if [[ -z $choices && -z $files ]]; then\n" + of_verbs +
         "    esac\n    if [[ $word == -* ]]; then choices=$options; fi\n  fi\n";
}

// All verbs but the program itself, as patterns of one branch.
std::string paths(const std::vector<Verb>& verbs) {
  std::vector<std::string> patterns;
  for (const Verb& verb : verbs) {
    if (verb.path.find(' ') != std::string::npos) {
      patterns.push_back("'" + verb.path + "'");
    }
  }
  return joined(patterns, " | ");
}

std::string bash(const std::vector<Verb>& verbs) {
  return "# whittle for bash. In ~/.bashrc:  source <(whittle completion bash)\n"
         "_whittle() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  local at=whittle i choices= files= options=\n"
         "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
         "    case \"$at ${COMP_WORDS[i]}\" in\n"
         "      " +
         paths(verbs) +
         ") at+=\" ${COMP_WORDS[i]}\" ;;\n"
         "    esac\n"
         "  done\n" +
         cases(verbs) +
         "  COMPREPLY=()\n"
         "  if [[ -n $choices ]]; then\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$word\")\n"
         "  fi\n"
         "}\n"
         "complete -o default -F _whittle whittle  # files where nothing of ours fits\n";
}

std::string zsh(const std::vector<Verb>& verbs) {
  return "#compdef whittle\n"
         "# whittle for zsh. In ~/.zshrc, after compinit:  source <(whittle completion zsh)\n"
         "_whittle() {\n"
         "  local word=${words[CURRENT]} before=${words[CURRENT-1]}\n"
         "  local at=whittle i choices= files= options=\n"
         "  for ((i = 2; i < CURRENT; ++i)); do\n"
         "    case \"$at ${words[i]}\" in\n"
         "      " +
         paths(verbs) +
         ") at+=\" ${words[i]}\" ;;\n"
         "    esac\n"
         "  done\n" +
         cases(verbs) +
         "  if [[ -n $choices ]] && compadd -- ${=choices}; then return; fi\n"
         "  _files\n"
         "}\n"
         "compdef _whittle whittle\n";
}

std::string fish(const std::vector<Verb>& verbs) {
  std::string text =
      "# whittle for fish. In ~/.config/fish/config.fish:  whittle completion fish | source\n"
      "# The verb, with its sub-verb, that stands on the line is $argv.\n"
      "function __whittle_at\n"
      "  set -l at whittle\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$at $word\"\n"
      "      case " +
      [&] {
        std::string patterns = paths(verbs);
        for (size_t bar = patterns.find(" | "); bar != std::string::npos; bar = patterns.find(" | ", bar)) {
          patterns.erase(bar, 2);
        }
        return patterns;
      }() +
      "\n"
      "        set at \"$at $word\"\n"
      "    end\n"
      "  end\n"
      "  test \"$at\" = \"$argv\"\n"
      "end\n";
  for (const Verb& verb : verbs) {
    const std::string begin = "complete -c whittle -n \"__whittle_at " + verb.path + "\"";
    for (const std::string& below : verb.verbs) {
      const auto found = std::ranges::find(verbs, verb.path + " " + below, &Verb::path);
      text += begin + " -f -a " + below + " -d " + shell_quoted(found->help) + "\n";
    }
    if (!verb.words.empty()) {
      text += begin + " -f -a " + shell_quoted(joined(verb.words, " ")) + "\n";
    }
    for (const CLI::Option* option : verb.options) {
      text += begin;
      for (const std::string& name : option->get_lnames()) {
        text += " -l " + name;
      }
      for (const std::string& name : option->get_snames()) {
        text += " -s " + name;
      }
      if (takes_value(option)) {
        text += offered(option).empty() ? " -r" : " -x -a " + shell_quoted(joined(offered(option), " "));
      }
      text += " -d " + shell_quoted(option->get_description()) + "\n";
    }
  }
  return text;
}

}  // namespace

CLI::Option* offer(CLI::Option* option, std::vector<std::string> words) {
  offers()[option] = std::move(words);
  return option;
}

void add_completion(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("completion", "Print what a shell needs to complete whittle's command lines");
  const auto shell = std::make_shared<std::string>();
  const std::map<std::string, std::string (*)(const std::vector<Verb>&)> shells = {
      {"bash", bash}, {"fish", fish}, {"zsh", zsh}};
  offer(verb->add_option("SHELL", *shell, "bash, zsh or fish")->required(), {"bash", "zsh", "fish"});
  verb->callback([shell, shells, &program] {
    const auto found = shells.find(*shell);
    require(found != shells.end(), "completion", "there is no script for '", *shell, "'; there are bash, zsh and fish");
    std::vector<Verb> verbs;
    read(&program, program.get_name(), verbs);
    std::cout << found->second(verbs);
  });
  set_example(*verb, "whittle completion bash > whittle.bash && source whittle.bash");
}

}  // namespace whittle::apps
