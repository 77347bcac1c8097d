# The CUDA device: refine_cuda is what its sources are compiled with and linked to.
#
#   AUTO      built where a CUDA compiler is found
#   ON, OFF   required, left out
#   EMULATED  the same sources by the C++ compiler, on the card of tests/support/cuda, which is
#             this machine's processor: for tests

set(REFINE_WITH_CUDA OFF)
set(REFINE_CUDA_ARCHITECTURES 75 80 86 89 90 120 CACHE STRING "Cards to compile kernels for")

# What this nvcc knows of them, as machine code, and the last as PTX for cards to come.
function(refine_cuda_architectures out)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known)
    set(list "")
    foreach(arch IN LISTS REFINE_CUDA_ARCHITECTURES)
        if(known MATCHES "compute_${arch}[\n]")
            list(APPEND list ${arch}-real)
            set(last ${arch})
        endif()
    endforeach()
    set(${out} ${list} ${last}-virtual PARENT_SCOPE)
endfunction()

if(REFINE_CUDA STREQUAL "EMULATED")
    enable_language(CXX)
    set(REFINE_WITH_CUDA ON)
    set(CMAKE_CXX_STANDARD 17)
    set(CMAKE_CXX_EXTENSIONS OFF)
    add_library(refine_cuda INTERFACE)
    target_include_directories(refine_cuda INTERFACE ${PROJECT_SOURCE_DIR}/tests/support/cuda)
    # CUDA's dialect puns types.
    target_compile_options(refine_cuda INTERFACE
        "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-march=native -ffp-contract=off -fno-strict-aliasing>"
        "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Wall -Wextra -Wno-unknown-pragmas>")
elseif(NOT REFINE_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        set(CMAKE_CUDA_ARCHITECTURES OFF)
        enable_language(CUDA)
        find_package(CUDAToolkit REQUIRED)
        refine_cuda_architectures(CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_STANDARD 17)
        set(CMAKE_CUDA_STANDARD_REQUIRED ON)
        set(REFINE_WITH_CUDA ON)
        add_library(refine_cuda INTERFACE)
        target_link_libraries(refine_cuda INTERFACE CUDA::cudart_static)
        # Registers and spills of every kernel, for tests/lint/cuda_code.sh.
        target_compile_options(refine_cuda INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas -v>")
        set(CMAKE_CUDA_COMPILER_LAUNCHER sh ${PROJECT_SOURCE_DIR}/cmake/keep_report.sh)
    elseif(REFINE_CUDA STREQUAL "ON")
        message(FATAL_ERROR "REFINE_CUDA=ON, but no CUDA compiler was found")
    endif()
endif()
