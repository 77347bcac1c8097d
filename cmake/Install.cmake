# cmake --install: tools (tools/CMakeLists.txt), library, headers, pkg-config file, man pages.

if(TARGET refine)
    install(TARGETS refine LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

    install(DIRECTORY engine/include/refine DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

    # Found from where it lies, so that --prefix at installation works too.
    file(RELATIVE_PATH PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
    configure_file(cmake/refine.pc.in ${CMAKE_BINARY_DIR}/installed/refine.pc @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/installed/refine.pc
            DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

    configure_file(docs/man/refine.3 ${CMAKE_BINARY_DIR}/installed/refine.3 @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/installed/refine.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
endif()

# A program whose options a page lists says them itself, in the page's language.
set(man_pages "")
foreach(tool refine-lowmem refine-pack refine-memprof)
    if(NOT TARGET ${tool})
        continue()
    endif()
    set(source ${PROJECT_SOURCE_DIR}/docs/man/${tool}.1)
    set(page ${CMAKE_BINARY_DIR}/installed/${tool}.1)
    add_custom_command(
        OUTPUT ${page}
        COMMAND ${tool} --man-options > ${page}.options
        COMMAND ${CMAKE_COMMAND} -DSOURCE=${source} -DOPTIONS=${page}.options -DPAGE=${page}
                -DVERSION=${PROJECT_VERSION} -P ${PROJECT_SOURCE_DIR}/cmake/man_page.cmake
        DEPENDS ${tool} ${source} ${PROJECT_SOURCE_DIR}/cmake/man_page.cmake
        VERBATIM)
    list(APPEND man_pages ${page})
    install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endforeach()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/installed)
add_custom_target(man_pages ALL DEPENDS ${man_pages})
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES tools/vocabulary/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME LICENSE.CLIP)
