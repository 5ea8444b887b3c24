// whittle: the library's verbs on the command line.

#include <csignal>
#include <exception>
#include <iostream>

#include "apps/cli.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

int run(int argc, char** argv) {
  CLI::App program("Trains, prunes and quantizes small networks and runs them in integer arithmetic.", "whittle");
  program.set_version_flag("--version", "whittle " WHITTLE_VERSION, "Print the version and exit");
  program.require_subcommand(1);
  program.footer("`whittle VERB --help` explains a verb and shows an example.");
  whittle::apps::add_train(program);
  whittle::apps::add_eval(program);
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
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return program.exit(help);
  } catch (const CLI::ParseError& error) {
    std::cerr << "whittle: " << error.what() << " (whittle --help lists the verbs)\n";
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
