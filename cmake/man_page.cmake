# cmake -DSOURCE= -DOPTIONS= -DPAGE= -DVERSION= -P man_page.cmake: PAGE is SOURCE with the text of
# OPTIONS for its line @OPTIONS@, and VERSION for @PROJECT_VERSION@.

cmake_minimum_required(VERSION 3.22)
file(READ ${SOURCE} page)
file(READ ${OPTIONS} options)
if(NOT page MATCHES "\n@OPTIONS@\n")
    message(FATAL_ERROR "${SOURCE} has no line @OPTIONS@")
endif()
string(REPLACE "@OPTIONS@\n" "${options}" page "${page}")
string(REPLACE "@PROJECT_VERSION@" "${VERSION}" page "${page}")
file(WRITE ${PAGE} "${page}")
