#include "apps/report/page.h"

#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "apps/report/browser.h"
#include "apps/report/embedded.h"
#include "apps/text.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json.h"

namespace whittle::apps::report {

namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// JSON inside a script element, which ends at "</script" wherever that stands: without a '<' it cannot stand anywhere.
std::string inside_script(const Json& document) {
  std::string text = json_line(document);
  replace_all(text, "<", "\\u003c");
  return text;
}

std::string escaped(std::string_view text) {
  std::string out(text);
  replace_all(out, "&", "&amp;");
  replace_all(out, "<", "&lt;");
  return out;
}

std::string unescaped(std::string text) {
  replace_all(text, "&lt;", "<");
  replace_all(text, "&gt;", ">");
  replace_all(text, "&amp;", "&");
  return text;
}

void write(const std::filesystem::path& file, std::string_view text) {
  replace_file(file, std::as_bytes(std::span(text)));
}

}  // namespace

bool available() { return !d3_js().empty(); }

void check_available() {
  require(available(), "report",
          "this build cannot draw: it was made without D3; install Debian's node-d3 and configure again");
}

std::string html_of(const Json& document) {
  check_available();
  require(document.is_object() && document.value("format", Json()) == Json(kFormat), "report",
          "this is no document of the format ", kFormat);
  require(document.value("version", Json()) == Json(kVersion), "report", "the document is not of version ", kVersion);
  const std::array<std::pair<std::string_view, std::string>, 6> parts = {{
      {"{{page.css}}", std::string(page_css())},
      {"{{chart.css}}", std::string(chart_css())},
      {"{{licence}}", escaped(d3_licence())},
      {"{{d3.js}}", std::string(d3_js())},
      {"{{page.js}}", std::string(page_js())},
      {"{{document}}", inside_script(document)},
  }};
  // Places are looked for in the template alone, never in what was put there.
  const std::string_view page = page_html();
  std::string html;
  size_t done = 0;
  for (size_t at = page.find("{{"); at != std::string_view::npos; at = page.find("{{", at + 1)) {
    for (const auto& [place, text] : parts) {
      if (page.substr(at).starts_with(place)) {
        html.append(page, done, at - done).append(text);
        done = at + place.size();
      }
    }
  }
  return html.append(page, done);
}

void write_html(const Json& document, const std::filesystem::path& file) { write(file, html_of(document)); }

int write_charts(const Json& document, const std::filesystem::path& folder, bool png) {
  const Browser browser;
  make_folder(folder, "report");
  const std::filesystem::path page = browser.folder() / "page.html";
  write_html(document, page);
  // With #svg the page shows, as text, an object of its charts by name.
  const std::string dom = browser.open(page, "#svg").dom;
  const size_t begin = dom.find("<pre id=\"svg\">");
  const size_t end = dom.find("</pre>", begin);
  require(begin != std::string::npos && end != std::string::npos, "report", "the browser drew no charts");
  const size_t text = begin + std::string_view("<pre id=\"svg\">").size();
  const Json charts = Json::parse(unescaped(dom.substr(text, end - text)));
  for (const auto& [name, chart] : charts.items()) {
    const std::filesystem::path svg = folder / (name + ".svg");
    write(svg, chart.at("svg").get<std::string>());
    if (png) {
      browser.picture(svg, folder / (name + ".png"), static_cast<int>(std::ceil(chart.at("width").get<double>())),
                      static_cast<int>(std::ceil(chart.at("height").get<double>())));
    }
  }
  return static_cast<int>(charts.size());
}

}  // namespace whittle::apps::report
