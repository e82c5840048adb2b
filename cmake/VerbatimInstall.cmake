# cmake --install: programs, static libraries, headers under include/verbatim/, a CMake package and a pkg-config file. All of it
# may be moved afterwards: nothing names the prefix.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(verbatim_installed verbatim_flags verbatim_crypto verbatim_protobuf verbatim_core verbatim_threads verbatim_serial
    verbatim_repops verbatim_kernels verbatim_verify verbatim_capi verbatim_sdk)
if(TARGET verbatim_cuda)
  list(APPEND verbatim_installed verbatim_cuda)
endif()
install(TARGETS ${verbatim_installed} EXPORT verbatim-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
foreach(program verbatim verbatim-bench verbatim-verify)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
install(DIRECTORY core repops kernels verify DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/verbatim COMPONENT development
        FILES_MATCHING PATTERN "*.h" PATTERN cuda EXCLUDE PATTERN net EXCLUDE)
install(DIRECTORY cli/capi/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/verbatim COMPONENT development FILES_MATCHING PATTERN "*.h")

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/verbatim)
configure_package_config_file(cmake/verbatim-config.cmake.in ${PROJECT_BINARY_DIR}/verbatim-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/verbatim-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/verbatim-config.cmake ${PROJECT_BINARY_DIR}/verbatim-config-version.cmake
        DESTINATION ${package_dir} COMPONENT development)
install(EXPORT verbatim-targets NAMESPACE verbatim:: DESTINATION ${package_dir} COMPONENT development)

# The same link line for pkg-config: our archives as one group, since loops are called from below the archive that holds them.
set(VERBATIM_PC_LIBS)
foreach(library ${verbatim_installed})
  get_target_property(type ${library} TYPE)
  if(type STREQUAL STATIC_LIBRARY AND NOT library STREQUAL verbatim_serial)
    string(APPEND VERBATIM_PC_LIBS " -l${library}")
  endif()
endforeach()
file(RELATIVE_PATH VERBATIM_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/verbatim.pc.in ${PROJECT_BINARY_DIR}/verbatim.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/verbatim.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
