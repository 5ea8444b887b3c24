// The wrapper of SQLite, and the tables of the store (docs/runs.md).

#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "apps/runs/store.h"
#include "core/error.h"

namespace whittle::apps {

namespace {

// Says "a store of runs" in the header of the file, beside SQLite's own magic: "whtl".
constexpr int64_t kApplicationId = 0x7768746c;

// kMigrations[v] makes version v + 1 out of version v. What was released never changes.
constexpr const char* kMigrations[] = {R"sql(
CREATE TABLE runs(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  verb TEXT NOT NULL,
  status TEXT NOT NULL CHECK(status IN ('running', 'finished', 'interrupted', 'failed')),
  error TEXT NOT NULL,
  begun TEXT NOT NULL,
  ended TEXT NOT NULL,
  version TEXT NOT NULL,
  revision TEXT NOT NULL,
  cpu TEXT NOT NULL,
  threads INTEGER NOT NULL,
  model TEXT NOT NULL,
  data TEXT NOT NULL,
  config TEXT NOT NULL,
  given TEXT NOT NULL,
  config_hash TEXT NOT NULL,
  seed INTEGER,
  parent INTEGER REFERENCES runs(id),
  results TEXT NOT NULL);
CREATE TABLE metrics(
  run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
  stage TEXT NOT NULL, split TEXT NOT NULL, name TEXT NOT NULL,
  value REAL, samples INTEGER NOT NULL,
  PRIMARY KEY(run, stage, split, name)) WITHOUT ROWID;
CREATE TABLE points(
  run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
  part INTEGER NOT NULL, epoch INTEGER NOT NULL, name TEXT NOT NULL,
  value REAL,
  PRIMARY KEY(run, part, epoch, name)) WITHOUT ROWID;
CREATE TABLE files(
  run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK(role IN ('in', 'out')), path TEXT NOT NULL,
  bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
  PRIMARY KEY(run, role, path)) WITHOUT ROWID;
CREATE INDEX files_by_sum ON files(sha256);
CREATE TABLE latency(
  run INTEGER PRIMARY KEY REFERENCES runs(id) ON DELETE CASCADE,
  median_us REAL, p10_us REAL, p90_us REAL,
  repeats INTEGER NOT NULL, threads INTEGER NOT NULL, kernels TEXT NOT NULL);
CREATE TABLE answers(
  run INTEGER PRIMARY KEY REFERENCES runs(id) ON DELETE CASCADE,
  split TEXT NOT NULL, samples TEXT NOT NULL, number INTEGER NOT NULL, bits BLOB NOT NULL);
)sql"};
static_assert(std::size(kMigrations) == RunStore::kVersion);

// Someone else is at it; later it may work.
class Busy : public Error {
 public:
  using Error::Error;
};

std::string packed(const std::vector<bool>& right) {
  std::string bits((right.size() + 7) / 8, '\0');
  for (size_t i = 0; i < right.size(); ++i) {
    bits[i / 8] = static_cast<char>(bits[i / 8] | (right[i] ? 1 << (i % 8) : 0));
  }
  return bits;
}

std::vector<bool> unpacked(std::string_view bits, size_t number) {
  std::vector<bool> right(number);
  for (size_t i = 0; i < number; ++i) {
    right[i] = ((bits[i / 8] >> (i % 8)) & 1) != 0;
  }
  return right;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : " ") + word;
  }
  return text;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

// A number of a row that the program does not know as yet is null.
template <class Integer>
std::optional<int64_t> nullable(const std::optional<Integer>& value) {
  return value.has_value() ? std::optional(static_cast<int64_t>(*value)) : std::nullopt;
}

struct Blob {
  std::string_view bytes;
};

}  // namespace

// A connection. Errors name the file.
class RunStore::Database {
 public:
  // `name` is what SQLite is told, `file` what people are.
  Database(std::filesystem::path file, const std::filesystem::path& name, int flags) : file_(std::move(file)) {
    const int code = sqlite3_open_v2(name.c_str(), &handle_, flags | SQLITE_OPEN_PRIVATECACHE, nullptr);
    try {
      check(code);
    } catch (...) {
      sqlite3_close(handle_);
      throw;
    }
    sqlite3_busy_timeout(handle_, static_cast<int>(std::chrono::milliseconds(kPatience).count()));
    // The file may come from anywhere; its schema runs no functions of ours.
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database() { sqlite3_close(handle_); }

  const std::filesystem::path& file() const { return file_; }
  int64_t last_id() const { return sqlite3_last_insert_rowid(handle_); }

  void check(int code) const {
    if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) {
      return;
    }
    const std::string reason = handle_ != nullptr ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
    switch (code & 0xff) {  // the rest is detail
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
      case SQLITE_PROTOCOL:
        throw Busy("[runs] " + file_.string() + " is in use by others: " + reason);
      case SQLITE_NOTADB:
        fail("runs", file_.string(), " is not a store of runs");
      default:
        fail("runs", file_.string(), ": ", reason);
    }
  }

  void execute(const char* sql) const { check(sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr)); }

  class Statement;
  template <class... Values>
  void write(const char* sql, const Values&... values) const;
  int64_t number(const char* sql) const;

 private:
  std::filesystem::path file_;
  sqlite3* handle_ = nullptr;
};

class RunStore::Database::Statement {
 public:
  template <class... Values>
  Statement(const Database& database, const char* sql, const Values&... values) : database_(database) {
    database.check(sqlite3_prepare_v2(database.handle_, sql, -1, &statement_, nullptr));
    try {
      int at = 0;
      (bind(++at, values), ...);
    } catch (...) {
      sqlite3_finalize(statement_);
      throw;
    }
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  bool next() {
    const int code = sqlite3_step(statement_);
    database_.check(code);
    return code == SQLITE_ROW;
  }

  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::optional<int64_t> integer_or_null(int column) const {
    return is_null(column) ? std::nullopt : std::optional(integer(column));
  }
  // SQLite keeps "not a number" as null.
  double real(int column) const {
    return is_null(column) ? std::numeric_limits<double>::quiet_NaN() : sqlite3_column_double(statement_, column);
  }
  std::string text(int column) const {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return bytes == nullptr ? std::string()
                            : std::string(bytes, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }

 private:
  bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

  void bind(int at, int64_t value) { database_.check(sqlite3_bind_int64(statement_, at, value)); }
  void bind(int at, int value) { bind(at, int64_t{value}); }
  void bind(int at, double value) { database_.check(sqlite3_bind_double(statement_, at, value)); }
  void bind(int at, const std::string& value) {
    database_.check(sqlite3_bind_text64(statement_, at, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8));
  }
  void bind(int at, const Blob& value) {
    database_.check(sqlite3_bind_blob64(statement_, at, value.bytes.data(), value.bytes.size(), SQLITE_STATIC));
  }
  void bind(int at, const std::optional<int64_t>& value) {
    if (value.has_value()) {
      bind(at, *value);
    } else {
      database_.check(sqlite3_bind_null(statement_, at));
    }
  }

  const Database& database_;
  sqlite3_stmt* statement_ = nullptr;
};

template <class... Values>
void RunStore::Database::write(const char* sql, const Values&... values) const {
  Statement(*this, sql, values...).next();
}

int64_t RunStore::Database::number(const char* sql) const {
  Statement statement(*this, sql);
  require(statement.next(), "runs", file_.string(), ": ", sql, " gives nothing");
  return statement.integer(0);
}

namespace {

// Takes the right to write at once: a reader that wants to become a writer may be refused for good.
template <class Database, class Work>
void transaction(const Database& database, Work work) {
  database.execute("BEGIN IMMEDIATE");
  try {
    work();
    database.execute("COMMIT");
  } catch (...) {
    try {
      database.execute("ROLLBACK");
    } catch (const Error&) {  // SQLite has rolled back already; the first error is the one that matters
    }
    throw;
  }
}

// Is the file's version ours to read? An empty file is version 0.
template <class Database>
int64_t version_of(const Database& database) {
  const int64_t id = database.number("PRAGMA application_id");
  const int64_t version = database.number("PRAGMA user_version");
  const bool empty = id == 0 && version == 0 && database.number("SELECT count(*) FROM sqlite_schema") == 0;
  require(id == kApplicationId || empty, "runs", database.file().string(), " is not a store of runs");
  require(version >= 0 && version <= RunStore::kVersion, "runs", database.file().string(), " is a store of version ",
          version, ", and this program knows versions up to ", RunStore::kVersion);
  return version;
}

template <class Database>
void prepare(const Database& database, RunStore::Mode mode) {
  const int64_t version = version_of(database);
  if (mode == RunStore::Mode::kRead) {
    require(version > 0, "runs", database.file().string(), " is not a store of runs");
  }
  if (version < RunStore::kVersion) {
    // Readers and one writer then do not wait for one another. It is a property of the file.
    database.execute("PRAGMA journal_mode = WAL");
    transaction(database, [&] {
      for (int64_t v = version_of(database); v < RunStore::kVersion; ++v) {
        database.execute(kMigrations[v]);
      }
      database.execute(("PRAGMA application_id = " + std::to_string(kApplicationId)).c_str());
      database.execute(("PRAGMA user_version = " + std::to_string(RunStore::kVersion)).c_str());
    });
  }
  database.execute("PRAGMA foreign_keys = ON");
  // With a write-ahead log a loss of power may take the last transactions, and never the file.
  database.execute("PRAGMA synchronous = NORMAL");
  if (mode == RunStore::Mode::kRead) {
    database.execute("PRAGMA query_only = ON");
  }
}

// A path within a URI.
std::string escaped(const std::string& path) {
  std::string text;
  for (const char c : path) {
    text += c == '%' ? "%25" : c == '?' ? "%3f" : c == '#' ? "%23" : std::string(1, c);
  }
  return text;
}

template <class Database>
void write_points(const Database& database, int64_t run, const std::vector<RunPoint>& points) {
  for (const RunPoint& p : points) {
    database.write("INSERT OR REPLACE INTO points(run, part, epoch, name, value) VALUES(?, ?, ?, ?, ?)", run, p.part,
                   p.epoch, p.name, p.value);
  }
}

}  // namespace

bool RunStore::available() { return true; }

RunStore::RunStore(const std::filesystem::path& file, Mode mode) {
  std::error_code ignored;
  const std::filesystem::path folder = file.parent_path();
  require(!std::filesystem::is_directory(file, ignored), "runs", file.string(), " is a folder, not a store of runs");
  if (mode == Mode::kRead) {
    require(std::filesystem::exists(file, ignored), "runs", "there is no file ", file.string());
  } else {
    require(folder.empty() || std::filesystem::is_directory(folder, ignored), "runs", file.string(),
            " is in a folder that does not exist");
  }
  // A reader may have to write the log of a writer that was killed, so it asks for that right, too. Where nobody may
  // write, the file is read as it lies there.
  const bool locked = mode == Mode::kRead &&
                      (access(file.c_str(), W_OK) != 0 || access(folder.empty() ? "." : folder.c_str(), W_OK) != 0);
  const std::filesystem::path log = file.string() + "-wal";
  require(!locked || !std::filesystem::exists(log, ignored) || std::filesystem::file_size(log, ignored) == 0, "runs",
          file.string(), " has a log beside it that must be written back first, and may not be written");
  const std::filesystem::path name = locked ? "file:" + escaped(file.string()) + "?immutable=1" : file.string();
  const int flags = locked ? SQLITE_OPEN_READONLY | SQLITE_OPEN_URI
                           : SQLITE_OPEN_READWRITE | (mode == Mode::kWrite ? SQLITE_OPEN_CREATE : 0);
  // SQLite does not wait for everything it could wait for: changing the journal mode, for one.
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    try {
      database_ = std::make_unique<Database>(file, name, flags);
      prepare(*database_, mode);
      return;
    } catch (const Busy&) {
      database_.reset();
      if (std::chrono::steady_clock::now() > give_up) {
        throw;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

RunStore::~RunStore() = default;

int64_t RunStore::begin(const Run& run) {
  database_->write(
      "INSERT INTO runs(verb, status, error, begun, ended, version, revision, cpu, threads, model, data, config, given,"
      " config_hash, seed, parent, results) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      run.verb, run.status, run.error, run.begun, run.ended, run.version, run.revision, run.cpu, run.threads, run.model,
      run.data, run.config, joined(run.given), run.config_hash, nullable(run.seed), run.parent, run.results);
  return database_->last_id();
}

void RunStore::add_points(int64_t run, const std::vector<RunPoint>& points) {
  transaction(*database_, [&] { write_points(*database_, run, points); });
}

void RunStore::end(const Run& run) {
  transaction(*database_, [&] {
    database_->write("UPDATE runs SET status = ?, error = ?, ended = ?, results = ? WHERE id = ?", run.status,
                     run.error, run.ended, run.results, run.id);
    for (const RunMetric& m : run.metrics) {
      database_->write(
          "INSERT OR REPLACE INTO metrics(run, stage, split, name, value, samples) VALUES(?, ?, ?, ?, ?, ?)", run.id,
          m.stage, m.split, m.name, m.value, m.samples);
    }
    for (const RunFile& f : run.files) {
      database_->write("INSERT OR REPLACE INTO files(run, role, path, bytes, sha256) VALUES(?, ?, ?, ?, ?)", run.id,
                       f.role, f.path, static_cast<int64_t>(f.bytes), f.sha256);
    }
    write_points(*database_, run.id, run.points);
    if (run.latency.has_value()) {
      const RunLatency& l = *run.latency;
      database_->write(
          "INSERT OR REPLACE INTO latency(run, median_us, p10_us, p90_us, repeats, threads, kernels)"
          " VALUES(?, ?, ?, ?, ?, ?, ?)",
          run.id, l.median_us, l.p10_us, l.p90_us, l.repeats, l.threads, l.kernels);
    }
    if (run.answers.has_value()) {
      const std::string bits = packed(run.answers->right);
      database_->write("INSERT OR REPLACE INTO answers(run, split, samples, number, bits) VALUES(?, ?, ?, ?, ?)",
                       run.id, run.answers->split, run.answers->samples,
                       static_cast<int64_t>(run.answers->right.size()), Blob{bits});
    }
  });
}

namespace {

constexpr const char* kColumns =
    "SELECT id, verb, status, error, begun, ended, version, revision, cpu, threads, model, data, config, given,"
    " config_hash, seed, parent, results FROM runs ";

template <class Statement>
Run run_from(const Statement& row) {
  Run run;
  run.id = row.integer(0);
  run.verb = row.text(1);
  run.status = row.text(2);
  run.error = row.text(3);
  run.begun = row.text(4);
  run.ended = row.text(5);
  run.version = row.text(6);
  run.revision = row.text(7);
  run.cpu = row.text(8);
  run.threads = static_cast<int>(row.integer(9));
  run.model = row.text(10);
  run.data = row.text(11);
  run.config = row.text(12);
  run.given = split(row.text(13));
  run.config_hash = row.text(14);
  if (const std::optional<int64_t> seed = row.integer_or_null(15); seed.has_value()) {
    run.seed = static_cast<uint64_t>(*seed);
  }
  run.parent = row.integer_or_null(16);
  run.results = row.text(17);
  return run;
}

// Metrics, files and latency of runs that are sorted by number.
template <class Statement, class Database>
void add_parts(const Database& database, std::vector<Run>& runs) {
  const auto run_of = [&runs](int64_t id) -> Run* {
    const auto found = std::ranges::lower_bound(runs, id, {}, &Run::id);
    return found != runs.end() && found->id == id ? &*found : nullptr;
  };
  Statement metrics(database, "SELECT run, stage, split, name, value, samples FROM metrics");
  while (metrics.next()) {
    if (Run* run = run_of(metrics.integer(0)); run != nullptr) {
      run->metrics.push_back({.stage = metrics.text(1),
                              .split = metrics.text(2),
                              .name = metrics.text(3),
                              .value = metrics.real(4),
                              .samples = metrics.integer(5)});
    }
  }
  Statement files(database, "SELECT run, role, path, bytes, sha256 FROM files");
  while (files.next()) {
    if (Run* run = run_of(files.integer(0)); run != nullptr) {
      run->files.push_back({.role = files.text(1),
                            .path = files.text(2),
                            .bytes = static_cast<uint64_t>(files.integer(3)),
                            .sha256 = files.text(4)});
    }
  }
  Statement latency(database, "SELECT run, median_us, p10_us, p90_us, repeats, threads, kernels FROM latency");
  while (latency.next()) {
    if (Run* run = run_of(latency.integer(0)); run != nullptr) {
      run->latency = RunLatency{.median_us = latency.real(1),
                                .p10_us = latency.real(2),
                                .p90_us = latency.real(3),
                                .repeats = latency.integer(4),
                                .threads = static_cast<int>(latency.integer(5)),
                                .kernels = latency.text(6)};
    }
  }
}

}  // namespace

std::vector<Run> RunStore::list() const {
  // One view of the file, whatever others write meanwhile.
  database_->execute("BEGIN");
  std::vector<Run> runs;
  {
    Database::Statement row(*database_, (std::string(kColumns) + "ORDER BY id").c_str());
    while (row.next()) {
      runs.push_back(run_from(row));
    }
    add_parts<Database::Statement>(*database_, runs);
  }
  database_->execute("COMMIT");
  return runs;
}

Run RunStore::read(int64_t id) const {
  std::vector<Run> one;
  {
    Database::Statement row(*database_, (std::string(kColumns) + "WHERE id = ?").c_str(), id);
    require(row.next(), "runs", database_->file().string(), " has no run ", id);
    one.push_back(run_from(row));
  }
  add_parts<Database::Statement>(*database_, one);
  Run& run = one.front();
  Database::Statement points(
      *database_, "SELECT part, epoch, name, value FROM points WHERE run = ? ORDER BY part, epoch, name", id);
  while (points.next()) {
    run.points.push_back(
        {.part = points.integer(0), .epoch = points.integer(1), .name = points.text(2), .value = points.real(3)});
  }
  Database::Statement answers(*database_, "SELECT split, samples, number, bits FROM answers WHERE run = ?", id);
  if (answers.next()) {
    const int64_t number = answers.integer(2);
    const std::string bits = answers.text(3);
    require(number >= 0 && static_cast<uint64_t>(number) <= 8 * uint64_t{bits.size()}, "runs",
            database_->file().string(), ": the answers of run ", id, " are damaged");
    run.answers = RunAnswers{
        .split = answers.text(0), .samples = answers.text(1), .right = unpacked(bits, static_cast<size_t>(number))};
  }
  return run;
}

std::optional<int64_t> RunStore::maker_of(const std::string& sha256) const {
  Database::Statement row(*database_, "SELECT max(run) FROM files WHERE role = 'out' AND sha256 = ?", sha256);
  return row.next() ? row.integer_or_null(0) : std::nullopt;
}

}  // namespace whittle::apps
