# cmake --install: tools (tools/CMakeLists.txt), library, headers, pkg-config file, man pages.

if(TARGET refine)
    install(TARGETS refine LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

    # The public headers include each other from the source root; installed they live in
    # refine/, so the includes between them are rewritten on the way.
    file(READ engine/refine.h header)
    string(REPLACE "\"engine/base/" "\"refine/" header "${header}")
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/installed/refine.h CONTENT "${header}" @ONLY)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS engine/refine.h)
    install(FILES ${CMAKE_BINARY_DIR}/installed/refine.h engine/base/event.h
                  engine/base/status.h
            DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/refine)

    # Found from where it lies, so that --prefix at installation works too.
    file(RELATIVE_PATH PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
    configure_file(cmake/refine.pc.in ${CMAKE_BINARY_DIR}/installed/refine.pc @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/installed/refine.pc
            DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()

# The pages name the version.
file(GLOB man_pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.1)
foreach(page IN LISTS man_pages)
    get_filename_component(name ${page} NAME)
    configure_file(${page} ${CMAKE_BINARY_DIR}/installed/${name} @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/installed/${name} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endforeach()
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
