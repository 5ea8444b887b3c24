#include "kernels/hosted/forced.h"

#include <cstdlib>

namespace whittle::kernels {

const char* forced_name() {
  const char* const name = std::getenv("WHITTLE_KERNELS");
  return name == nullptr || *name == 0 ? nullptr : name;
}

}  // namespace whittle::kernels
