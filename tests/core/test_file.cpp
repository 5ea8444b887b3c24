// Replacing and reading files, with every system call made to fail, and with the
// power cut after every one of them.

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/crc.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "tests/support/message.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace whittle {

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

Bytes random_bytes(uint64_t seed, size_t count) {
  Bytes bytes(count);
  for (size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>(random_bits({.seed = seed}, i));
  }
  return bytes;
}

std::string save_message(const fs::path& path, const Bytes& bytes, FileSystem& files = posix_file_system()) {
  return message_of([&] {
    replace_file(path, bytes, files);
    return 0;
  });
}
std::string read_message(const fs::path& path, uint64_t limit = 1000) {
  return message_of([&] { return read_file(path, limit); });
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

mode_t mode_of(const fs::path& path) { return static_cast<mode_t>(fs::status(path).permissions()) & 0777; }

// Fails chosen calls and counts all of them. `close` still closes: a real one
// that fails has closed, too.
class FaultyFileSystem : public FileSystem {
 public:
  int64_t first_fault = -1;  // the number of the call, from 0
  int64_t last_fault = -1;
  int error = ENOSPC;
  std::vector<std::string> calls;

  int create(const std::string& path, int mode) override {
    return call("create") ? -error : FileSystem::create(path, mode);
  }
  int64_t write(int file, std::span<const std::byte> bytes) override {
    return call("write") ? -error : FileSystem::write(file, bytes.first(std::min<size_t>(bytes.size(), 400)));
  }
  int sync(int file) override { return call("sync") ? -error : FileSystem::sync(file); }
  int close(int file) override {
    const bool fault = call("close");
    const int result = FileSystem::close(file);
    return fault ? -error : result;
  }
  int rename(const std::string& from, const std::string& to) override {
    return call("rename") ? -error : FileSystem::rename(from, to);
  }
  int sync_folder(const std::string& path) override {
    return call("sync_folder") ? -error : FileSystem::sync_folder(path);
  }
  int remove(const std::string& path) override { return call("remove") ? -error : FileSystem::remove(path); }

 private:
  bool call(const char* name) {
    const auto number = static_cast<int64_t>(calls.size());
    calls.emplace_back(name);
    return number >= first_fault && number <= last_fault;
  }
};

// Interrupts and shortens writes, as signals and quotas do.
class StutteringFileSystem : public FileSystem {
 public:
  explicit StutteringFileSystem(Rng rng) : rng_(rng) {}
  int create(const std::string& path, int mode) override {
    return rng_.below(2) == 0 ? -EINTR : FileSystem::create(path, mode);
  }
  int64_t write(int file, std::span<const std::byte> bytes) override {
    if (rng_.below(3) == 0) {
      return -EINTR;
    }
    const auto part = static_cast<size_t>(rng_.between(1, static_cast<int64_t>(bytes.size())));
    return FileSystem::write(file, bytes.first(part));
  }

 private:
  Rng rng_;
};

// ---- A model of losing power ----------------------------------------------------

// What a disk was asked to do, in order. Contents belong to an inode; a folder
// maps names to inodes.
struct Operation {
  enum Kind { kCreate, kWrite, kSync, kRename, kSyncFolder, kRemove } kind;
  size_t inode = 0;
  std::string name;  // rename: from
  std::string to;
  Bytes bytes;
};

// Performs every call and writes it down. The two switches forget one kind of
// call, as a save without it would.
class RecordingFileSystem : public FileSystem {
 public:
  std::vector<Operation> log;
  bool forget_sync = false;
  bool forget_sync_folder = false;

  int create(const std::string& path, int mode) override {
    const int file = FileSystem::create(path, mode);
    inodes_[file] = ++newest_;
    log.push_back({.kind = Operation::kCreate, .inode = newest_, .name = path, .to = {}, .bytes = {}});
    return file;
  }
  int64_t write(int file, std::span<const std::byte> bytes) override {
    const auto part = bytes.first(std::min<size_t>(bytes.size(), 300));
    log.push_back(
        {.kind = Operation::kWrite, .inode = inodes_[file], .name = {}, .to = {}, .bytes = {part.begin(), part.end()}});
    return FileSystem::write(file, part);
  }
  int sync(int file) override {
    if (!forget_sync) {
      log.push_back({.kind = Operation::kSync, .inode = inodes_[file], .name = {}, .to = {}, .bytes = {}});
    }
    return FileSystem::sync(file);
  }
  int rename(const std::string& from, const std::string& to) override {
    log.push_back({.kind = Operation::kRename, .inode = 0, .name = from, .to = to, .bytes = {}});
    return FileSystem::rename(from, to);
  }
  int sync_folder(const std::string& path) override {
    if (!forget_sync_folder) {
      log.push_back({.kind = Operation::kSyncFolder, .inode = 0, .name = path, .to = {}, .bytes = {}});
    }
    return FileSystem::sync_folder(path);
  }
  int remove(const std::string& path) override {
    log.push_back({.kind = Operation::kRemove, .inode = 0, .name = path, .to = {}, .bytes = {}});
    return FileSystem::remove(path);
  }

 private:
  std::map<int, size_t> inodes_;
  size_t newest_ = 0;
};

// Everything `target` may hold when power fails after the first `done`
// operations; nullopt is "no file". Only what was synced is sure to survive:
// later bytes of a file may be missing, torn or zero, and of the changes to the
// folder since its last sync any subset may have reached the disk.
std::set<std::optional<Bytes>> crash_states(const std::vector<Operation>& log, size_t done, const std::string& target,
                                            const std::optional<Bytes>& before) {
  struct Inode {
    Bytes content;
    size_t synced = 0;  // bytes
  };
  std::map<size_t, Inode> inodes;
  std::map<std::string, size_t> names;  // now
  std::map<std::string, size_t> durable;
  struct FolderChange {
    std::optional<std::string> removed;
    std::optional<std::string> added;
    size_t inode;
  };
  std::vector<FolderChange> pending;
  if (before.has_value()) {
    inodes[0] = {.content = *before, .synced = before->size()};
    names[target] = durable[target] = 0;
  }
  const auto apply = [](std::map<std::string, size_t>& folder, const FolderChange& change) {
    if (change.removed) {
      folder.erase(*change.removed);
    }
    if (change.added) {
      folder[*change.added] = change.inode;
    }
  };
  for (size_t i = 0; i < done; ++i) {
    const Operation& op = log[i];
    std::optional<FolderChange> change;
    switch (op.kind) {
      case Operation::kCreate:
        inodes[op.inode] = {};
        change = {.removed = {}, .added = op.name, .inode = op.inode};
        break;
      case Operation::kWrite:
        inodes[op.inode].content.insert(inodes[op.inode].content.end(), op.bytes.begin(), op.bytes.end());
        break;
      case Operation::kSync:
        inodes[op.inode].synced = inodes[op.inode].content.size();
        break;
      case Operation::kRename:
        change = {.removed = op.name, .added = op.to, .inode = names.at(op.name)};
        break;
      case Operation::kRemove:
        change = {.removed = op.name, .added = {}, .inode = 0};
        break;
      case Operation::kSyncFolder:
        durable = names;
        pending.clear();
        break;
    }
    if (change) {
      apply(names, *change);
      pending.push_back(*change);
    }
  }

  std::set<std::optional<Bytes>> states;
  for (size_t subset = 0; subset < (size_t{1} << pending.size()); ++subset) {
    auto folder = durable;
    for (size_t i = 0; i < pending.size(); ++i) {
      if ((subset >> i & 1) != 0) {
        apply(folder, pending[i]);
      }
    }
    const auto found = folder.find(target);
    if (found == folder.end()) {
      states.insert(std::nullopt);
      continue;
    }
    const Inode& inode = inodes.at(found->second);
    const auto at = [&](size_t bytes) { return inode.content.begin() + static_cast<ptrdiff_t>(bytes); };
    const size_t torn = (inode.synced + inode.content.size()) / 2;
    Bytes zeros(inode.content.begin(), at(inode.synced));
    zeros.resize(inode.content.size());
    states.insert(Bytes(inode.content.begin(), at(inode.synced)));
    states.insert(Bytes(inode.content.begin(), at(torn)));
    states.insert(std::move(zeros));
    states.insert(inode.content);
  }
  return states;
}

// Runs `body` in a child process, which may change what belongs to a process;
// returns its exit status (body's result, or 99 if it threw), or -signal.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 99;
    try {
      result = body();
    } catch (...) {
    }
    ::_exit(result);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

uint32_t crc32c_bit_by_bit(std::span<const std::byte> bytes) {
  uint32_t crc = 0xffffffff;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
    }
  }
  return ~crc;
}

}  // namespace

TEST_SUITE("file") {
  TEST_CASE("crc32c gives the values of RFC 3720") {
    CHECK(crc32c({}) == 0);
    CHECK(crc32c(std::as_bytes(std::span("123456789", 9))) == 0xe3069283);
    CHECK(crc32c(Bytes(32, std::byte{0})) == 0x8a9136aa);
    CHECK(crc32c(Bytes(32, std::byte{0xff})) == 0x62a8ab43);
    Bytes ascending(32);
    for (size_t i = 0; i < 32; ++i) {
      ascending[i] = static_cast<std::byte>(i);
    }
    CHECK(crc32c(ascending) == 0x46dd794e);
    std::reverse(ascending.begin(), ascending.end());
    CHECK(crc32c(ascending) == 0x113fdb5c);
  }

  TEST_CASE("crc32c equals the bitwise definition, whole and in blocks") {
    CAPTURE(test_seed());
    Rng rng(RngKey{.seed = test_seed()}.child("crc"));
    for (int round = 0; round < 500; ++round) {
      const Bytes bytes = random_bytes(rng.bits(), static_cast<size_t>(rng.below(300)));
      const auto cut = static_cast<size_t>(rng.below(static_cast<int64_t>(bytes.size()) + 1));
      const std::span<const std::byte> all = bytes;
      const uint32_t expected = crc32c_bit_by_bit(bytes);
      CHECK(crc32c(bytes) == expected);
      CHECK(crc32c(all.subspan(cut), crc32c(all.first(cut))) == expected);
    }
  }

  TEST_CASE("replace_file makes and replaces files of any size") {
    const TempFolder folder;
    const fs::path path = folder / "with spaces \xc3\xa4.bin";
    for (const size_t size : std::vector<size_t>{0, 1, 4095, 4096, 300'000}) {
      const Bytes bytes = random_bytes(size, size);
      replace_file(path, bytes);
      CHECK(read_file(path) == bytes);
    }
    CHECK(names_in(folder.path()).size() == 1);

    const fs::path relative = fs::relative(folder / "relative.bin");
    replace_file(relative, Bytes(3));
    CHECK(read_file(folder / "relative.bin") == Bytes(3));
  }

  TEST_CASE("replace_file keeps permissions and follows the umask for new files") {
    const TempFolder folder;
    const mode_t umask_before = ::umask(0027);
    replace_file(folder / "new", Bytes(3));
    ::umask(umask_before);
    CHECK(mode_of(folder / "new") == 0640);
    for (const mode_t mode : {0600U, 0666U, 0755U}) {
      fs::permissions(folder / "new", static_cast<fs::perms>(mode));
      replace_file(folder / "new", Bytes(4));
      CHECK(mode_of(folder / "new") == mode);
    }
    fs::permissions(folder / "new", static_cast<fs::perms>(0444));
    CHECK(contains(save_message(folder / "new", Bytes(5)), "new: it is read-only"));
    CHECK(read_file(folder / "new").size() == 4);
  }

  TEST_CASE("replace_file writes through a symbolic link") {
    const TempFolder folder;
    fs::create_directory(folder / "elsewhere");
    replace_file(folder / "elsewhere/real", Bytes(1));
    fs::create_symlink("elsewhere/real", folder / "link");
    replace_file(folder / "link", Bytes(2));
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(read_file(folder / "elsewhere/real") == Bytes(2));
    CHECK(names_in(folder / "elsewhere").size() == 1);

    fs::create_symlink("nowhere", folder / "dangling");
    CHECK(contains(save_message(folder / "dangling", Bytes(3)), "dangling is a symbolic link to nothing"));
    fs::create_symlink("loop", folder / "loop");
    CHECK(contains(save_message(folder / "loop", Bytes(3)), "loop is a symbolic link to nothing"));
  }

  TEST_CASE("replace_file says what is wrong with a path") {
    const TempFolder folder;
    fs::create_directory(folder / "folder");
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    const auto refused = [&](const fs::path& path, const std::string& phrase) {
      const std::string message = save_message(path, Bytes(3));
      CAPTURE(message);
      CHECK(contains(message, phrase));
      CHECK(contains(message, path.string()));
    };
    refused("", "names no file");
    refused(folder / "folder/", "names no file");
    refused(folder / "folder", "exists and is not a regular file");
    refused(folder / "pipe", "exists and is not a regular file");
    refused(folder / "missing/file", "there is no folder");
    refused(folder / "pipe/file", "there is no folder");
    refused(folder / std::string(255, 'n'), "File name too long");
    if (::geteuid() != 0) {  // root may write anywhere
      fs::permissions(folder / "folder", static_cast<fs::perms>(0555));
      refused(folder / "folder/file", "Permission denied");
      fs::permissions(folder / "folder", static_cast<fs::perms>(0755));
    }
    CHECK(names_in(folder.path()) == std::set<std::string>{"folder", "pipe"});
  }

  TEST_CASE("read_file reads regular files up to its limit and nothing else") {
    const TempFolder folder;
    const Bytes bytes = random_bytes(7, 1000);
    replace_file(folder / "file", bytes);
    CHECK(read_file(folder / "file", 1000) == bytes);
    CHECK(contains(read_message(folder / "file", 999), "file: its 1000 bytes are above the limit of 999"));
    CHECK(contains(read_message(folder / "missing"), "missing: No such file or directory"));
    CHECK(contains(read_message(folder.path()), "it is not a regular file"));
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(contains(read_message(folder / "pipe"), "pipe: it is not a regular file"));  // and does not wait
    CHECK(contains(read_message("/dev/zero"), "it is not a regular file"));
    // Files of /proc call themselves empty and are not: like one that grows.
    CHECK(contains(read_message("/proc/self/status"), "its size changed meanwhile"));
    CHECK(contains(read_message("/proc/self/mem"), "mem: Input/output error"));
    // A file of holes: nothing is allocated before the limit is checked.
    fs::resize_file(folder / "file", uintmax_t{1} << 40);
    CHECK(contains(read_message(folder / "file", uint64_t{1} << 34), "above the limit"));
  }

  TEST_CASE("whichever system call fails, the old or the new file is there, whole") {
    const size_t descriptors = names_in("/proc/self/fd").size();
    const Bytes before = random_bytes(1, 900);
    const Bytes after = random_bytes(2, 1000);
    for (const bool exists : {true, false}) {
      for (const int error : {ENOSPC, EIO, EINTR}) {
        std::vector<std::string> failed;
        for (int64_t fault = 0;; ++fault) {
          const TempFolder folder;
          if (exists) {
            replace_file(folder / "file", before);
          }
          FaultyFileSystem files;
          files.first_fault = files.last_fault = fault;
          files.error = error;
          const std::string message = save_message(folder / "file", after, files);
          const auto name =
              static_cast<size_t>(fault) < files.calls.size() ? files.calls[static_cast<size_t>(fault)] : "";
          CAPTURE(name);
          CAPTURE(message);
          const std::string whole_name = (folder / "file").string();
          const bool retried = error == EINTR && (name == "create" || name == "write");
          CHECK(std::count(files.calls.begin(), files.calls.end(), "sync") <= 1);
          if (name.empty() || retried) {
            CHECK(message == "no error");
            CHECK(read_file(folder / "file") == after);
          } else if (name == "sync_folder") {
            CHECK(contains(message, whole_name + " was saved, but a power failure may bring back the old file"));
            CHECK(read_file(folder / "file") == after);
          } else {
            CHECK(contains(message, whole_name + " was not saved and is as before"));
            CHECK(fs::exists(folder / "file") == exists);
            if (exists) {
              CHECK(read_file(folder / "file") == before);
            }
          }
          CHECK(names_in(folder.path()).size() <= 1);  // no temporary file
          if (name.empty()) {
            break;
          }
          failed.push_back(name);
        }
        CHECK(failed ==
              std::vector<std::string>{"create", "write", "write", "write", "sync", "close", "rename", "sync_folder"});
      }
    }
    CHECK(names_in("/proc/self/fd").size() == descriptors);  // and none left open
  }

  TEST_CASE("a disk that fails for good loses nothing either") {
    const Bytes before = random_bytes(1, 900);
    for (int64_t fault = 0; fault < 8; ++fault) {
      const TempFolder folder;
      replace_file(folder / "file", before);
      FaultyFileSystem files;
      files.first_fault = fault;
      files.last_fault = 1000;  // and the temporary file cannot be removed
      CHECK(save_message(folder / "file", random_bytes(2, 1000), files) != "no error");
      CHECK(read_file(folder / "file") == (fault == 7 ? random_bytes(2, 1000) : before));
    }
  }

  TEST_CASE("interrupted and short writes are completed; one that writes nothing is an error") {
    CAPTURE(test_seed());
    const TempFolder folder;
    StutteringFileSystem files(Rng(RngKey{.seed = test_seed()}.child("stutter")));
    for (size_t size = 1; size < 200'000; size *= 3) {
      const Bytes bytes = random_bytes(size, size);
      replace_file(folder / "file", bytes, files);
      CHECK(read_file(folder / "file") == bytes);
    }
    struct : FileSystem {
      int64_t write(int, std::span<const std::byte>) override { return 0; }
    } stuck;
    CHECK(contains(save_message(folder / "file", Bytes(5), stuck), "Input/output error"));
    CHECK(names_in(folder.path()).size() == 1);
  }

  TEST_CASE("losing power after any operation leaves the old or the new file, whole") {
    const Bytes first = random_bytes(1, 1000);
    const Bytes second = random_bytes(2, 1100);
    const TempFolder folder;
    const std::string target = (folder / "file").string();

    // Every state every prefix may leave; `bad` counts the states that lose data.
    const auto count_bad = [&](RecordingFileSystem& files, const std::optional<Bytes>& before, const Bytes& after) {
      int bad = 0;
      size_t states = 0;
      for (size_t done = 0; done <= files.log.size(); ++done) {
        for (const auto& state : crash_states(files.log, done, target, before)) {
          ++states;
          const bool acknowledged = done == files.log.size();
          bad += state == std::optional(after) || (state == before && !acknowledged) ? 0 : 1;
        }
      }
      CHECK(states > files.log.size());
      return bad;
    };

    RecordingFileSystem fresh;
    replace_file(target, first, fresh);
    CHECK(count_bad(fresh, std::nullopt, first) == 0);
    RecordingFileSystem replacing;
    replace_file(target, second, replacing);
    CHECK(count_bad(replacing, first, second) == 0);

    // The model must notice what it is there to notice.
    RecordingFileSystem without_sync;
    without_sync.forget_sync = true;
    replace_file(target, second, without_sync);
    CHECK(count_bad(without_sync, first, second) > 0);
    RecordingFileSystem without_sync_folder;
    without_sync_folder.forget_sync_folder = true;
    replace_file(target, second, without_sync_folder);
    CHECK(count_bad(without_sync_folder, first, second) > 0);
  }

  TEST_CASE("temporary files of killed processes are removed, those of others are not") {
    const pid_t dead = ::fork();
    if (dead == 0) {
      ::_exit(0);
    }
    ::waitpid(dead, nullptr, 0);
    const std::string dead_name = "file.tmp-" + std::to_string(dead);
    const TempFolder folder;
    const auto old = fs::file_time_type::clock::now() - std::chrono::hours(2);
    const std::set<std::string> kept = {
        "file.tmp-" + std::to_string(::getpid()) + "-999999",  // a living process
        "file.tmp-1-0",
        "file.tmp-0-0",
        "file.tmp--1-0",
        dead_name,
        dead_name + "-",
        dead_name + "-0x",
        dead_name + "x0",
        dead_name + "-0.safetensors",
        "file.tmp-99999999999999999999-0",
        "other.tmp-" + std::to_string(dead) + "-0",  // of another target
    };
    for (const std::string& name : kept) {
      replace_file(folder / name, Bytes(1));
      fs::last_write_time(folder / name, old);
    }
    for (const char* suffix : {"-0", "-12345"}) {
      replace_file(folder / (dead_name + suffix), Bytes(1));
      fs::last_write_time(folder / (dead_name + suffix), old);
    }
    replace_file(folder / (dead_name + "-7"), Bytes(1));  // young
    replace_file(folder / "file", Bytes(2));
    std::set<std::string> expected = kept;
    expected.insert({"file", dead_name + "-7"});
    CHECK(names_in(folder.path()) == expected);
  }

  TEST_CASE("a left-over with the same name is stepped over") {
    // The counter is private, so occupy the next few hundred names.
    const TempFolder folder;
    struct : FileSystem {
      int refusals = 0;
      int create(const std::string& path, int mode) override {
        if (refusals++ < 300) {
          Bytes taken(1);
          const int file = FileSystem::create(path, mode);
          FileSystem::close(file);
        }
        return FileSystem::create(path, mode);
      }
    } files;
    replace_file(folder / "file", Bytes(3), files);
    CHECK(read_file(folder / "file") == Bytes(3));
    CHECK(names_in(folder.path()).size() == 301);
  }

  TEST_CASE("two threads may save to one path: one of them wins, whole") {
    const TempFolder folder;
    std::set<Bytes> candidates;
    for (uint64_t i = 0; i < 40; ++i) {
      candidates.insert(random_bytes(i, 5000 + i));
    }
    parallel_for(40, [&](int64_t tile) {
      const auto seed = static_cast<uint64_t>(tile);
      replace_file(folder / "file", random_bytes(seed, 5000 + seed));
    });
    CHECK(candidates.contains(read_file(folder / "file")));
    CHECK(names_in(folder.path()).size() == 1);
  }

  TEST_CASE("a full disk keeps the old file") {
    const TempFolder folder;
    const Bytes before = random_bytes(1, 400'000);
    constexpr int kNoTmpfs = 42;
    const int result = in_child([&] {
      // A mount of its own kind that disappears with this child.
      if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=600k") != 0) {
        return kNoTmpfs;
      }
      replace_file(folder / "file", before);
      const std::string message = save_message(folder / "file", random_bytes(2, 400'000));
      return contains(message, "file was not saved and is as before: cannot write: No space left on device") &&
                     read_file(folder / "file") == before && names_in(folder.path()).size() == 1
                 ? 0
                 : 1;
    });
    if (result == kNoTmpfs) {
      MESSAGE("skipped: only root may mount a small tmpfs");
      return;
    }
    CHECK(result == 0);
  }

  TEST_CASE("a limit on file size keeps the old file if SIGXFSZ is ignored") {
    const TempFolder folder;
    const Bytes before = random_bytes(1, 4000);
    replace_file(folder / "file", before);
    const auto save_above_limit = [&] {
      const rlimit limit = {.rlim_cur = 100'000, .rlim_max = 100'000};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      return contains(save_message(folder / "file", random_bytes(2, 400'000)), "cannot write: File too large") ? 0 : 1;
    };
    const int ignoring = in_child([&] {
      std::signal(SIGXFSZ, SIG_IGN);
      return save_above_limit();
    });
    CHECK(ignoring == 0);
    CHECK(names_in(folder.path()).size() == 1);
    const int dying = in_child([&] {
      std::signal(SIGXFSZ, SIG_DFL);
      return save_above_limit();
    });
    CHECK(dying == -SIGXFSZ);
    CHECK(read_file(folder / "file") == before);
  }
}

}  // namespace whittle
