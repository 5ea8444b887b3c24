// whittle inspect: what is in a checkpoint.

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>

#include "apps/cli.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string file;
  bool json = false;
  bool foreign = false;
};

struct Inspected {
  Checkpoint checkpoint;
  bool checksums = true;
};

// A foreign file is only accepted where asked for; one of ours is checked either way.
Inspected load(const Options& options) {
  if (!options.foreign) {
    return {load_checkpoint(options.file)};
  }
  try {
    return {load_checkpoint(options.file)};
  } catch (const Error&) {
    return {load_checkpoint(options.file, {.allow_foreign = true}), false};
  }
}

uint64_t total_bytes(const Checkpoint& checkpoint) {
  uint64_t total = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    total += tensor.bytes.size();
  }
  return total;
}

void print_json(const Options& options, const Inspected& inspected) {
  Json tensors = Json::array();
  for (const auto& [name, tensor] : inspected.checkpoint.tensors) {
    tensors.push_back({{"name", name},
                       {"dtype", std::string(dtype_name(tensor.dtype))},
                       {"shape", std::vector<int64_t>(tensor.shape.dims().begin(), tensor.shape.dims().end())},
                       {"bytes", tensor.bytes.size()}});
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : inspected.checkpoint.metadata) {
    metadata[key] = value;
  }
  std::cout << json_line({{"file", options.file},
                          {"checksums", inspected.checksums ? "ok" : "none"},
                          {"bytes", total_bytes(inspected.checkpoint)},
                          {"tensors", std::move(tensors)},
                          {"metadata", std::move(metadata)}})
            << '\n';
}

void print_table(const Inspected& inspected) {
  const auto& [tensors, metadata] = inspected.checkpoint;
  size_t name_width = 0;
  size_t shape_width = 0;
  for (const auto& [name, tensor] : tensors) {
    name_width = std::max(name_width, printable(name).size());
    shape_width = std::max(shape_width, tensor.shape.str().size());
  }
  for (const auto& [name, tensor] : tensors) {
    std::cout << std::left << std::setw(static_cast<int>(name_width)) << printable(name) << "  " << std::setw(4)
              << dtype_name(tensor.dtype) << "  " << std::setw(static_cast<int>(shape_width)) << tensor.shape.str()
              << std::right << "  " << std::setw(9) << human_bytes(tensor.bytes.size()) << '\n';
  }
  if (!metadata.empty()) {
    std::cout << "metadata: ";
    const char* separator = "";
    for (const auto& [key, value] : metadata) {
      std::cout << separator << printable(key) << " (" << human_bytes(value.size()) << ')';
      separator = ", ";
    }
    std::cout << '\n';
  }
  std::cout << tensors.size() << (tensors.size() == 1 ? " tensor, " : " tensors, ")
            << human_bytes(total_bytes(inspected.checkpoint))
            << (inspected.checksums ? ", checksums ok\n" : ", a foreign file without checksums\n");
}

}  // namespace

void add_inspect(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("inspect", "List the tensors of a checkpoint and verify its checksums");
  const auto options = std::make_shared<Options>();
  verb->add_option("FILE", options->file, "A checkpoint (.safetensors)")->required();
  verb->add_flag("--json", options->json, "Print one line of JSON");
  verb->add_flag("--foreign", options->foreign, "Accept a safetensors file that has no checksums of ours");
  verb->callback([options] {
    const Inspected inspected = load(*options);
    if (options->json) {
      print_json(*options, inspected);
    } else {
      print_table(inspected);
    }
  });
  set_example(*verb, "whittle inspect model.safetensors");
}

}  // namespace whittle::apps
