# `cmake --install` and, on the other side, find_package(whittle). The installed tree
# holds no absolute path of its own: it can be moved.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/whittle)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/whittleConfig.cmake.in
  ${PROJECT_BINARY_DIR}/whittleConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/whittleConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(EXPORT whittleTargets NAMESPACE whittle:: DESTINATION ${package_dir})
install(FILES
  ${PROJECT_BINARY_DIR}/whittleConfig.cmake
  ${PROJECT_BINARY_DIR}/whittleConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindOpenBLAS.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindTurboJPEG.cmake
  DESTINATION ${package_dir})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
