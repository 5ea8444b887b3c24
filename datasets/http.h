// One GET over http or https, as a stream of bytes. The wrapper of libcurl is
// http_curl.cpp; a build without it has http_none.cpp, where everything fails politely.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace whittle {

struct HttpRequest {
  std::string url;                    // http:// or https://
  uint64_t from = 0;                  // ask for the bytes from here on (a Range header)
  uint64_t max_bytes = 0;             // of the answer; more is an error
  double connect_timeout = 20;        // seconds
  double stall_timeout = 30;          // seconds with less than a byte per second arriving
  std::function<void()> restarted{};  // the server sends the whole file although a part was asked for
  // Takes the next bytes; `total` is the size of the whole file if the server said so, else 0.
  std::function<void(std::span<const std::byte> bytes, uint64_t total)> receive{};
};

struct HttpResult {
  int status = 0;       // 200, 206, 404, ...; 0 if no answer came
  std::string error{};  // why the transfer failed; empty if it did not
};

bool http_available();
HttpResult http_get(const HttpRequest& request);  // exceptions of receive and restarted come through

}  // namespace whittle
