// Text that lies in the command: the page of `whittle report`, and the library that draws on it.
#pragma once

#include <string_view>

namespace whittle::apps::report {

std::string_view page_html();
std::string_view page_css();
std::string_view chart_css();
std::string_view page_js();
std::string_view d3_js();       // empty: there was none when this was built
std::string_view d3_licence();  // as its Debian package has it

}  // namespace whittle::apps::report
