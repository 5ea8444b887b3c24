#include "runtime/hosted/choose.h"

#include <stdexcept>

#include "kernels/hosted/forced.h"
#include "kernels/names.h"
#include "runtime/best.h"

namespace whittle::runtime {

Kernels choose_kernels(const std::string& name) {
  const char* const wanted = name.empty() ? kernels::forced_name() : name.c_str();
  if (wanted == nullptr) {
    return best_kernels();
  }
  const Kernels found = kernels_named(wanted);
  if (found.features() == 0) {
    throw std::invalid_argument("[kernels] no kernel table called '" + std::string(wanted) + "' runs here, only " +
                                kernels::names_that_run_here().text);
  }
  return found;
}

}  // namespace whittle::runtime
