// Reading and replacing files so that nothing a user made is lost by a crash.
//
// replace_file() writes to a temporary file in the same folder, fsyncs it,
// renames it over the target and fsyncs the folder. Whenever the process or the
// machine stops, the target holds the old bytes or the new bytes, whole. A
// failed fsync is never retried (the kernel may already have dropped the pages).
//
// It keeps the permissions of the file it replaces and writes through a
// symbolic link. It does not keep owner, hard links or extended attributes: the
// new bytes live in a new file. docs/checkpoint.md states what is promised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace whittle {

// The system calls replace_file() makes, so that tests can fail each of them.
// Functions return 0 (create: a descriptor >= 0; write: bytes written) or -errno.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // A new file, write-only; fails if it exists. Permissions `mode`, or what the
  // umask leaves of 0666 if negative.
  virtual int create(const std::string& path, int mode);
  virtual int64_t write(int file, std::span<const std::byte> bytes);
  virtual int sync(int file);
  virtual int close(int file);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int sync_folder(const std::string& path);
  virtual int remove(const std::string& path);
};
FileSystem& posix_file_system();

// Throws Error naming the path and the reason; the temporary file is removed.
// After an Error the target holds the old bytes, with one exception that says
// so: where only the last step failed, the fsync of the folder, it holds the new.
void replace_file(const std::filesystem::path& path, std::span<const std::byte> bytes,
                  FileSystem& files = posix_file_system());

// A file is often written after long work, which is late to learn that it cannot be: throws Error where `path` is a
// folder, a device or lies in no folder. `what` is what the user called it. An empty path is no file at all.
void check_place(const std::filesystem::path& path, const char* op, const char* what);

// With those above it; one that is there is left as it is. Throws Error where it cannot be made.
void make_folder(const std::filesystem::path& folder, const char* op);

// The whole of a regular file. Throws Error if it cannot be read, is larger than
// `limit` or changes its size meanwhile.
std::vector<std::byte> read_file(const std::filesystem::path& path, uint64_t limit = uint64_t{1} << 34);

}  // namespace whittle
