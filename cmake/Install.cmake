# cmake --install: tools (tools/CMakeLists.txt), library, headers, pkg-config file, man pages.

if(TARGET refine)
    install(TARGETS refine LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

    install(DIRECTORY engine/include/refine DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

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
