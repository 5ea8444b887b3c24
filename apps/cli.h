// The command line: what the verbs share, and the one door to CLI11.
//
// A verb is a file cmd_<verb>.cpp with one function add_<verb>(), which describes
// the arguments and hangs up a callback. Callbacks throw: whittle::Error (or any
// std::exception) ends the program with one sentence on stderr and exit code 1.
// Wrong usage is CLI11's to find and ends with exit code 2. Work that a signal
// stopped, and that can be gone on with, ends as shells expect it: 128 + signal.
//
// Results go to stdout. With --json the last line of stdout is one JSON object.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "core/error.h"

namespace whittle::apps {

class Interrupted : public Error {
 public:
  Interrupted(int signal, const std::string& sentence) : Error(sentence), signal_(signal) {}
  int exit_code() const { return 128 + signal_; }

 private:
  int signal_;
};

void add_bench(CLI::App& program);
void add_completion(CLI::App& program);
void add_compress(CLI::App& program);
void add_data(CLI::App& program);
void add_doctor(CLI::App& program);
void add_eval(CLI::App& program);
void add_explain(CLI::App& program);
void add_export(CLI::App& program);
void add_inspect(CLI::App& program);
void add_predict(CLI::App& program);
void add_prune(CLI::App& program);
void add_quantize(CLI::App& program);
void add_report(CLI::App& program);
void add_runs(CLI::App& program);
void add_train(CLI::App& program);

// Every verb's --help ends with an example that can be pasted.
inline void set_example(CLI::App& verb, const std::string& example) { verb.footer("Example:\n  " + example); }

// What was typed, options in the order of --help: fit to be pasted into a shell.
std::string command_line(const CLI::App& verb);

// What an option or argument can be where it is one of a few words: `whittle completion` tells shells. The value is
// checked by whoever uses it.
CLI::Option* offer(CLI::Option* option, std::vector<std::string> words);

}  // namespace whittle::apps
