// The one door to the JSON library (nlohmann/json). Heavy: include it in .cpp
// files; headers take core/json_fwd.h.
#pragma once

#include <nlohmann/json.hpp>

#include "core/json_fwd.h"
