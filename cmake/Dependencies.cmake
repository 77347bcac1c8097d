# Third-party libraries, each as an imported target dep_<name>.  All are Debian and Ubuntu
# packages; tools/setup.sh names them.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)

function(refine_pkg name module)
    pkg_check_modules(dep_${name} REQUIRED IMPORTED_TARGET ${module})
    add_library(dep_${name} INTERFACE)
    target_link_libraries(dep_${name} INTERFACE PkgConfig::dep_${name})
endfunction()

refine_pkg(uring liburing)
refine_pkg(zstd libzstd)
refine_pkg(png libpng)
refine_pkg(jpeg libjpeg)
refine_pkg(jansson jansson)
refine_pkg(utf8proc libutf8proc)
refine_pkg(xxhash libxxhash)
refine_pkg(zlib zlib)
refine_pkg(exif libexif)

# oneDNN: some packages carry neither a pkg-config file nor a usable CMake one.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.h)
find_library(DNNL_LIBRARY dnnl)
if(NOT DNNL_INCLUDE_DIR OR NOT DNNL_LIBRARY)
    message(FATAL_ERROR "oneDNN is not installed: apt-get install libdnnl-dev")
endif()
add_library(dep_dnnl INTERFACE)
target_include_directories(dep_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(dep_dnnl INTERFACE ${DNNL_LIBRARY})

# oneDNN brings an OpenMP runtime; kernels/cpu/onednn.c tells it to stay on one thread.
add_library(dep_openmp INTERFACE)
target_link_libraries(dep_openmp INTERFACE OpenMP::OpenMP_C)
