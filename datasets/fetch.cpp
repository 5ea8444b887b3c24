#include "datasets/fetch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/error.h"
#include "core/file.h"
#include "datasets/http.h"
#include "datasets/sha256.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace fs = std::filesystem;

namespace {

// The unfinished file: opened for appending, and locked, so that two programs do not
// write one after the other into it.
class PartFile {
 public:
  explicit PartFile(const fs::path& path) : path_(path) {
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    check(file_ >= 0, "cannot be opened");
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(file_, F_SETLK, &lock) != 0) {
      ::close(file_);
      fail("fetch", path.string(), ": another program is downloading it");
    }
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;
  ~PartFile() { ::close(file_); }

  uint64_t size() const {
    const off_t end = ::lseek(file_, 0, SEEK_END);
    check(end >= 0, "cannot be measured");
    return static_cast<uint64_t>(end);
  }
  void clear() { check(::ftruncate(file_, 0) == 0, "cannot be emptied"); }
  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(file_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) {
        continue;
      }
      check(written > 0, "cannot be written");
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }
  void sync() { check(::fsync(file_) == 0, "cannot be synced"); }

 private:
  void check(bool good, const char* what) const {
    if (!good) {
      fail("fetch", path_.string(), ": ", what, ": ", std::generic_category().message(errno));
    }
  }
  fs::path path_;
  int file_ = -1;
};

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Will asking again not help? Not found, not allowed, gone.
bool is_final(int status) { return status >= 400 && status < 500 && status != 408 && status != 429; }

// Transfers until the server has sent everything. Returns whether all bytes came in this call.
bool transfer(const std::string& url, PartFile& part, const FetchOptions& options) {
  bool all_new = part.size() == 0;
  for (int attempt = 1;; ++attempt) {
    HttpRequest request{.url = url, .from = part.size(), .max_bytes = options.max_bytes};
    request.connect_timeout = options.connect_timeout;
    request.stall_timeout = options.stall_timeout;
    uint64_t have = request.from;
    request.restarted = [&] {
      part.clear();
      have = 0;
      all_new = true;
    };
    request.receive = [&](std::span<const std::byte> bytes, uint64_t total) {
      part.append(bytes);
      have += bytes.size();
      if (options.progress) {
        options.progress(have, total);
      }
    };
    const HttpResult result = http_get(request);
    if (result.error.empty()) {
      return all_new;
    }
    constexpr int kRangeNotSatisfiable = 416;  // we already have all there is, or more
    if (result.status == kRangeNotSatisfiable && request.from > 0) {
      return false;
    }
    const uint64_t kept = part.size();
    require(attempt < options.attempts && !is_final(result.status), "fetch", url, ": ", result.error,
            kept > 0 ? "; " + std::to_string(kept) + " bytes are kept, the next call goes on from there" : "");
  }
}

}  // namespace

Fetched fetch(const std::string& url, const fs::path& path, const std::string& sha256, const FetchOptions& options) {
  require(url.starts_with("http://") || url.starts_with("https://"), "fetch", "'", url, "' is not an http address");
  require(is_sha256(sha256), "fetch", url, ": '", sha256, "' is not a SHA-256 in 64 lowercase hex digits");
  require(path.has_filename() && options.attempts >= 1, "fetch", "'", path.string(), "' names no file to save to, or ",
          options.attempts, " attempts are too few");
  if (fs::exists(path)) {
    const std::string found = sha256_of_file(path);
    require(found == sha256, "fetch", path.string(), ": is there with other content (SHA-256 ", found, ", not ", sha256,
            "); move it away first");
    return Fetched::kWasThere;
  }
  require(http_available(), "fetch", url, ": this build has no libcurl (libcurl4-openssl-dev), so it cannot download");
  std::error_code error;
  const fs::path folder = fs::absolute(path).parent_path();
  fs::create_directories(folder, error);
  require(!error, "fetch", folder.string(), ": cannot be made: ", error.message());

  fs::path part_path = path;
  part_path += ".part";
  PartFile part(part_path);
  bool all_new = transfer(url, part, options);
  std::string found = sha256_of_file(part_path);
  if (found != sha256 && !all_new) {
    // What an earlier call left may be of another file: once more, from the start.
    part.clear();
    transfer(url, part, options);
    found = sha256_of_file(part_path);
  }
  if (found != sha256) {
    part.clear();
    fs::remove(part_path, error);
    fail("fetch", url, ": what came has SHA-256 ", found, ", not ", sha256, "; it was thrown away");
  }
  part.sync();
  fs::rename(part_path, path, error);
  require(!error, "fetch", path.string(), ": cannot be given its name: ", error.message());
  posix_file_system().sync_folder(folder.string());
  return Fetched::kDownloaded;
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
