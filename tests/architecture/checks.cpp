#include "tests/architecture/checks.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "tests/architecture/rules.h"

namespace whittle::architecture {

namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string finding(const SourceFile& file, int line, const std::string& what) {
  return file.path + ":" + std::to_string(line) + ": " + what;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

// Lines of the file's code that match, as findings.
Findings matching_lines(const SourceFile& file, const std::regex& pattern, const std::string& what) {
  Findings findings;
  int number = 0;
  for (const std::string& line : lines_of(without_comments(file.text, Literals::kBlank))) {
    ++number;
    if (std::regex_search(line, pattern)) {
      findings.push_back(finding(file, number, what));
    }
  }
  return findings;
}

std::set<std::string> matches(std::string_view text, const std::regex& pattern) {
  std::set<std::string> names;
  const std::string subject(text);
  for (std::sregex_iterator match(subject.begin(), subject.end(), pattern), end; match != end; ++match) {
    names.insert((*match)[1]);
  }
  return names;
}

bool may_include(const std::string& folder, const std::string& name) {
  const auto rule = kMayInclude.find(folder);
  if (rule == kMayInclude.end()) {
    return false;
  }
  return name.starts_with(folder + "/") || std::ranges::any_of(rule->second, [&](const std::string& allowed) {
           return name == allowed || name.starts_with(allowed + "/");
         });
}

std::string angled_include_fault(const SourceFile& file, const std::string& name) {
  const bool hosted =
      std::ranges::any_of(kHostedCorners, [&](const std::string& corner) { return file.path.starts_with(corner); });
  if (kFreestanding.contains(file.folder()) && !hosted) {
    return kFreestandingHeaders.contains(name) ? "" : "<" + name + "> is not for freestanding code";
  }
  for (const auto& [library, wrapper] : kWrappers) {
    if (name == library || (library.ends_with('/') && name.starts_with(library))) {
      // Tests make the compressed files and pictures that the wrappers read.
      return file.path == wrapper || file.folder() == "tests" ? "" : "<" + name + "> belongs in " + wrapper + " alone";
    }
  }
  if (kPrograms.contains(file.folder()) || kSystemHeaders.contains(name)) {
    return "";
  }
  const bool standard = name.find_first_of("./") == std::string::npos;
  return standard ? "" : "<" + name + "> is not in kWrappers or kSystemHeaders (tests/architecture/rules.h)";
}

// The type letter and the name in a line of nm, "0000000000000000 T name".
std::set<std::string> symbols_of_type(std::string_view nm_output, std::string_view types) {
  std::set<std::string> names;
  static const std::regex kLine(R"(^[0-9a-fA-F]+ ([A-Za-z]) (\S.*)$)");
  for (const std::string& line : lines_of(nm_output)) {
    std::smatch match;
    if (std::regex_match(line, match, kLine) && types.find(match[1].str()) != std::string_view::npos) {
      names.insert(match[2]);
    }
  }
  return names;
}

}  // namespace

std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    throw std::runtime_error("cannot read " + path.string());
  }
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<SourceFile> read_folder(const std::filesystem::path& root, const std::string& folder) {
  std::vector<SourceFile> files;
  if (std::filesystem::is_directory(root / folder)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (entry.is_regular_file() && (extension == ".h" || extension == ".cpp")) {
        files.push_back({entry.path().lexically_relative(root).generic_string(), read_text(entry.path())});
      }
    }
  }
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

std::string without_comments(std::string_view text, Literals literals) {
  std::string out(text);
  size_t i = 0;
  const auto blank_until = [&](size_t end, bool blank) {
    for (end = std::min(end, text.size()); i < end; ++i) {
      if (blank && text[i] != '\n') {
        out[i] = ' ';
      }
    }
  };
  const auto after = [&](std::string_view mark, size_t from) {
    const size_t at = text.find(mark, from);
    return at == std::string_view::npos ? text.size() : at + mark.size();
  };
  while (i < text.size()) {
    if (text.substr(i).starts_with("//")) {
      blank_until(std::min(text.find('\n', i), text.size()), true);
    } else if (text.substr(i).starts_with("/*")) {
      blank_until(after("*/", i + 2), true);
    } else if (text.substr(i).starts_with("R\"") && (i == 0 || !is_word(text[i - 1]))) {
      const size_t open = std::min(text.find('(', i), text.size());
      const std::string close = ")" + std::string(text.substr(i + 2, open - i - 2)) + "\"";
      blank_until(after(close, open), literals == Literals::kBlank);
    } else if (text[i] == '"' || (text[i] == '\'' && (i == 0 || !is_word(text[i - 1])))) {  // not the ' of 1'000
      size_t end = i + 1;
      while (end < text.size() && text[end] != text[i] && text[end] != '\n') {
        end += text[end] == '\\' ? 2 : 1;
      }
      ++i;  // the quotation marks stay
      blank_until(end, literals == Literals::kBlank);
      ++i;
    } else {
      ++i;
    }
  }
  return out;
}

std::vector<Include> includes_of(const SourceFile& file) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::vector<Include> includes;
  int number = 0;
  for (const std::string& line : lines_of(without_comments(file.text, Literals::kKeep))) {
    ++number;
    std::smatch match;
    if (std::regex_search(line, match, kInclude)) {
      includes.push_back({number, match[2], match[1] == "<"});
    }
  }
  return includes;
}

Findings include_findings(const SourceFile& file) {
  Findings findings;
  for (const Include& include : includes_of(file)) {
    std::string fault;
    if (include.angled) {
      fault = angled_include_fault(file, include.name);
    } else if (!may_include(file.folder(), include.name)) {
      fault = file.folder() + " may not include \"" + include.name + "\"";
    }
    if (!fault.empty()) {
      findings.push_back(finding(file, include.line, fault));
    }
  }
  return findings;
}

Findings threading_findings(const SourceFile& file) {
  if (kPrograms.contains(file.folder())) {
    return {};
  }
  Findings findings;
  if (!kMayThread.contains(file.path)) {
    for (const Include& include : includes_of(file)) {
      if (include.angled && kThreadingHeaders.contains(include.name)) {
        findings.push_back(finding(file, include.line, "<" + include.name + ">: use parallel_for"));
      }
    }
  }
  if (file.path != "core/parallel.cpp") {
    static const std::regex kOpenMp(R"(^\s*#\s*pragma\s+omp\b|\b_Pragma\b|\bomp_\w+\s*\()");
    std::ranges::move(matching_lines(file, kOpenMp, "OpenMP outside core/parallel.cpp"), std::back_inserter(findings));
  }
  return findings;
}

Findings printing_findings(const SourceFile& file) {
  if (kPrograms.contains(file.folder())) {
    return {};
  }
  static const std::regex kPrinting(
      R"(\bstd::(cout|cerr|clog)\b|\b(printf|fprintf|vprintf|vfprintf|puts|putchar|perror)\s*\()"
      R"(|^\s*#\s*include\s*<iostream>)");
  return matching_lines(file, kPrinting, "a library does not print");
}

std::set<std::string> declared_ops(std::string_view header) {
  static const std::regex kDeclaration(R"((?:^|\n)(?:Variable|BatchNormResult) ([a-z]\w*)\()");
  return matches(without_comments(header, Literals::kBlank), kDeclaration);
}

std::set<std::string> checked_ops(std::string_view test_source) {
  static const std::regex kEntry(R"re(\.op\s*=\s*"(\w+)")re");
  return matches(without_comments(test_source, Literals::kKeep), kEntry);
}

Findings unlisted_sources(const std::vector<SourceFile>& files, std::string_view cmake_lists) {
  static const std::regex kComment("#[^\n]*");
  const std::string lists = std::regex_replace(std::string(cmake_lists), kComment, "");
  Findings findings;
  for (const SourceFile& file : files) {
    if (file.path.ends_with(".cpp")) {
      const std::string name = file.path.substr(file.path.find('/') + 1);
      const std::regex listed("(^|[\\s;(\"/])" + std::regex_replace(name, std::regex(R"([.+])"), R"(\$&)") +
                              "($|[\\s;\")])");
      if (!std::regex_search(lists, listed)) {
        findings.push_back(file.path + ":1: is not listed in " + file.folder() + "/CMakeLists.txt");
      }
    }
  }
  return findings;
}

std::set<std::string> weak_symbols(std::string_view nm_output) { return symbols_of_type(nm_output, "WwVvu"); }
std::set<std::string> strong_symbols(std::string_view nm_output) { return symbols_of_type(nm_output, "TDBRGS"); }
std::set<std::string> undefined_symbols(std::string_view nm_output) {
  static const std::regex kLine(R"(^ +U (\S.*)$)");
  std::set<std::string> names;
  for (const std::string& line : lines_of(nm_output)) {
    std::smatch match;
    if (std::regex_match(line, match, kLine)) {
      names.insert(match[1]);
    }
  }
  return names;
}

std::set<std::string> float_instructions(std::string_view disassembly) {
  // Vector and x87 registers of x86-64, and fld and its kin; vector registers and fmov and its kin of AArch64.
  static const std::regex kFloat(R"(%[xyz]mm\d|%st\b|\tf[a-z]+\b|[ \t,{][vdsqh]\d{1,2}(\.|,|$))");
  static const std::regex kInstruction(R"(^ +[0-9a-f]+:\t([a-z].*)$)");
  std::set<std::string> found;
  for (const std::string& line : lines_of(disassembly)) {
    std::smatch match;
    if (std::regex_match(line, match, kInstruction)) {
      const std::string text = "\t" + match[1].str();
      if (std::regex_search(text, kFloat)) {
        found.insert(match[1]);
      }
    }
  }
  return found;
}

std::string output_of(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) {
    throw std::runtime_error("cannot run " + command);
  }
  std::string output;
  char buffer[4096];
  for (size_t n = std::fread(buffer, 1, sizeof(buffer), pipe); n > 0; n = std::fread(buffer, 1, sizeof(buffer), pipe)) {
    output.append(buffer, n);
  }
  if (pclose(pipe) != 0) {
    throw std::runtime_error(command + " failed");
  }
  return output;
}

}  // namespace whittle::architecture
