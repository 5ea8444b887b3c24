#include "apps/file_kind.h"

#include <fstream>
#include <string_view>

#include "runtime/format.h"

namespace whittle::apps {

FileKind kind_of(const std::filesystem::path& file) {
  std::string first(32, '\0');
  std::ifstream stream(file, std::ios::binary);
  stream.read(first.data(), static_cast<std::streamsize>(first.size()));
  const std::string_view magic(reinterpret_cast<const char*>(runtime::kMagic), sizeof runtime::kMagic);
  const bool safetensors = first[6] == '\0' && first[7] == '\0' && first[8] == '{';  // behind the header's length
  return first.starts_with(magic)                                                            ? FileKind::kProgram
         : first.starts_with("SQLite format 3")                                              ? FileKind::kStore
         : first.starts_with("<!doctype html>")                                              ? FileKind::kPage
         : first.starts_with("epoch,rate,train_loss") || first.starts_with("id,begun,ended") ? FileKind::kTable
         : safetensors                                                                       ? FileKind::kNet
         : first.starts_with('{')                                                            ? FileKind::kDocument
                                                                                             : FileKind::kOther;
}

std::string name_of(FileKind kind) {
  switch (kind) {
    case FileKind::kNet:
      return "a checkpoint";
    case FileKind::kProgram:
      return "a program";
    case FileKind::kPage:
      return "a page";
    case FileKind::kTable:
      return "a table of epochs or runs";
    case FileKind::kStore:
      return "a store of runs";
    case FileKind::kDocument:
      return "a JSON document";
    case FileKind::kOther:
      break;
  }
  return "no file of ours";
}

}  // namespace whittle::apps
