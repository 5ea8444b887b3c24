// whittle: the library's verbs on the command line.

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/outputs.h"
#include "apps/text.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

// What was not understood, on which verb's line, and what may have been meant.
std::string complaint(const CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* verb = &program;
  std::string path = "whittle";
  while (verb->remaining().empty() && !verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().front();
    path += " " + verb->get_name();
  }
  const std::vector<std::string> unknown = verb->remaining();
  if (unknown.empty()) {
    for (const CLI::Option* option : verb->get_options()) {
      if (const size_t given = option->results().size();
          given > static_cast<size_t>(option->get_items_expected_max()) && option->get_items_expected_max() == 1) {
        return path + ": " + option->get_name() + " is given " + std::to_string(given) + " times; give it once";
      }
    }
    return path + ": " + error.what() + " (" + path + " --help explains it)";
  }
  std::vector<std::string> names;
  for (const CLI::App* below : verb->get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(below->get_name());
  }
  for (const CLI::Option* option : verb->get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  const std::string meant = whittle::apps::nearest(unknown.front().substr(0, unknown.front().find('=')), names);
  return path + ": '" + whittle::apps::printable(unknown.front()) + "' is not known here" +
         (meant.empty() ? "" : ", did you mean " + meant + "?") + " (" + path + " --help lists what is)";
}

// Also words that people try: `whittle help` and `whittle help VERB`.
std::vector<std::string> words_of(const CLI::App& program, int argc, char** argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (!words.empty() && words.front() == "help") {
    words.erase(words.begin());
    const auto is_meant = [&](const CLI::App* verb) { return words.empty() || verb->get_name() == words.front(); };
    if (!program.get_subcommands(is_meant).empty()) {
      words.emplace_back("--help");
    }
  }
  return words;
}

// CLI11 takes "-1" for the largest of the numbers without a sign, and cuts down what is too large.
void check_whole_numbers(const CLI::App& verb) {
  for (const CLI::App* app = &verb; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      const bool natural = option->get_type_name() == "UINT";
      if (!natural && option->get_type_name() != "INT") {
        continue;
      }
      for (const std::string& text : option->results()) {
        errno = 0;
        (void)(natural ? std::strtoull(text.c_str(), nullptr, 0)
                       : static_cast<unsigned long long>(std::strtoll(text.c_str(), nullptr, 0)));
        whittle::require(errno != ERANGE && !(natural && text.find('-') != std::string::npos), verb.get_name(),
                         option->get_name(), " ", whittle::apps::printable(text), " is not from ",
                         natural ? "0 to 2^64 - 1" : "-2^63 to 2^63 - 1");
      }
    }
  }
}

int run(int argc, char** argv) {
  CLI::App program("Trains, prunes and quantizes small networks and runs them in integer arithmetic.", "whittle");
  program.set_version_flag("--version", "whittle " WHITTLE_VERSION, "Print the version and exit");
  program.require_subcommand(1);
  program.footer("`whittle VERB --help` explains a verb and shows an example.");
  whittle::apps::add_train(program);
  whittle::apps::add_eval(program);
  whittle::apps::add_predict(program);
  whittle::apps::add_prune(program);
  whittle::apps::add_quantize(program);
  whittle::apps::add_compress(program);
  whittle::apps::add_export(program);
  whittle::apps::add_inspect(program);
  whittle::apps::add_explain(program);
  whittle::apps::add_bench(program);
  whittle::apps::add_data(program);
  whittle::apps::add_runs(program);
  whittle::apps::add_report(program);
  whittle::apps::add_doctor(program);
  whittle::apps::add_completion(program);
  // Between parsing and the verbs' own callbacks.
  program.parse_complete_callback([&program] {
    const CLI::App* verb = &program;
    while (!verb->get_subcommands().empty()) {
      verb = verb->get_subcommands().front();
    }
    check_whole_numbers(*verb);
    whittle::apps::check_outputs(*verb);
  });
  try {
    std::vector<std::string> words = words_of(program, argc, argv);
    std::ranges::reverse(words);  // as CLI11 takes them
    program.parse(words);
  } catch (const CLI::Success& help) {
    return program.exit(help);
  } catch (const CLI::ParseError& error) {
    if (argc == 1) {
      std::cerr << program.help();
    } else {
      std::cerr << complaint(program, error) << '\n';
    }
    return kUsage;
  }
  // A full disk or a closed pipe shows only now.
  if (!std::cout.flush()) {
    std::cerr << "whittle: the output could not be written\n";
    return kFailure;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // A file that outgrows its limit is then an error of write(), with a sentence of
  // its own and the old file intact, and not the end of the program.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const whittle::apps::Interrupted& stopped) {
    std::cerr << "whittle: " << stopped.what() << '\n';
    return stopped.exit_code();
  } catch (const std::exception& error) {
    std::cerr << "whittle: " << error.what() << '\n';
    return kFailure;
  }
}
