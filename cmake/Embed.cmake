# refine_embed(TARGET NAME SOURCE HEADER): the text of SOURCE, a CSS file below the caller, becomes
# `const char NAME[]` of TARGET, NUL-ended, which HEADER declares.  It is made anew when the file
# changes.
#
# Comments are left out, and where a line is indented the line break and the indentation: the text
# is smaller than its source, whose lines can be short.  The array is written by this file itself,
# run as a script with -P.

if(NOT CMAKE_SCRIPT_MODE_FILE)
    set(REFINE_EMBED ${CMAKE_CURRENT_LIST_FILE})

    function(refine_embed target name source header)
        set(from ${CMAKE_CURRENT_SOURCE_DIR}/${source})
        set(to ${CMAKE_CURRENT_BINARY_DIR}/${name}.c)
        add_custom_command(OUTPUT ${to}
            COMMAND ${CMAKE_COMMAND} -D NAME=${name} -D FROM=${from} -D TO=${to} -D HEADER=${header}
                    -P ${REFINE_EMBED}
            DEPENDS ${from} ${REFINE_EMBED} VERBATIM)
        target_sources(${target} PRIVATE ${to})
    endfunction()
    return()
endif()

file(READ ${FROM} text)
string(REGEX REPLACE "/\\*([^*]|\\*[^/])*\\*/\n?" "" text "${text}")
string(REGEX REPLACE "\n +" "" text "${text}")
string(HEX "${text}" bytes)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${TO} "/* Made by cmake/Embed.cmake. */
#include \"${HEADER}\"

const char ${NAME}[] = {
    ${bytes} 0
};
")
