// What a file is, by its first bytes: never by its name, which a slip of the tab key gets wrong.
#pragma once

#include <filesystem>
#include <string>

namespace whittle::apps {

enum class FileKind {
  kNet,       // a checkpoint, or another file of safetensors
  kProgram,   // .wtl
  kPage,      // of HTML
  kTable,     // of epochs or runs, as --log and --csv write it
  kStore,     // of runs
  kDocument,  // JSON, as compress leaves it
  kOther      // also a file that cannot be read
};

FileKind kind_of(const std::filesystem::path& file);

// "a checkpoint"; of kOther "no file of ours".
std::string name_of(FileKind kind);

}  // namespace whittle::apps
