// What shells complete, asked of bash itself where there is one.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/apps/command.h"

namespace whittle {

namespace {

// What bash would offer behind these words, the last of which is being typed.
class Bash {
 public:
  Bash() {
    const Result script = whittle_command(folder_, {"completion", "bash"});
    REQUIRE(script.exit_code == 0);
    std::ofstream(folder_ / "script") << script.out;
  }

  static bool available() { return std::system("bash -c true >/dev/null 2>&1") == 0; }

  std::vector<std::string> offers(const std::vector<std::string>& words) const {
    std::ofstream driver(folder_ / "driver");
    driver << "set -eu\nsource " << (folder_ / "script") << "\nCOMP_WORDS=(whittle";
    for (const std::string& word : words) {
      driver << " '" << word << "'";
    }
    driver << ")\nCOMP_CWORD=" << words.size() << "\n_whittle\nprintf '%s\\n' \"${COMPREPLY[@]}\" >"
           << (folder_ / "answer") << "\n";
    driver.close();
    REQUIRE(std::system(("bash " + (folder_ / "driver").string()).c_str()) == 0);
    std::istringstream lines(contents(folder_ / "answer"));
    std::vector<std::string> answer;
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) {
        answer.push_back(line);
      }
    }
    std::ranges::sort(answer);
    return answer;
  }

 private:
  TempFolder folder_;
};

bool has(const Words& words, const std::string& word) { return std::ranges::count(words, word) == 1; }

}  // namespace

TEST_SUITE("completion") {
  // A check that is skipped cannot fail, so where CI runs there must be a bash to ask.
  TEST_CASE("CI has bash") { CHECK((Bash::available() || std::getenv("CI") == nullptr)); }

  // Skipped where there is no bash: a machine without it can still run all other tests. On CI the case above fails
  // then.
  TEST_CASE("bash completes verbs, options, and the words they take" * doctest::skip(!Bash::available())) {
    const Bash bash;
    const Words verbs = bash.offers({""});
    for (const char* verb : {"train", "eval", "runs", "doctor", "completion"}) {
      CHECK(has(verbs, verb));
    }
    CHECK(bash.offers({"qua"}) == Words{"quantize"});
    CHECK(has(bash.offers({"train", "--"}), "--epochs"));
    CHECK_FALSE(has(bash.offers({"eval", "--"}), "--epochs"));
    CHECK(bash.offers({"train", "--epo"}) == Words{"--epochs"});
    CHECK(bash.offers({"train", "--model", "lenet5"}) == Words{"lenet5"});
    CHECK(has(bash.offers({"train", "--model", "len"}), "lenet-300-100"));
    CHECK(has(bash.offers({"train", "--seed", "3", "--data", "f"}), "fashion-mnist"));
    CHECK(bash.offers({"quantize", "m.safetensors", "--method", "h"}) == Words{"hybrid"});
    CHECK(bash.offers({"data", "i"}) == Words{"info"});
    CHECK(has(bash.offers({"data", "info", "m"}), "mnist"));
    CHECK(bash.offers({"runs", "runs.db", "sh"}) == Words{"show"});
    CHECK(bash.offers({"completion", "z"}) == Words{"zsh"});
    CHECK(bash.offers({"train", "--out", ""}).empty());  // files, which are bash's own affair
    CHECK(bash.offers({"eval", ""}).empty());
  }

  TEST_CASE("zsh and fish get scripts, others a sentence") {
    const TempFolder folder;
    const std::string zsh = whittle_command(folder, {"completion", "zsh"}).out;
    CHECK(zsh.starts_with("#compdef whittle\n"));
    CHECK(contains(zsh, "'whittle train --optimizer') choices='sgd adam adamw' ;;"));
    const std::string fish = whittle_command(folder, {"completion", "fish"}).out;
    CHECK(contains(fish, "complete -c whittle -n \"__whittle_at whittle train\" -l optimizer -x -a 'sgd adam adamw'"));
    CHECK(contains(fish, "Nesterov'\\''s momentum"));
    CHECK(contains(refused(folder, {"completion", "tcsh"}), "there are bash, zsh and fish"));
  }
}

}  // namespace whittle
