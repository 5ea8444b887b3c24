#include "apps/report/embedded.h"

// The assembler copies a file between two symbols. The paths come from apps/CMakeLists.txt.
#define WHITTLE_EMBED(name, file)                                                                              \
  asm(".pushsection .rodata\n" #name "_begin:\n.incbin \"" file "\"\n" #name "_end:\n.byte 0\n.popsection\n"); \
  extern "C" [[gnu::visibility("hidden")]] const char name##_begin[];                                          \
  extern "C" [[gnu::visibility("hidden")]] const char name##_end[];                                            \
  std::string_view whittle::apps::report::name() {                                                             \
    return {name##_begin, static_cast<size_t>(name##_end - name##_begin)};                                     \
  }

WHITTLE_EMBED(page_html, WHITTLE_PAGE "/page.html")
WHITTLE_EMBED(page_css, WHITTLE_PAGE "/page.css")
WHITTLE_EMBED(chart_css, WHITTLE_PAGE "/chart.css")
WHITTLE_EMBED(page_js, WHITTLE_PAGE "/page.js")
WHITTLE_EMBED(d3_js, WHITTLE_D3)
WHITTLE_EMBED(d3_licence, WHITTLE_D3_LICENCE)
