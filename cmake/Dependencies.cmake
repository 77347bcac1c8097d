# Third-party libraries, each as an imported target dep_<name>.  All are Debian and Ubuntu
# packages; tools/setup.sh names them.
#
# REFINE_PARTIAL, for a machine that is lent and not set up: what is missing leaves no target and
# one line "left out: ...", and the layers that need it are left out too (refine_needs).  There
# pkg-config is not needed either, and libraries may lie in REFINE_DEPS, put there by
# tools/gpu_check.sh collect; REFINE_WITHOUT names some to do without although they are here.

set(REFINE_DEPS "" CACHE PATH "Where else headers (include) and static libraries (lib) lie")
set(REFINE_WITHOUT "" CACHE STRING "With REFINE_PARTIAL: libraries not to look for, to try it")

find_package(Threads REQUIRED)
set(needed REQUIRED)
if(REFINE_PARTIAL)
    set(needed QUIET)
endif()
find_package(PkgConfig ${needed})

function(refine_leave_out what why)
    message(STATUS "left out: ${what} (${why})")
endfunction()

# Sets out_var to whether all these libraries are here; if not, says that `what` is left out.
function(refine_needs out_var what)
    set(missing "")
    foreach(name IN LISTS ARGN)
        if(NOT TARGET dep_${name})
            list(APPEND missing ${name})
        endif()
    endforeach()
    if(missing)
        list(JOIN missing " " missing)
        refine_leave_out("${what}" "without ${missing}")
        set(${out_var} OFF PARENT_SCOPE)
    else()
        set(${out_var} ON PARENT_SCOPE)
    endif()
endfunction()

# By its header and its library, the static one first in REFINE_DEPS.
function(refine_find_by_hand name header library)
    find_path(REFINE_${name}_INCLUDE ${header} HINTS ${REFINE_DEPS}/include)
    find_library(REFINE_${name}_LIBRARY NAMES ${library} HINTS ${REFINE_DEPS}/lib)
    if(REFINE_${name}_INCLUDE AND REFINE_${name}_LIBRARY)
        add_library(dep_${name} INTERFACE)
        target_include_directories(dep_${name} SYSTEM INTERFACE ${REFINE_${name}_INCLUDE})
        target_link_libraries(dep_${name} INTERFACE ${REFINE_${name}_LIBRARY} m)
    endif()
endfunction()

function(refine_pkg name module header library)
    if(name IN_LIST REFINE_WITHOUT)
        return()
    endif()
    if(PKG_CONFIG_FOUND)
        pkg_check_modules(dep_${name} ${needed} IMPORTED_TARGET ${module})
        if(dep_${name}_FOUND)
            add_library(dep_${name} INTERFACE)
            target_link_libraries(dep_${name} INTERFACE PkgConfig::dep_${name})
            return()
        endif()
    endif()
    refine_find_by_hand(${name} ${header} ${library})
endfunction()

refine_pkg(uring liburing liburing.h uring)
refine_pkg(zstd libzstd zstd.h zstd)
refine_pkg(zlib zlib zlib.h z)
refine_pkg(png libpng png.h png)
refine_pkg(jpeg libjpeg jpeglib.h jpeg)
refine_pkg(jansson jansson jansson.h jansson)
refine_pkg(utf8proc libutf8proc utf8proc.h utf8proc)
refine_pkg(xxhash libxxhash xxhash.h xxhash)
refine_pkg(exif libexif libexif/exif-data.h exif)
