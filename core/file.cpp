#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <new>
#include <string_view>
#include <system_error>

#include "core/error.h"

namespace whittle {

namespace fs = std::filesystem;

namespace {

int or_errno(int result) { return result < 0 ? -errno : result; }

std::string reason(int64_t negative_errno) {
  return std::generic_category().message(static_cast<int>(-negative_errno));
}

// The temporary file: closed and removed on every way out but success.
class Temporary {
 public:
  Temporary(FileSystem& files, const fs::path& target, int mode) : files_(files), target_(target.string()) {
    // Unique among living processes by pid and counter; left-overs of a dead
    // process that had the same pid are stepped over.
    static std::atomic<uint64_t> counter{0};
    do {
      path_ = target_ + ".tmp-" + std::to_string(::getpid()) + '-' + std::to_string(counter++);
      file_ = files_.create(path_, mode);
    } while (file_ == -EEXIST || file_ == -EINTR);
    check(file_, "cannot create a temporary file beside it");
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (file_ >= 0) {
      files_.close(file_);
    }
    if (!renamed_) {
      files_.remove(path_);
    }
  }

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const int64_t written = files_.write(file_, bytes);
      if (written != -EINTR) {
        check(written == 0 ? -EIO : written, "cannot write");  // 0 would repeat for ever
        bytes = bytes.subspan(static_cast<size_t>(written));
      }
    }
  }

  void sync_and_close() {
    check(files_.sync(file_), "cannot sync");  // not even EINTR is retried
    const int result = files_.close(file_);
    file_ = -1;  // closed even if that failed
    check(result, "cannot close");
  }

  void rename() {
    check(files_.rename(path_, target_), "cannot rename the temporary file");
    renamed_ = true;
  }

 private:
  void check(int64_t result, const char* what) const {
    if (result < 0) {
      fail("file", target_, " was not saved and is as before: ", what, ": ", reason(result));
    }
  }

  FileSystem& files_;
  std::string target_;
  std::string path_;
  int file_ = -1;
  bool renamed_ = false;
};

// Deletes what killed processes left beside `target`. The pid alone would not
// do: a container or another machine that shares the folder counts its own. So
// a left-over must also be an hour old. Best effort; failing here is no error.
void remove_leftovers(FileSystem& files, const fs::path& target) {
  const std::string prefix = target.filename().string() + ".tmp-";
  const auto hour_ago = fs::file_time_type::clock::now() - std::chrono::hours(1);
  std::error_code error;
  for (fs::directory_iterator entry(target.parent_path(), error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix)) {
      continue;
    }
    pid_t pid = 0;
    uint64_t count = 0;
    const char* const last = name.data() + name.size();
    const auto [dash, pid_error] = std::from_chars(name.data() + prefix.size(), last, pid);
    if (pid_error != std::errc() || pid <= 0 || dash == last || *dash != '-') {
      continue;
    }
    const auto [rest, count_error] = std::from_chars(dash + 1, last, count);
    const bool ours = count_error == std::errc() && rest == last;
    if (ours && ::kill(pid, 0) != 0 && errno == ESRCH && entry->last_write_time(error) < hour_ago && !error) {
      files.remove(entry->path().string());
    }
  }
}

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) {
      ::close(value);
    }
  }
};

}  // namespace

int FileSystem::create(const std::string& path, int mode) {
  const int file = or_errno(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file >= 0 && mode >= 0 && ::fchmod(file, static_cast<mode_t>(mode)) != 0) {
    const int error = -errno;
    ::close(file);
    ::unlink(path.c_str());
    return error;
  }
  return file;
}
int64_t FileSystem::write(int file, std::span<const std::byte> bytes) {
  const ssize_t written = ::write(file, bytes.data(), bytes.size());
  return written < 0 ? -errno : written;
}
int FileSystem::sync(int file) { return or_errno(::fsync(file)); }
int FileSystem::close(int file) { return or_errno(::close(file)); }
int FileSystem::rename(const std::string& from, const std::string& to) {
  return or_errno(::rename(from.c_str(), to.c_str()));
}
int FileSystem::sync_folder(const std::string& path) {
  const Descriptor folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const int result = or_errno(folder.value < 0 ? -1 : ::fsync(folder.value));
  return result == -EINVAL ? 0 : result;  // a file system without this call has nothing to sync
}
int FileSystem::remove(const std::string& path) { return or_errno(::unlink(path.c_str())); }

FileSystem& posix_file_system() {
  static FileSystem files;
  return files;
}

void check_place(const fs::path& path, const char* op, const char* what) {
  if (path.empty()) {
    return;
  }
  std::error_code ignored;
  const fs::path folder = path.parent_path();
  require(folder.empty() || fs::is_directory(folder, ignored), op, what, " ", path.string(),
          " is in a folder that does not exist");
  require(path.has_filename() && !fs::is_directory(path, ignored), op, what, " ", path.string(),
          " is a folder, not a file");
  require(!fs::exists(path, ignored) || fs::is_regular_file(path, ignored), op, what, " ", path.string(),
          " is a device or the like, not a regular file");
}

void make_folder(const fs::path& folder, const char* op) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, op, "the folder ", folder.string(), " cannot be made: ", error.message());
}

void replace_file(const fs::path& path, std::span<const std::byte> bytes, FileSystem& files) {
  require(path.has_filename(), "file", "'", path.string(), "' names no file to save to");
  std::error_code error;
  // Writing through a link means replacing what it points to: the link stays.
  const bool is_link = fs::is_symlink(fs::symlink_status(path, error));
  const fs::path target = is_link ? fs::canonical(path, error) : fs::absolute(path, error);
  require(!is_link || !error, "file", path.string(), " is a symbolic link to nothing");
  const fs::path folder = target.parent_path();
  require(fs::is_directory(folder, error), "file", "cannot save ", path.string(), ": there is no folder ",
          folder.string());
  const fs::file_status status = fs::status(target, error);
  int mode = -1;
  if (fs::exists(status)) {
    require(fs::is_regular_file(status), "file", "cannot save ", path.string(),
            ": it exists and is not a regular file");
    mode = static_cast<int>(status.permissions()) & 0777;
    // rename() would not ask; who takes away the right to write means it.
    require((mode & 0222) != 0, "file", "cannot save ", path.string(), ": it is read-only");
  }

  remove_leftovers(files, target);
  Temporary temporary(files, target, mode);
  temporary.write(bytes);
  temporary.sync_and_close();
  temporary.rename();
  if (const int synced = files.sync_folder(folder.string()); synced < 0) {
    fail("file", target.string(), " was saved, but a power failure may bring back the old file: cannot sync ",
         folder.string(), ": ", reason(synced));
  }
}

std::vector<std::byte> read_file(const fs::path& path, uint64_t limit) {
  const std::string name = path.string();
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const Descriptor file{::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  if (file.value < 0 || ::fstat(file.value, &status) != 0) {
    fail("file", "cannot read ", name, ": ", reason(-errno));
  }
  require(S_ISREG(status.st_mode), "file", "cannot read ", name, ": it is not a regular file");
  const auto size = static_cast<uint64_t>(status.st_size);
  require(size <= limit, "file", "cannot read ", name, ": its ", size, " bytes are above the limit of ", limit);

  std::vector<std::byte> bytes;
  try {
    bytes.resize(size);
  } catch (const std::bad_alloc&) {
    fail("file", "cannot read ", name, ": no memory for its ", size, " bytes");
  }
  std::byte beyond{};  // one byte more must not come
  for (size_t have = 0;;) {
    const bool full = have == size;
    const ssize_t got = ::read(file.value, full ? &beyond : bytes.data() + have, full ? 1 : size - have);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      fail("file", "cannot read ", name, ": ", reason(-errno));
    }
    require((got == 0) == full, "file", "cannot read ", name, ": its size changed meanwhile");
    if (full) {
      return bytes;
    }
    have += static_cast<size_t>(got);
  }
}

}  // namespace whittle
