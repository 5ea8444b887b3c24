// The page of `whittle report`: one JSON document in, one HTML file out, which needs nothing else.
//
// The document is described in docs/report.md; every section of it may be missing. The page is
// apps/report/page.html with page.css, chart.css, page.js, D3 and the document put in their places.
// What it draws is decided by page.js alone. Nothing in the document is taken for markup.
#pragma once

#include <filesystem>
#include <string>

#include "core/json_fwd.h"

namespace whittle::apps::report {

inline constexpr const char* kFormat = "whittle-report";
inline constexpr int kVersion = 1;

bool available();        // was this built with D3?
void check_available();  // throws Error if it was not

// Throws Error if this was built without D3, or the document is none of this format and version.
std::string html_of(const Json& document);
void write_html(const Json& document, const std::filesystem::path& file);

// The charts of such a page, each as a file of its own in the folder, which is made: NAME.svg, and with `png` NAME.png.
// Returns how many. Throws Error if there is no browser that draws them.
int write_charts(const Json& document, const std::filesystem::path& folder, bool png);

}  // namespace whittle::apps::report
