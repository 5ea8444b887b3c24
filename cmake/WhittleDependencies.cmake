# Finds what the hosted part needs, and says what to install where it is missing.

# whittle_need(PACKAGE DEBIAN_PACKAGE): find_package, with an error that helps.
macro(whittle_need package debian_package)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} was not found. Debian and Ubuntu: apt-get install ${debian_package}")
  endif()
endmacro()

whittle_need(nlohmann_json nlohmann-json3-dev)
whittle_need(ZLIB zlib1g-dev)
whittle_need(LibLZMA liblzma-dev)
whittle_need(TurboJPEG libturbojpeg0-dev)
whittle_need(Stb libstb-dev)
find_package(Threads REQUIRED)  # core's and the data loader's

# Without libcurl data sets are read but not downloaded.
set(whittle_curl OFF)
if(WHITTLE_CURL)
  find_package(CURL QUIET)
  set(whittle_curl ${CURL_FOUND})
  if(NOT CURL_FOUND)
    message(STATUS "libcurl was not found: this build cannot download data sets")
  endif()
endif()

# Without SQLite the command keeps no records of runs.
set(whittle_sqlite OFF)
if(WHITTLE_SQLITE AND WHITTLE_APPS)
  find_package(SQLite3 QUIET)
  set(whittle_sqlite ${SQLite3_FOUND})
  if(NOT SQLite3_FOUND)
    message(STATUS "SQLite was not found: this build cannot keep records of runs")
  endif()
endif()

if(WHITTLE_BLAS STREQUAL "openblas")
  whittle_need(OpenBLAS "libopenblas-dev (or build without it, slowly: -DWHITTLE_BLAS=naive)")
elseif(NOT WHITTLE_BLAS STREQUAL "naive")
  message(FATAL_ERROR "WHITTLE_BLAS is '${WHITTLE_BLAS}', not openblas or naive")
endif()

# WHITTLE_PARALLEL is what was asked for; whittle_parallel is what is built.
set(whittle_parallel ${WHITTLE_PARALLEL})
if(whittle_parallel STREQUAL "openmp")
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(NOT OpenMP_CXX_FOUND)
    # Results have the same bits either way.
    message(WARNING "${CMAKE_CXX_COMPILER} has no OpenMP here, so threads are our own. "
                    "For clang on Debian: apt-get install libomp-dev, in the compiler's version.")
    set(whittle_parallel threads)
  endif()
endif()
if(NOT whittle_parallel MATCHES "^(openmp|threads|serial)$")
  message(FATAL_ERROR "WHITTLE_PARALLEL is '${WHITTLE_PARALLEL}', not openmp, threads or serial")
endif()
