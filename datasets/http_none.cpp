// Stands in for http_curl.cpp where libcurl is missing.
#include "datasets/http.h"

namespace whittle {

bool http_available() { return false; }

HttpResult http_get(const HttpRequest& /*request*/) {
  return {.status = 0, .error = "this build has no libcurl (libcurl4-openssl-dev), so it cannot download"};
}

}  // namespace whittle
