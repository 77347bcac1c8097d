# Compiler flags of everything built here, gathered in the interface target refine_flags.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

# Asserts stay on in release: NDEBUG is never defined.
set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g") # enough for the sanitizers; -O0 takes too long
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -g1") # the emulated CUDA device
set(CMAKE_CXX_FLAGS_DEBUG "-O3 -g1")

find_program(REFINE_CCACHE ccache)
if(REFINE_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER ${REFINE_CCACHE})
endif()

add_library(refine_flags INTERFACE)
target_include_directories(refine_flags INTERFACE
    ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/engine/include ${CMAKE_BINARY_DIR}/generated)
target_compile_options(refine_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-pedantic -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
    -Wstrict-prototypes -Wmissing-prototypes -Wvla>)
if(REFINE_WERROR)
    target_compile_options(refine_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-Werror>)
endif()

# No contraction: a result must not depend on where a compiler found a fused
# multiply-add.  errno after maths functions is never read.
target_compile_options(refine_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-ffp-contract=off -fno-math-errno>)

if(REFINE_GUARDS) # engine/base/guard.h
    target_compile_definitions(refine_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:REFINE_GUARDS=1>)
endif()

if(REFINE_SANITIZE)
    target_compile_options(refine_flags INTERFACE
        $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${REFINE_SANITIZE} -fno-omit-frame-pointer
        -fno-sanitize-recover=all>
        # What AddressSanitizer finds as well, and costs the emulated card a sixth of its time.
        $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=null,object-size,pointer-overflow,vptr>)
    target_link_options(refine_flags INTERFACE -fsanitize=${REFINE_SANITIZE})
endif()

if(REFINE_FUZZ)
    target_compile_options(refine_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
