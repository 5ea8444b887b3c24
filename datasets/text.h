// What is asked of text that comes from outside.
#pragma once

#include <string>
#include <vector>

namespace whittle {

bool is_utf8(const std::string& text);

// Whether all of `texts` are numbers as people write them and parsers do not read them: "1,5", "1.234,5", "10 %", "$3".
// They are no categories.
bool are_written_numbers(const std::vector<std::string>& texts);

}  // namespace whittle
