# The CUDA device: refine_cuda is what its sources are compiled with and linked to.
#
#   AUTO      built where a CUDA compiler is found
#   ON, OFF   required, left out
#   EMULATED  the same sources by the C++ compiler, on the card of tests/support/cuda, which is
#             this machine's processor: for tests

set(REFINE_WITH_CUDA OFF)
set(REFINE_CUDA_ARCHITECTURES 75 80 86 89 90 120 CACHE STRING "Cards to compile kernels for")
# All cards up to the next of these share its PTX: kernels/cuda/ptx.cuh tells 7.5 and 8.0 apart, and
# of the PTX of 8.0 ptxas makes code for 12.0 that spills.
set(REFINE_CUDA_STEPS 75 80 120)

# The largest of some numbers that is at most `most`; "" if none is.
function(refine_newest out most)
    set(newest "")
    foreach(arch IN LISTS ARGN)
        if(arch LESS_EQUAL most AND (newest STREQUAL "" OR arch GREATER newest))
            set(newest ${arch})
        endif()
    endforeach()
    set(${out} "${newest}" PARENT_SCOPE)
endfunction()

# nvcc's options: machine code of those cards that this nvcc knows; PTX of all steps taken, bar the
# oldest of several, for others and for cards to come.  Sets REFINE_CUDA_STEPS_TAKEN too.
function(refine_cuda_code out)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE listed)
    string(REGEX MATCHALL "[0-9]+" known "${listed}")
    set(possible "")
    foreach(step IN LISTS REFINE_CUDA_STEPS)
        if(step IN_LIST known)
            list(APPEND possible ${step})
        endif()
    endforeach()
    set(steps "")
    foreach(arch IN LISTS REFINE_CUDA_ARCHITECTURES)
        refine_newest(step ${arch} ${possible})
        if(step STREQUAL "")
            message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} compiles for no card as old as ${arch}")
        endif()
        list(APPEND steps ${step})
        if(arch IN_LIST known)
            list(APPEND code_${step} sm_${arch})
        else()
            message(STATUS "${arch} is not known to nvcc: such cards get PTX of ${step}")
        endif()
    endforeach()
    list(REMOVE_DUPLICATES steps)
    list(SORT steps COMPARE NATURAL)
    list(GET steps 0 oldest)

    set(options "")
    foreach(step IN LISTS steps)
        if(steps STREQUAL oldest OR NOT step EQUAL oldest)
            list(APPEND code_${step} compute_${step})
        endif()
        list(JOIN code_${step} "," code)
        string(APPEND options "--generate-code=arch=compute_${step},code=[${code}] ")
    endforeach()
    set(${out} "${options}" PARENT_SCOPE)
    set(REFINE_CUDA_STEPS_TAKEN ${steps} PARENT_SCOPE)
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
        "$<$<COMPILE_LANGUAGE:CXX>:-ftls-model=initial-exec>" # a call each time otherwise
        "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Wall -Wextra -Wno-unknown-pragmas>")
elseif(NOT REFINE_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        set(CMAKE_CUDA_ARCHITECTURES OFF)
        enable_language(CUDA)
        find_package(CUDAToolkit REQUIRED)
        refine_cuda_code(code)
        set(CMAKE_CUDA_STANDARD 17)
        set(CMAKE_CUDA_STANDARD_REQUIRED ON)
        set(REFINE_WITH_CUDA ON)
        add_library(refine_cuda INTERFACE)
        target_link_libraries(refine_cuda INTERFACE CUDA::cudart_static)
        # A seventh of the size, for a driver of CUDA 12.4 at least: where the toolkit needs it anyway.
        set(compress "")
        if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
            set(compress "--compress-mode=size ")
        endif()
        # Registers, spills and PTX of every kernel, for tests/lint/cuda_code.sh; lines for profilers.
        target_compile_options(refine_cuda INTERFACE
            "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:${code}${compress}-lineinfo -Xptxas -v>")
        set(CMAKE_CUDA_COMPILER_LAUNCHER sh ${PROJECT_SOURCE_DIR}/cmake/keep_report.sh)
    elseif(REFINE_CUDA STREQUAL "ON")
        message(FATAL_ERROR "REFINE_CUDA=ON, but no CUDA compiler was found")
    endif()
endif()
