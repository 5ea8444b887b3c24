// The text of the Error that a call throws; "no error" if it throws none.
#pragma once

#include <string>

#include "core/error.h"

namespace whittle {

template <class Call>
std::string message_of(Call call) {
  try {
    static_cast<void>(call());
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace whittle
