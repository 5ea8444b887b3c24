// The name of the JSON type without its definition.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace whittle {
using Json = nlohmann::json;
}
