// Programs (.wtl) on data sets: what verbs need beyond the runtime.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/tensor.h"
#include "datasets/dataset.h"
#include "layers/module.h"
#include "runtime/hosted/engine.h"
#include "train/evaluate.h"

namespace whittle::apps {

// A checkpoint, for verbs that cannot take a program.
Checkpoint load_net(const char* verb, const std::string& file);

// The threads of core/parallel.h, for an Engine.
runtime::Threads threads_for_engine(int count);

class ProgramFile {
 public:
  explicit ProgramFile(const std::filesystem::path& file, const runtime::Threads& threads = {});
  // One that is not on a disk; errors call it `name`.
  ProgramFile(std::vector<uint8_t> bytes, std::string name, const runtime::Threads& threads = {});

  const runtime::Engine& engine() const { return *engine_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  // A checkpoint without tensors: what the exporter wrote about model and data.
  const Checkpoint& about() const { return about_; }

  // Refuses a program of several inputs or outputs. What follows does so, too.
  void require_one_each() const;
  int64_t batch() const;  // samples that a run computes

  // One sample [1, ...]: floats in, floats out; codes are made and read on the way (A2, A3).
  // The bytes in between go where `bytes` says, if it does.
  struct Bytes {
    std::span<uint8_t> input, output;
  };
  Tensor run(const Tensor& sample, const Bytes& bytes = {}) const;
  // The first half of that: the bytes of the program's input.
  void write_input(const Tensor& sample, std::span<uint8_t> to) const;

 private:
  std::vector<uint8_t> bytes_;
  std::unique_ptr<runtime::Engine> engine_;
  Checkpoint about_;
  std::string file_;
};

// What a program remembers of its checkpoint: enough to find data and scale inputs.
std::string program_metadata_of(const Checkpoint& checkpoint);

// Input and output of each sample as the program has them, one after the other.
struct RunBytes {
  std::vector<uint8_t> inputs, outputs;

  void save(const std::string& name) const;  // as NAME.in and NAME.out
};
// Whether each answer is right is appended to `right`, if it is there.
Metrics evaluate(const ProgramFile& program, const data::Dataset& data, RunBytes* bytes = nullptr,
                 std::vector<bool>* right = nullptr);

// A model as verbs are given one: a program, or a checkpoint of a model of the zoo.
struct SavedModel {
  std::optional<ProgramFile> program;
  std::shared_ptr<Module> model;  // where it is no program
  Checkpoint checkpoint;          // of a program: what it says about itself

  explicit SavedModel(const std::string& file);

  // Outputs for one sample [1, ...]. A program's bytes are appended to `bytes`, if it is there.
  Tensor run(const Tensor& sample, RunBytes* bytes = nullptr) const;
};

}  // namespace whittle::apps
