# How every target is built: the contract's rules (no contraction, no fast-math, no -march=native), one library per folder that
# sees only the folders below it, programs, generated protobuf code.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
  endif()
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")  # what the sanitizer presets use: assertions on
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
    find_program(VERBATIM_CCACHE ccache)
    if(VERBATIM_CCACHE)
      # One cache serves every clone: paths below the source count as relative.
      set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${VERBATIM_CCACHE})
      set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
      # nvcc -E shows one target's text, so a change that only another sees (__CUDA_ARCH__) would find the old object: by files alone.
      set(CMAKE_CUDA_COMPILER_LAUNCHER env CCACHE_DEPEND=1 ${CMAKE_CXX_COMPILER_LAUNCHER})
    endif()
  endif()
else()
  set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)  # who adds us as a subdirectory links what we found
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(Protobuf REQUIRED MODULE)
find_package(TBB REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
if(VERBATIM_CUDA)
  # Hopper, and what the driver compiles for any other from Ampere on.
  set(CMAKE_CUDA_ARCHITECTURES 90a-real 80-virtual CACHE STRING "")
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 knows it for no version of nvcc
  find_package(CUDAToolkit REQUIRED)
endif()

add_library(verbatim_flags INTERFACE)
target_compile_features(verbatim_flags INTERFACE cxx_std_20)
target_include_directories(verbatim_flags INTERFACE $<INSTALL_INTERFACE:include>)
# Without errno a square root is the IEEE instruction alone, never a call into libm.
target_compile_options(verbatim_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off$<SEMICOLON>-fno-math-errno>)

# Warnings and sanitizers are ours alone: a consumer's own code does not get them.
add_library(verbatim_strict INTERFACE)
target_compile_options(verbatim_strict INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wall$<SEMICOLON>-Wextra>)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)  # GCC 12 sees the empty side of a Result's union as a value read
  target_compile_options(verbatim_strict INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wno-maybe-uninitialized>)
endif()
if(VERBATIM_SANITIZE)
  target_compile_options(verbatim_strict INTERFACE -fsanitize=${VERBATIM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(verbatim_flags INTERFACE -fsanitize=${VERBATIM_SANITIZE})
endif()
if(VERBATIM_FUZZ)
  target_compile_options(verbatim_strict INTERFACE -fsanitize=fuzzer-no-link)
endif()

# verbatim_external(NAME TARGET ARCHIVE): a library from outside as our programs link it: TARGET, or in a program that is static
# as a whole its ARCHIVE.
function(verbatim_external name target archive)
  find_library(VERBATIM_ARCHIVE_${name} ${archive})
  mark_as_advanced(VERBATIM_ARCHIVE_${name})
  add_library(${name} INTERFACE)
  set(static $<BOOL:$<TARGET_PROPERTY:VERBATIM_STATIC>>)
  target_include_directories(${name} SYSTEM INTERFACE $<BUILD_INTERFACE:$<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>>)
  target_link_libraries(${name} INTERFACE
    "$<BUILD_INTERFACE:$<IF:${static},${VERBATIM_ARCHIVE_${name}},${target}>>" $<INSTALL_INTERFACE:${target}>)
endfunction()
verbatim_external(verbatim_crypto OpenSSL::Crypto libcrypto.a)
verbatim_external(verbatim_protobuf protobuf::libprotobuf-lite libprotobuf-lite.a)

# Headers stand beside their sources and are included as <verbatim/core/tensor.h>, in the tree as after installation. A folder
# has an include root of its own, and a library sees the roots of the libraries it names and of theirs: a wrong include does
# not build.
function(verbatim_include_root folder result)
  set(root ${PROJECT_BINARY_DIR}/include/${folder})
  file(MAKE_DIRECTORY ${root}/verbatim)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${folder} ${root}/verbatim/${folder} SYMBOLIC)
  set(${result} ${root} PARENT_SCOPE)
endfunction()

# verbatim_library(NAME SOURCES files... [DEPENDS libs...] [PRIVATE libs...]): a library of the folder it is called in. DEPENDS
# are our own libraries that its headers may include, PRIVATE what only its sources use.
function(verbatim_library name)
  cmake_parse_arguments(arg "" "" "DEPENDS;PRIVATE;SOURCES" ${ARGN})
  file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  string(REGEX REPLACE "/.*" "" folder ${folder})
  verbatim_include_root(${folder} root)
  if(arg_SOURCES)
    add_library(${name} STATIC ${arg_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:verbatim_strict> ${arg_PRIVATE})
  else()
    add_library(${name} INTERFACE)  # headers alone
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} $<BUILD_INTERFACE:${root}>)
  target_link_libraries(${name} ${scope} verbatim_flags ${arg_DEPENDS})
  string(REGEX REPLACE "^verbatim_" "" export_name ${name})
  set_target_properties(${name} PROPERTIES EXPORT_NAME ${export_name})
  add_library(verbatim::${export_name} ALIAS ${name})
endfunction()

# verbatim_program(NAME SOURCES files... DEPENDS libs... [STATIC]): a program in bin/. It names verbatim_threads or
# verbatim_serial among its libraries. STATIC: one file that needs nothing of the machine it runs on.
function(verbatim_program name)
  cmake_parse_arguments(arg "STATIC" "" "DEPENDS;SOURCES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE verbatim_strict ${arg_DEPENDS})
  if(arg_STATIC AND NOT VERBATIM_SANITIZE)  # a sanitizer's runtime is a shared library
    set_target_properties(${name} PROPERTIES VERBATIM_STATIC ON)
    target_link_options(${name} PRIVATE -static $<$<CONFIG:Release>:-s>)
  endif()
endfunction()

# verbatim_protobuf_sources(RESULT FILE.proto... [GRPC]): the generated sources of FILEs, to be listed in a library of the same
# folder; they are included as "FILE.pb.h" by that library's sources alone.
function(verbatim_protobuf_sources result)
  cmake_parse_arguments(arg "GRPC" "" "" ${ARGN})
  set(grpc_options)
  set(suffixes .pb)
  if(arg_GRPC)
    find_program(VERBATIM_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)
    mark_as_advanced(VERBATIM_GRPC_PLUGIN)
    set(grpc_options --grpc_out=${CMAKE_CURRENT_BINARY_DIR} --plugin=protoc-gen-grpc=${VERBATIM_GRPC_PLUGIN})
    list(APPEND suffixes .grpc.pb)
  endif()
  set(sources)
  foreach(proto ${arg_UNPARSED_ARGUMENTS})
    cmake_path(ABSOLUTE_PATH proto)
    cmake_path(GET proto STEM stem)
    cmake_path(GET proto PARENT_PATH folder)
    set(outputs)
    foreach(suffix ${suffixes})
      list(APPEND outputs ${CMAKE_CURRENT_BINARY_DIR}/${stem}${suffix}.cc ${CMAKE_CURRENT_BINARY_DIR}/${stem}${suffix}.h)
    endforeach()
    add_custom_command(OUTPUT ${outputs} DEPENDS ${proto} VERBATIM
      COMMAND protobuf::protoc --cpp_out=${CMAKE_CURRENT_BINARY_DIR} ${grpc_options} -I${folder} ${proto})
    list(APPEND sources ${outputs})
  endforeach()
  if(sources)
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS -w)  # generated code is not ours to warn about
  endif()
  set_property(DIRECTORY APPEND PROPERTY INCLUDE_DIRECTORIES ${CMAKE_CURRENT_BINARY_DIR})
  set(${result} ${sources} PARENT_SCOPE)
endfunction()
