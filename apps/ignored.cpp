#include "apps/ignored.h"

namespace whittle::apps {

void refuse_ignored(const CLI::App& verb, const std::vector<Heeded>& rules) {
  for (const Heeded& rule : rules) {
    for (const std::string& name : rule.options) {
      const CLI::Option* const option = verb.get_option_no_throw(name);
      require(rule.heeded || option == nullptr || option->count() == 0, verb.get_name(), name, " ", rule.what_for);
    }
  }
}

}  // namespace whittle::apps
