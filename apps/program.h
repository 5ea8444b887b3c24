// Programs (.wtl) on data sets: what verbs need beyond the runtime.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/tensor.h"
#include "datasets/dataset.h"
#include "runtime/hosted/engine.h"
#include "train/evaluate.h"

namespace whittle::apps {

// By its first bytes.
bool is_program(const std::filesystem::path& file);

class ProgramFile {
 public:
  explicit ProgramFile(const std::filesystem::path& file);

  const runtime::Engine& engine() const { return *engine_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  // A checkpoint without tensors: what the exporter wrote about model and data.
  const Checkpoint& about() const { return about_; }

  // One sample [1, ...]: floats in, floats out; codes are made and read on the way (A2, A3).
  Tensor run(const Tensor& sample) const;

 private:
  std::vector<uint8_t> bytes_;
  std::unique_ptr<runtime::Engine> engine_;
  Checkpoint about_;
  std::string file_;
};

Metrics evaluate(const ProgramFile& program, const data::Dataset& data);

}  // namespace whittle::apps
