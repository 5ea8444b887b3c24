// The checks find what they are meant to find: each is fed a fault and its absence.

#include <doctest/doctest.h>

#include "tests/architecture/checks.h"

namespace whittle::architecture {

namespace {

size_t faults(Findings (*check)(const SourceFile&), const char* path, const char* text) {
  return check({path, text}).size();
}

}  // namespace

TEST_SUITE("checks") {
  TEST_CASE("comments and literals are blanked, lines stay") {
    CHECK(without_comments("a // b\nc", Literals::kKeep) == "a     \nc");
    CHECK(without_comments("a /* b\n c */ d", Literals::kKeep) == "a     \n      d");
    CHECK(without_comments("f(\"// no comment\") // one", Literals::kKeep) == "f(\"// no comment\")       ");
    CHECK(without_comments("f(\"a\\\"b\") + 'c'", Literals::kBlank) == "f(\"    \") + ' '");
    CHECK(without_comments("1'000 /* x */ 'y'", Literals::kBlank) == "1'000         ' '");
    CHECK(without_comments("R\"x(a)\" // )x\" b", Literals::kKeep) == "R\"x(a)\" // )x\" b");
    CHECK(without_comments("/* never closed", Literals::kKeep) == std::string(15, ' '));
    CHECK(without_comments("\"never closed\n// x", Literals::kKeep) == "\"never closed\n    ");
  }

  TEST_CASE("includes are found with their lines, commented ones are not") {
    const auto includes =
        includes_of({"core/a.cpp", "#include \"core/a.h\"\n// #include <thread>\n  #  include <vector>  // why\n"});
    REQUIRE(includes.size() == 2);
    CHECK(includes[0].name == "core/a.h");
    CHECK_FALSE(includes[0].angled);
    CHECK(includes[1].name == "vector");
    CHECK(includes[1].angled);
    CHECK(includes[1].line == 3);
  }

  TEST_CASE("folders include downwards only") {
    CHECK(faults(include_findings, "layers/conv.h", "#include \"core/ops.h\"") == 0);
    CHECK(faults(include_findings, "layers/conv.h", "#include \"layers/module.h\"") == 0);
    CHECK(faults(include_findings, "layers/conv.h", "#include \"quant/grid.h\"") == 1);
    CHECK(faults(include_findings, "core/ops.cpp", "#include \"layers/module.h\"") == 1);
    CHECK(faults(include_findings, "prune/mask.h", "#include \"quant/grid.h\"") == 1);
    CHECK(faults(include_findings, "quant/grid.h", "#include \"kernels/arithmetic.h\"") == 0);
    CHECK(faults(include_findings, "quant/grid.h", "#include \"kernels/gemm.h\"") == 1);
    CHECK(faults(include_findings, "core/ops.cpp", "#include \"ops.h\"") == 1);          // not from the root
    CHECK(faults(include_findings, "core/ops.cpp", "#include \"coregraph/a.h\"") == 1);  // a name that starts alike
    CHECK(faults(include_findings, "unknown/a.cpp", "#include \"core/ops.h\"") == 1);
    CHECK(include_findings({"core/a.h", "\n#include \"apps/cli.h\""}) ==
          Findings{"core/a.h:2: core may not include \"apps/cli.h\""});
  }

  TEST_CASE("a library is included in its wrapper alone") {
    CHECK(faults(include_findings, "core/blas_openblas.cpp", "#include <cblas.h>") == 0);
    CHECK(faults(include_findings, "core/ops_matmul.cpp", "#include <cblas.h>") == 1);
    CHECK(faults(include_findings, "apps/cmd_info.cpp", "#include <CLI/CLI.hpp>") == 1);
    CHECK(faults(include_findings, "apps/cli.h", "#include <CLI/CLI.hpp>") == 0);
    CHECK(faults(include_findings, "datasets/png.cpp", "#include <stb_image.h>") == 1);  // has no wrapper yet
    CHECK(faults(include_findings, "tests/core/test_a.cpp", "#include <doctest/doctest.h>") == 0);
    CHECK(faults(include_findings, "core/file.cpp", "#include <unistd.h>\n#include <vector>") == 0);
  }

  TEST_CASE("device code includes freestanding headers alone") {
    CHECK(faults(include_findings, "runtime/run.cpp", "#include <stdint.h>\n#include \"kernels/arithmetic.h\"") == 0);
    CHECK(faults(include_findings, "runtime/run.cpp", "#include <vector>") == 1);
    CHECK(faults(include_findings, "runtime/run.cpp", "#include \"core/tensor.h\"") == 1);
    CHECK(faults(include_findings, "kernels/gemm.cpp", "#include \"runtime/run.h\"") == 1);
  }

  TEST_CASE("threads have few homes") {
    CHECK(faults(threading_findings, "core/parallel.cpp", "#include <thread>\n#pragma omp parallel") == 0);
    CHECK(faults(threading_findings, "core/pool.cpp", "#include <mutex>") == 0);
    CHECK(faults(threading_findings, "core/pool.cpp", "#pragma omp parallel") == 1);
    CHECK(faults(threading_findings, "core/ops_conv.cpp", "#include <mutex>") == 1);
    CHECK(faults(threading_findings, "core/ops_conv.cpp", "  #  pragma   omp simd") == 1);
    CHECK(faults(threading_findings, "core/ops_conv.cpp", "int n = omp_get_max_threads();") == 1);
    CHECK(faults(threading_findings, "core/ops_conv.cpp", "#include <atomic>\n// #pragma omp parallel") == 0);
    CHECK(faults(threading_findings, "tests/core/test_pool.cpp", "#include <thread>") == 0);
  }

  TEST_CASE("libraries do not print") {
    CHECK(faults(printing_findings, "core/tensor.cpp", "std::cout << 1;") == 1);
    CHECK(faults(printing_findings, "core/tensor.cpp", "printf(\"%d\", 1);") == 1);
    CHECK(faults(printing_findings, "core/tensor.cpp", "#include <iostream>") == 1);
    CHECK(faults(printing_findings, "core/tensor.cpp", "snprintf(b, 3, \"printf(\");  // printf(") == 0);
    CHECK(faults(printing_findings, "apps/main.cpp", "std::cerr << 1;") == 0);
  }

  TEST_CASE("ops and their gradient checks are found by name") {
    const char* header =
        "Variable add(const Variable& a,\n             const Variable& b);\n"
        "Variable add(const Variable& a, real b);\n"
        "BatchNormResult batch_norm_train(const Variable& x);\n"
        "// Variable commented(out);\n"
        "inline Variable operator+(const Variable& a, const Variable& b);\n"
        "  Variable member(int);\n"
        "Tensor helper(const Tensor& t);\n";
    CHECK(declared_ops(header) == std::set<std::string>{"add", "batch_norm_train"});
    CHECK(checked_ops("{.op = \"add\", .x = 1}, {.op=\"mul\"} // .op = \"sub\"") ==
          std::set<std::string>{"add", "mul"});
  }

  TEST_CASE("a source that no CMakeLists.txt names is found") {
    const std::vector<SourceFile> files = {{"layers/conv.cpp", ""}, {"layers/zoo/vgg.cpp", ""}, {"layers/conv.h", ""}};
    CHECK(unlisted_sources(files, "whittle_library(layers REAL conv.cpp zoo/vgg.cpp)").empty());
    CHECK(unlisted_sources(files, "REAL conv.cpp\n  # zoo/vgg.cpp\n").size() == 1);
    CHECK(unlisted_sources(files, "REAL my_conv.cpp zoo/vgg.cpp").size() == 1);
  }

  TEST_CASE("symbols are sorted by how they are defined") {
    const char* nm =
        "\nlibx.a:\n0000000000000000 T strong\n0000000000000010 W weak_function\n0000000000000000 V weak_data\n"
        "0000000000000000 u unique\n                 U undefined\n                 w weak_reference\n"
        "0000000000000020 t local\n";
    CHECK(weak_symbols(nm) == std::set<std::string>{"weak_function", "weak_data", "unique"});
    CHECK(strong_symbols(nm) == std::set<std::string>{"strong"});
  }

  TEST_CASE("symbols that others must define, and floating-point instructions, are seen") {
    CHECK(undefined_symbols("                 U malloc\n0000000000000000 T f\n") == std::set<std::string>{"malloc"});
    CHECK(float_instructions("   4:\tmovss  (%rdi),%xmm0\n").size() == 1);
    CHECK(float_instructions("   4:\tflds   (%rdi)\n").size() == 1);
    CHECK(float_instructions("   4:\tmul\tv0.4s, v1.4s, v2.4s\n").size() == 1);
    CHECK(float_instructions("   4:\tldr\tq3, [x0]\n").size() == 1);
    CHECK(float_instructions("   4:\tjne    d8 <f+0xd8>\n  10:\tmov    %eax,%edx\nd5: 00\n").empty());
  }
}

}  // namespace whittle::architecture
