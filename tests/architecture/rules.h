// The shape of the code base, as data. test_tree.cpp holds the tree against it.
//
// A rule that is in the way is changed here, in the same commit and with a reason.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace whittle::architecture {

// Which folders (or single files) a folder may include besides itself: downwards
// only. Every folder with C++ in it has a line here. What the table forbids matters
// most: layers never see quant or prune, quant and prune never see one another,
// optimizers never see layers, and what runs on a device sees nothing hosted.
inline const std::map<std::string, std::vector<std::string>> kMayInclude = {
    {"kernels", {}},
    {"runtime", {"kernels"}},
    {"core", {"kernels"}},
    {"optim", {"core"}},
    {"datasets", {"core"}},
    {"layers", {"core", "kernels/functions.h"}},
    {"prune", {"core", "layers"}},
    {"quant", {"core", "layers", "kernels/arithmetic.h"}},
    {"train", {"core", "layers", "optim", "datasets"}},
    {"deploy", {"core", "layers", "quant", "kernels", "runtime"}},
    {"compress", {"core", "layers", "optim", "datasets", "quant", "prune", "train", "kernels", "runtime", "deploy"}},
    {"apps",
     {"core", "layers", "optim", "datasets", "quant", "prune", "train", "kernels", "runtime", "deploy", "compress"}},
    {"tests",
     {"core", "layers", "optim", "datasets", "quant", "prune", "train", "kernels", "runtime", "deploy", "compress",
      "apps"}},
    {"bench",
     {"core", "layers", "optim", "datasets", "quant", "prune", "train", "kernels", "runtime", "deploy", "compress",
      "tests"}},
};

// Programs, which may print and may use a test or benchmark library.
inline const std::set<std::string> kPrograms = {"apps", "tests", "bench"};

// Folders that must build where there is no operating system.
inline const std::set<std::string> kFreestanding = {"kernels", "runtime"};

// Except for what hosts add to them, in libraries of their own that no device links.
inline const std::vector<std::string> kHostedCorners = {"kernels/hosted/", "runtime/hosted/"};

// All that the runtime and its kernels may leave to whoever links them: compilers call these unasked.
inline const std::set<std::string> kFreestandingSymbols = {"memcpy", "memmove", "memset", "memcmp",
                                                           "_GLOBAL_OFFSET_TABLE_"};

// <string.h> is for the memory functions, which compilers expect to exist anyway.
inline const std::set<std::string> kFreestandingHeaders = {
    "stddef.h", "stdint.h", "limits.h", "float.h", "string.h", "cstddef",     "cstdint",     "climits", "cfloat",
    "cstring",  "limits",   "bit",      "array",   "span",     "type_traits", "immintrin.h", "cpuid.h", "arm_neon.h",
};

// A library of someone else is included in one file of ours, which is where it can
// be replaced. A name that ends in a slash stands for everything below it.
inline const std::map<std::string, std::string> kWrappers = {
    {"cblas.h", "core/blas_openblas.cpp"},         // OpenBLAS
    {"omp.h", "core/parallel.cpp"},                // OpenMP
    {"pthread.h", "core/parallel.cpp"},            // fork() and threads
    {"nlohmann/json.hpp", "core/json.h"},          // JSON
    {"nlohmann/json_fwd.hpp", "core/json_fwd.h"},  // its name alone
    {"zlib.h", "datasets/source_gzip.cpp"},        // gzip
    {"lzma.h", "datasets/source_xz.cpp"},          // xz
    {"turbojpeg.h", "datasets/picture_jpeg.cpp"},  // JPEG
    {"stb/", "datasets/picture_stb.cpp"},          // PNG and BMP
    {"curl/", "datasets/http_curl.cpp"},           // downloads
    {"CLI/", "apps/cli.h"},                        // CLI11, command lines
    {"sqlite3.h", "apps/runs/store_sqlite.cpp"},   // SQLite, the experiment store
};

// Of the operating system and the compiler, hosted code uses these. (The C++ standard
// library is free to all hosted folders.)
inline const std::set<std::string> kSystemHeaders = {
    "fcntl.h",    "sched.h",    "signal.h",
    "sys/mman.h", "sys/stat.h", "sys/types.h",
    "sys/wait.h", "unistd.h",   "sanitizer/asan_interface.h",
};

// Threads are started and locked in few places; everything else calls parallel_for.
// <atomic> is not in the list: a counter is no thread.
inline const std::set<std::string> kThreadingHeaders = {
    "barrier",   "condition_variable", "future",       "latch",      "mutex",
    "pthread.h", "semaphore",          "shared_mutex", "stop_token", "thread",
};
inline const std::set<std::string> kMayThread = {
    "core/parallel.cpp",    // the port
    "core/pool.cpp",        // one lock around the free lists
    "datasets/loader.cpp",  // reads the next batch while this one is used
};

// core/ must read in a long evening: 7300 lines, comments and all, are under five hours at
// twenty-five lines a minute. (It was 6000 until products, convolutions and threads were our
// own instead of a library's, and 7000 until grids were known to values.) The limit is there so that it never grows
// without a decision: who needs more room first looks for what can leave core/.
inline constexpr int kCoreLineBudget = 7300;

}  // namespace whittle::architecture
