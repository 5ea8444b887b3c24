# Writes what git calls the source tree into a function, if that has changed: cmake -D source=... -D file=... -P this.
# Empty where there is no git or no repository, as in a tree that was unpacked from an archive.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git -C ${source} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${file} @ONLY CONTENT
"#include \"apps/machine.h\"
std::string whittle::apps::revision() { return \"@revision@\"; }
")
