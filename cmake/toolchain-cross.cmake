# Cross builds with Debian's cross compilers against a private sysroot, which the first configure makes. Included by
# toolchain-ARCH.cmake, which names CMAKE_SYSTEM_PROCESSOR. CMake reads it again for every try_compile.
set(CMAKE_SYSTEM_NAME Linux)
set(triple ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
set(CMAKE_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/sysroot/${CMAKE_SYSTEM_PROCESSOR})
cmake_path(NORMAL_PATH CMAKE_SYSROOT)

get_property(verbatim_in_try_compile GLOBAL PROPERTY IN_TRY_COMPILE)
if(NOT verbatim_in_try_compile)
  set(verbatim_sysroot_net)
  if(NOT DEFINED VERBATIM_NET OR VERBATIM_NET)  # OFF, from a preset or the command line, leaves gRPC out of the sysroot
    set(verbatim_sysroot_net --net)
  endif()
  execute_process(COMMAND ${CMAKE_CURRENT_LIST_DIR}/sysroot.sh ${CMAKE_SYSTEM_PROCESSOR} ${verbatim_sysroot_net}
                  COMMAND_ERROR_IS_FATAL ANY)
endif()

set(CMAKE_C_COMPILER ${triple}-gcc)
set(CMAKE_CXX_COMPILER ${triple}-g++)
set(CMAKE_LIBRARY_ARCHITECTURE ${triple})
# Headers, libraries and packages come from the sysroot, generators (protoc) from the build machine.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CMAKE_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${CMAKE_SYSROOT}/usr/lib/${triple}/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig)
# Programs that the build or ctest runs go through qemu-user.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${CMAKE_SYSTEM_PROCESSOR} -L ${CMAKE_SYSROOT})
