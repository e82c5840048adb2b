# verbatim-bench. Peers are what is installed: OpenBLAS is found at run time, oneDNN and Eigen here.
if(CMAKE_CROSSCOMPILING)
  return()
endif()
file(GLOB bench_sources CONFIGURE_DEPENDS bench/*.cc)
find_library(VERBATIM_DNNL dnnl)  # its own CMake package wants OpenCL, which its CPU engine does not need
find_path(VERBATIM_DNNL_INCLUDE oneapi/dnnl/dnnl.hpp)
mark_as_advanced(VERBATIM_DNNL VERBATIM_DNNL_INCLUDE)
find_package(Eigen3 QUIET NO_MODULE)
find_package(OpenMP QUIET COMPONENTS CXX)  # the threads of both

# verbatim_bench_target(NAME FLAGS...): bench/target for one vector target, as in kernels/CMakeLists.txt.
function(verbatim_bench_target name)
  file(GLOB target_sources CONFIGURE_DEPENDS bench/target/*.cc)
  add_library(verbatim_bench_${name} OBJECT ${target_sources})
  target_link_libraries(verbatim_bench_${name} PRIVATE verbatim_repops Eigen3::Eigen OpenMP::OpenMP_CXX)
  target_include_directories(verbatim_bench_${name} PRIVATE ${cli_root} ${PROJECT_BINARY_DIR}/include/kernels)
  target_compile_options(verbatim_bench_${name} PRIVATE ${ARGN} -O3 -ffp-contract=fast)  # Eigen as its users build it
  list(APPEND bench_sources $<TARGET_OBJECTS:verbatim_bench_${name}>)
  set(bench_sources ${bench_sources} PARENT_SCOPE)
endfunction()

set(bench_definitions)
if(TARGET Eigen3::Eigen AND TARGET OpenMP::OpenMP_CXX)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    verbatim_bench_target(avx2 -mavx2 -mfma -mf16c)
    verbatim_bench_target(avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl)
    list(APPEND bench_definitions VERBATIM_BENCH_X86)
  elseif(CMAKE_SYSTEM_PROCESSOR STREQUAL aarch64)
    verbatim_bench_target(neon)
    list(APPEND bench_definitions VERBATIM_BENCH_ARM)
  endif()
endif()
verbatim_program(verbatim-bench SOURCES ${bench_sources}
                 DEPENDS verbatim_cli CLI11::CLI11 nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS} ${threads})
target_include_directories(verbatim-bench PRIVATE ${cli_root})
if(VERBATIM_DNNL AND VERBATIM_DNNL_INCLUDE AND TARGET OpenMP::OpenMP_CXX)
  list(APPEND bench_definitions VERBATIM_BENCH_ONEDNN)
  target_include_directories(verbatim-bench SYSTEM PRIVATE ${VERBATIM_DNNL_INCLUDE})
  target_link_libraries(verbatim-bench PRIVATE ${VERBATIM_DNNL})
endif()
if(TARGET OpenMP::OpenMP_CXX)
  target_link_libraries(verbatim-bench PRIVATE OpenMP::OpenMP_CXX)
endif()
target_compile_definitions(verbatim-bench PRIVATE ${bench_definitions}
                           VERBATIM_BENCH_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}/bench")
