// The wrapper of libcurl.
#include <curl/curl.h>

#include <array>
#include <exception>
#include <memory>

#include "datasets/http.h"

namespace whittle {

namespace {

struct Transfer {
  const HttpRequest& request;
  CURL* curl;
  uint64_t received = 0;
  bool too_large = false;
  std::exception_ptr failure{};
};

// Called by C code, through which no exception may pass: it is kept for http_get.
size_t take_bytes(char* bytes, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const HttpRequest& request = transfer.request;
  const size_t arrived = size * count;
  try {
    long status = 0;
    curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
    const bool whole = status == 200;
    if (transfer.received == 0 && whole && request.from > 0) {
      request.restarted();
    }
    transfer.received += arrived;
    if (transfer.received > request.max_bytes) {
      transfer.too_large = true;
      return 0;
    }
    curl_off_t announced = -1;
    curl_easy_getinfo(transfer.curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
    const uint64_t total = announced < 0 ? 0 : static_cast<uint64_t>(announced) + (whole ? 0 : request.from);
    request.receive(std::as_bytes(std::span(bytes, arrived)), total);
    return arrived;
  } catch (...) {
    transfer.failure = std::current_exception();
    return 0;
  }
}

}  // namespace

bool http_available() { return true; }

HttpResult http_get(const HttpRequest& request) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(started == CURLE_OK ? curl_easy_init() : nullptr,
                                                    &curl_easy_cleanup);
  if (curl == nullptr) {
    return {.status = 0, .error = "libcurl cannot start"};
  }
  Transfer transfer{.request = request, .curl = curl.get()};
  std::array<char, CURL_ERROR_SIZE> message{};
  const auto milliseconds = [](double seconds) { return static_cast<long>(1000 * seconds); };
  curl_easy_setopt(curl.get(), CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");  // also where a redirect leads
  curl_easy_setopt(curl.get(), CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_MAXREDIRS, 5L);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);  // the page of a 404 is not the file
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_USERAGENT, "whittle");
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT_MS, milliseconds(request.connect_timeout));
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_LOW_SPEED_TIME, milliseconds(request.stall_timeout) / 1000);
  // A plain range: with libcurl's own resuming, a server that sends the whole file is an error.
  const std::string range = std::to_string(request.from) + '-';
  if (request.from > 0) {
    curl_easy_setopt(curl.get(), CURLOPT_RANGE, range.c_str());
  }
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, message.data());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, &take_bytes);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &transfer);

  const CURLcode code = curl_easy_perform(curl.get());
  if (transfer.failure != nullptr) {
    std::rethrow_exception(transfer.failure);
  }
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  HttpResult result{.status = static_cast<int>(status)};
  if (transfer.too_large) {
    result.error = "the answer is larger than " + std::to_string(request.max_bytes) + " bytes";
  } else if (code != CURLE_OK) {
    result.error = message[0] != '\0' ? message.data() : curl_easy_strerror(code);
  }
  return result;
}

}  // namespace whittle
