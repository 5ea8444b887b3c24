// Reading C++ source as text, well enough for rules about includes and names.
//
// No parser: comments and literals are blanked out, the rest is regular
// expressions. Every check returns its findings as lines "file:line: what is
// wrong", none if all is well, so that test_checks.cpp can feed it small sources
// with known faults.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace whittle::architecture {

struct SourceFile {
  std::string path;  // from the root, "core/tensor.h"
  std::string text;

  std::string folder() const { return path.substr(0, path.find('/')); }
};

using Findings = std::vector<std::string>;

std::string read_text(const std::filesystem::path& path);

// All .h and .cpp files below root/folder, sorted by path.
std::vector<SourceFile> read_folder(const std::filesystem::path& root, const std::string& folder);

enum class Literals { kKeep, kBlank };
// `text` with comments (and the insides of string and character literals) replaced by
// spaces. Line breaks stay, so line numbers do.
std::string without_comments(std::string_view text, Literals literals);

struct Include {
  int line;
  std::string name;
  bool angled;  // <name>, not "name"
};
std::vector<Include> includes_of(const SourceFile& file);

// ---- Rules about one file; the tables are in rules.h -------------------------------

Findings include_findings(const SourceFile& file);    // folders, wrappers, freestanding, system headers
Findings threading_findings(const SourceFile& file);  // threading headers and OpenMP
Findings printing_findings(const SourceFile& file);   // libraries do not print

// ---- Rules about sets of names -----------------------------------------------------

// Names of the differentiable functions a header declares: "Variable name(" or
// "BatchNormResult name(" at the start of a line.
std::set<std::string> declared_ops(std::string_view header);
// Names in entries `.op = "name"`.
std::set<std::string> checked_ops(std::string_view test_source);

// Sources that the folder's CMakeLists.txt does not name: they would silently not be built.
Findings unlisted_sources(const std::vector<SourceFile>& files, std::string_view cmake_lists);

// ---- Rules about objects, from the output of `nm` ---------------------------------

// Symbols defined so that the linker may pick another object's copy: inline
// functions, templates, inline variables.
std::set<std::string> weak_symbols(std::string_view nm_output);
// Symbols defined once and for all.
std::set<std::string> strong_symbols(std::string_view nm_output);
// Symbols that others must define.
std::set<std::string> undefined_symbols(std::string_view nm_output);
// Instructions, in the output of `objdump -d`, that touch a floating-point register.
std::set<std::string> float_instructions(std::string_view disassembly);

// Runs a program and returns what it printed. Throws if it cannot be run or fails.
std::string output_of(const std::string& command);

}  // namespace whittle::architecture
