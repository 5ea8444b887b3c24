// The one exception of host code, and the two helpers that raise it.
//
// Every public function checks its arguments once, at the door, before it
// allocates or changes anything, and says what is wrong in one sentence that
// starts with the name of the operation:
//
//   [conv2d] input has 3 channels, filter expects 16 (input [1,32,32,3], ...)
//
// Broken invariants inside the library are asserts, not Errors.
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace whittle {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error("[op] part part ..."). Parts are anything with operator<<.
template <class... Parts>
[[noreturn]] void fail(std::string_view op, const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // numbers look the same wherever the program runs
  text << '[' << op << "] ";
  (text << ... << parts);
  throw Error(text.str());
}

// Throws like fail() unless `condition` holds. The parts are only formatted on
// failure, so a check on a hot path costs one branch.
template <class... Parts>
void require(bool condition, std::string_view op, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    fail(op, parts...);
  }
}

}  // namespace whittle
