// Downloading a file whose content is known beforehand, by its SHA-256.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "core/real.h"

namespace whittle::inline WHITTLE_PRECISION::data {

struct FetchOptions {
  uint64_t max_bytes = uint64_t{1} << 32;
  int attempts = 3;             // transfers that may break off; each goes on where the last one stopped
  double connect_timeout = 20;  // seconds
  double stall_timeout = 30;    // seconds without a byte
  // Called as bytes arrive; `total` is 0 while unknown. An exception stops the download and comes
  // through; what has arrived is kept.
  std::function<void(uint64_t have, uint64_t total)> progress{};
};

enum class Fetched { kDownloaded, kWasThere };

// Gets `url` (http or https) into `path`. Bytes collect in `path`.part, which a later call
// goes on from, whatever stopped this one. Only when they have the right sum do they get
// their name, so a file called `path` is whole and right. A file of other content that
// already stands there is an error and stays. Throws Error in one sentence.
Fetched fetch(const std::string& url, const std::filesystem::path& path, const std::string& sha256,
              const FetchOptions& options = {});

}  // namespace whittle::inline WHITTLE_PRECISION::data
