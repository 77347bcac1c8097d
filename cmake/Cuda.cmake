# The CUDA device: refine_cuda is what its sources are compiled with and linked to.
#
#   AUTO      built where a CUDA compiler is found
#   ON, OFF   required, left out
#   EMULATED  the same sources by the C++ compiler, on the card of tests/support/cuda, which is
#             this machine's processor: for tests

set(REFINE_WITH_CUDA OFF)
set(REFINE_CUDA_ARCHITECTURES 75 80 86 89 90 120 CACHE STRING "Cards to compile kernels for")

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

# Machine code of those cards that this nvcc knows; PTX of the newest of them, for cards to come,
# and of 8.0, for cards in between.  A card that it does not know runs the newest PTX below it.
function(refine_cuda_architectures out)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE listed)
    string(REGEX MATCHALL "[0-9]+" known "${listed}")
    set(real "")
    set(ptx "")
    foreach(arch IN LISTS REFINE_CUDA_ARCHITECTURES)
        refine_newest(newest ${arch} ${known})
        if(newest STREQUAL "")
            message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} compiles for no card as old as ${arch}")
        elseif(newest EQUAL arch)
            list(APPEND real ${arch})
        else()
            message(STATUS "${arch} is not known to nvcc: such cards get PTX of ${newest}")
            list(APPEND ptx ${newest})
        endif()
    endforeach()
    refine_newest(last 9999 ${real})
    list(APPEND ptx ${last})
    if(80 IN_LIST real)
        list(APPEND ptx 80)
    endif()
    list(REMOVE_DUPLICATES ptx)

    set(all "")
    foreach(arch IN LISTS real ptx)
        if(NOT arch IN_LIST ptx)
            list(APPEND all ${arch}-real)
        elseif(NOT arch IN_LIST real)
            list(APPEND all ${arch}-virtual)
        else()
            list(APPEND all ${arch}) # both, of one compilation
        endif()
    endforeach()
    list(REMOVE_DUPLICATES all)
    set(${out} ${all} PARENT_SCOPE)
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
