#include "compress/json_file.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"

namespace whittle {

Json read_json(const char* op, const std::filesystem::path& path) {
  const std::vector<std::byte> bytes = read_file(path);
  const auto* const text = reinterpret_cast<const char*>(bytes.data());
  Json json = Json::parse(text, text + bytes.size(), nullptr, /*allow_exceptions=*/false);
  require(!json.is_discarded(), op, path.string(), " is not JSON");
  return json;
}

void write_json(const std::filesystem::path& path, const Json& json) {
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  replace_file(path, std::as_bytes(std::span(text)));
}

}  // namespace whittle
