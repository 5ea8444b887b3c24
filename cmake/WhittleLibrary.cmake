# whittle_library(): how a folder of the framework becomes a library.
#
#   whittle_library(layers
#     HEADERS module.h conv.h ...      installed as <prefix>/include/whittle/layers/...
#     REAL module.cpp conv.cpp ...     sources that depend on `real` (core/real.h)
#     NEUTRAL names.cpp ...            sources that do not
#     LINKS core                       folders it builds on
#     WRAPS OpenBLAS::OpenBLAS)        libraries of others, hidden behind a wrapper file
#
# makes the static library whittle_layers, known as whittle::layers here and to
# those who find_package(whittle). A folder with headers alone becomes an interface
# library.
#
# When tests are on, the REAL sources are compiled a second time with
# WHITTLE_DOUBLE into whittle_layers_double, the twin in which gradients are
# checked. Its symbols live in the inline namespace f64 and the first library's in
# f32, so a test links both; NEUTRAL code exists once and is shared.

# What every translation unit of ours is compiled with.
function(whittle_compile_options target)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)  # the standard, not GNU's
  string(FIND "${CMAKE_CXX_FLAGS}" "-fsanitize=" sanitizer_at)
  set(whittle_sanitized OFF)
  if(NOT sanitizer_at EQUAL -1)
    set(whittle_sanitized ON)
  endif()
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wconversion -Wshadow
    # GCC 12 sees overlapping copies in "literal" + std::string (its bug 105651).
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
    # What sanitizers put in hides from GCC that a variant's storage is written before it is read, and how long strings
    # are.
    "$<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${whittle_sanitized}>>:-Wno-maybe-uninitialized;-Wno-array-bounds;-Wno-stringop-overflow>"
    $<$<BOOL:${WHITTLE_WERROR}>:-Werror>)
  # Half of the time that sanitized code takes to compile goes into checks of pointers, most of which the address
  # sanitizer makes as well. Code that lays structures over foreign bytes has them all.
  if(CMAKE_CXX_FLAGS MATCHES "undefined" AND NOT target MATCHES "^whittle_(kernels|runtime)")
    target_compile_options(${target} PRIVATE -fno-sanitize=null,alignment,object-size,vptr)
  endif()
endfunction()

# For code that no one waits for: tests and the command line, not what they call. It compiles in half the time. (The
# thread sanitizer makes it slower than that saves.) A third of what is left is headers that all sources of a target
# include, so these are precompiled: not in the libraries, where GCC 12 at -O3 then warns of its own strings, and not
# where a compiler cache looks for text that it knows.
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
endif()
function(whittle_compile_fast target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread")
    target_compile_options(${target} PRIVATE $<$<CONFIG:Debug>:-O0>)
  endif()
endfunction()

# PUBLIC requirements: users compile our headers, and arithmetic in them must round
# as it does in our objects. A fused multiply-add rounds once where the definition
# rounds twice, so contraction is off on both sides.
function(whittle_requirements target scope)
  target_compile_features(${target} ${scope} cxx_std_20)
  target_compile_options(${target} ${scope} $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
endfunction()

# The option that keeps a compiler from using floating-point registers, where it has one.
set(whittle_integer_registers)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|aarch64|arm64)$")
  set(whittle_integer_registers -mgeneral-regs-only)
endif()

# With WHITTLE_NO_FPU: a library for machines without floating-point numbers.
function(whittle_no_fpu target)
  if(WHITTLE_NO_FPU)
    target_compile_definitions(${target} PUBLIC WHITTLE_NO_FPU)
    target_compile_options(${target} PRIVATE ${whittle_integer_registers})
  endif()
endfunction()

function(whittle_library folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;REAL;NEUTRAL;LINKS;WRAPS")
  set(library whittle_${folder})
  set(twin ${library}_double)

  set(scope PUBLIC)
  if(NOT arg_REAL AND NOT arg_NEUTRAL)
    set(scope INTERFACE)
  endif()
  if(scope STREQUAL INTERFACE)
    add_library(${library} INTERFACE)
  else()
    add_library(${library} STATIC ${arg_NEUTRAL} ${arg_REAL})
    whittle_compile_options(${library})
  endif()
  add_library(whittle::${folder} ALIAS ${library})
  set_target_properties(${library} PROPERTIES
    EXPORT_NAME ${folder}
    VERIFY_INTERFACE_HEADER_SETS ${WHITTLE_VERIFY_HEADERS})
  whittle_requirements(${library} ${scope})

  # The include root is the repository, or <prefix>/include/whittle once installed.
  target_sources(${library} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${arg_HEADERS})
  list(TRANSFORM arg_LINKS PREPEND whittle_ OUTPUT_VARIABLE links)
  target_link_libraries(${library} ${scope} ${links})
  if(arg_WRAPS)
    target_link_libraries(${library} PRIVATE ${arg_WRAPS})
  endif()
  install(TARGETS ${library} EXPORT whittleTargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/whittle)

  if(WHITTLE_TESTS AND arg_REAL)
    add_library(${twin} STATIC EXCLUDE_FROM_ALL ${arg_REAL})  # built for the tests that link it
    target_compile_definitions(${twin} PRIVATE WHITTLE_DOUBLE)  # a test chooses its precision per source file
    whittle_compile_options(${twin})
    foreach(link IN LISTS links)
      if(TARGET ${link}_double)
        target_link_libraries(${twin} PUBLIC ${link}_double)
      endif()
    endforeach()
    target_link_libraries(${twin} PUBLIC ${library} PRIVATE ${arg_WRAPS})
  endif()
endfunction()
