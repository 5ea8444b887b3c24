# Finds any OpenBLAS (serial, pthread or OpenMP build) as the target OpenBLAS::OpenBLAS.
#
# Debian's own OpenBLASConfig.cmake names one variant's folder, which would end up in
# run paths and in our exported package; so the usual places are searched instead.
# <cblas.h> exists in several BLAS packages, and <openblas_config.h> tells ours apart.

find_path(OpenBLAS_INCLUDE_DIR openblas_config.h
  PATH_SUFFIXES openblas openblas-pthread openblas-openmp openblas-serial)
find_library(OpenBLAS_LIBRARY openblas)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLAS REQUIRED_VARS OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR)

if(OpenBLAS_FOUND AND NOT TARGET OpenBLAS::OpenBLAS)
  add_library(OpenBLAS::OpenBLAS UNKNOWN IMPORTED)
  set_target_properties(OpenBLAS::OpenBLAS PROPERTIES
    IMPORTED_LOCATION ${OpenBLAS_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${OpenBLAS_INCLUDE_DIR})
endif()
mark_as_advanced(OpenBLAS_INCLUDE_DIR OpenBLAS_LIBRARY)
