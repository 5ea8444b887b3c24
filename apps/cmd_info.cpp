// whittle info: what this program was built with and what it runs on.

#include <iostream>
#include <memory>
#include <string>

#include "apps/cli.h"
#include "apps/machine.h"
#include "apps/text.h"
#include "core/blas.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/train_kernels.h"
#include "runtime/hosted/choose.h"

namespace whittle::apps {

namespace {

void print_info(bool json) {
  const std::string blas(blas_backend().name);
  if (json) {
    std::cout << json_line({{"version", WHITTLE_VERSION},
                            {"compiler", compiler()},
                            {"cpu", cpu_model()},
                            {"threads", num_threads()},
                            {"parallel", parallel_backend()},
                            {"kernels", train_kernels().name},
                            {"program_kernels", runtime::choose_kernels().int8->name},
                            {"blas", blas}})
              << '\n';
    return;
  }
  std::cout << "whittle   " << WHITTLE_VERSION << '\n'
            << "compiler  " << compiler() << '\n'
            << "cpu       " << printable(cpu_model()) << '\n'
            << "threads   " << num_threads() << " (" << parallel_backend() << ")\n"
            << "kernels   " << train_kernels().name << " (training), " << runtime::choose_kernels().int8->name
            << " (programs)\n"
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
