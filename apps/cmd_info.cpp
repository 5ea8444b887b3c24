// whittle info: what this program was built with and what it runs on.

#include <fstream>
#include <iostream>
#include <memory>
#include <string>

#include "apps/cli.h"
#include "apps/text.h"
#include "core/blas.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/train_kernels.h"

namespace whittle::apps {

namespace {

std::string compiler() {
#if defined(__clang__)
  const char* name = "clang ";
  const int version[] = {__clang_major__, __clang_minor__, __clang_patchlevel__};
#else
  const char* name = "gcc ";
  const int version[] = {__GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__};
#endif
  return name + std::to_string(version[0]) + "." + std::to_string(version[1]) + "." + std::to_string(version[2]);
}

// x86 kernels report a "model name"; some Arm ones a "Model" or nothing but numbers.
std::string cpu_model() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.starts_with("model name") || line.starts_with("Model")) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) {
        return line.substr(colon + 2);
      }
    }
  }
  return "unknown";
}

void print_info(bool json) {
  const std::string blas(blas_backend().name);
  if (json) {
    std::cout << json_line({{"version", WHITTLE_VERSION},
                            {"compiler", compiler()},
                            {"cpu", cpu_model()},
                            {"threads", num_threads()},
                            {"parallel", parallel_backend()},
                            {"kernels", train_kernels().name},
                            {"blas", blas}})
              << '\n';
    return;
  }
  std::cout << "whittle   " << WHITTLE_VERSION << '\n'
            << "compiler  " << compiler() << '\n'
            << "cpu       " << printable(cpu_model()) << '\n'
            << "threads   " << num_threads() << " (" << parallel_backend() << ")\n"
            << "kernels   " << train_kernels().name << '\n'
            << "blas      " << blas << '\n';
}

}  // namespace

void add_info(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("info", "Print the version, the build and the machine");
  const auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print one line of JSON");
  verb->callback([json] { print_info(*json); });
  set_example(*verb, "whittle info --json");
}

}  // namespace whittle::apps
