# refine_embed(TARGET NAME SOURCE HEADER [BINARY]): the text of SOURCE, a CSS file below the caller,
# becomes `const char NAME[]` of TARGET, NUL-ended, which HEADER declares.  It is made anew when the
# file changes.
#
# Comments are left out, and where a line is indented the line break and the indentation: the text
# is smaller than its source, whose lines can be short.  BINARY: any file, kept as it is, becomes
# `const unsigned char NAME[]`, and `const size_t NAME_bytes` says how many there are.  The array is
# written by this file itself, run as a script with -P.

if(NOT CMAKE_SCRIPT_MODE_FILE)
    set(REFINE_EMBED ${CMAKE_CURRENT_LIST_FILE})

    function(refine_embed target name source header)
        set(from ${CMAKE_CURRENT_SOURCE_DIR}/${source})
        set(to ${CMAKE_CURRENT_BINARY_DIR}/${name}.c)
        add_custom_command(OUTPUT ${to}
            COMMAND ${CMAKE_COMMAND} -D NAME=${name} -D FROM=${from} -D TO=${to} -D HEADER=${header}
                    -D KIND=${ARGN} -P ${REFINE_EMBED}
            DEPENDS ${from} ${REFINE_EMBED} VERBATIM)
        target_sources(${target} PRIVATE ${to})
    endfunction()
    return()
endif()

if(KIND STREQUAL "BINARY")
    file(READ ${FROM} bytes HEX)
    set(type "unsigned char")
    set(size "const size_t ${NAME}_bytes = sizeof ${NAME} - 1;\n")
else()
    file(READ ${FROM} text)
    string(REGEX REPLACE "/\\*([^*]|\\*[^/])*\\*/\n?" "" text "${text}")
    string(REGEX REPLACE "\n +" "" text "${text}")
    string(HEX "${text}" bytes)
    set(type "char")
    set(size "")
endif()
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${TO} "/* Made by cmake/Embed.cmake. */
#include \"${HEADER}\"

const ${type} ${NAME}[] = {
    ${bytes} 0
};
${size}")
