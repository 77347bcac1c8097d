# refine_layer(NAME GLOBS... EXCEPT... USES... NEEDS...): one static library per directory of the
# layering (tests/lint/layers.txt).  EXCEPT are files that another configuration compiles, USES the
# layers below, NEEDS what its sources alone include.
# A directory without sources yet makes no target, and links to a
# target that does not exist are left out, so every layer builds by itself.

function(refine_link target scope)
    foreach(use IN LISTS ARGN)
        if(TARGET ${use})
            target_link_libraries(${target} ${scope} ${use})
        endif()
    endforeach()
endfunction()

function(refine_layer name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "GLOBS;EXCEPT;USES;NEEDS")
    file(GLOB sources CONFIGURE_DEPENDS ${arg_GLOBS})
    foreach(file IN LISTS arg_EXCEPT)
        list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    endforeach()
    if(NOT sources)
        message(STATUS "${name}: no sources")
        return()
    endif()
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC refine_flags)
    refine_link(${name} PUBLIC ${arg_USES})
    refine_link(${name} PRIVATE ${arg_NEEDS})
endfunction()
