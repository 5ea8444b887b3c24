// Files of JSON.
#pragma once

#include <filesystem>

#include "core/json_fwd.h"

namespace whittle {

// Throws Error, in the name of `op`, if the file cannot be read or is not JSON.
Json read_json(const char* op, const std::filesystem::path& path);

// Replaces the file as replace_file() does. Bytes that are no UTF-8 come out as U+FFFD.
void write_json(const std::filesystem::path& path, const Json& json);

}  // namespace whittle
