# Packages: `make deb`, `make rpm` (CPack). Two of them: the broker, and the load generator.
set(CPACK_PACKAGE_NAME tidegate)
set(CPACK_PACKAGE_VENDOR "The Tidegate authors")
set(CPACK_PACKAGE_CONTACT "The Tidegate authors <maintainers@tidegate.example>")
set(CPACK_PACKAGE_HOMEPAGE_URL "https://tidegate.example/")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Server-Sent-Events broker scripted in Lua")
set(CPACK_DEBIAN_BROKER_DESCRIPTION "Services publish events over HTTP, or insert them into a PostgreSQL table in
their own transaction. Browsers and programs subscribe to topics and resume
after interruptions without loss. Lua policies decide per connection who may
see what, and in which form. Events are stored in SQLite or PostgreSQL.")
set(CPACK_COMPONENTS_ALL broker bench)
set(CPACK_COMPONENT_BENCH_DESCRIPTION "load generator for Server-Sent-Events brokers
Subscribes with thousands of connections, publishes, and checks that every
subscriber gets every event once and in order. Reports rates, latencies, CPU
time and memory. It works with any broker that speaks Server-Sent Events.")
set(CPACK_STRIP_FILES ON)
set(CPACK_SET_DESTDIR ON) # /etc/tidegate is not below the prefix
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
  WORLD_EXECUTE)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_BROKER_PACKAGE_NAME tidegate)
set(CPACK_DEBIAN_BROKER_PACKAGE_SECTION net)
set(CPACK_DEBIAN_BROKER_PACKAGE_DEPENDS "adduser")
# `tidegate test` and `tidegate check` use the last two
set(CPACK_DEBIAN_BROKER_PACKAGE_RECOMMENDS "ca-certificates, lua-busted, lua-check")
set(CPACK_DEBIAN_BROKER_PACKAGE_SUGGESTS "postgresql")
set(debian ${CMAKE_SOURCE_DIR}/conf/package/debian)
set(CPACK_DEBIAN_BROKER_PACKAGE_CONTROL_EXTRA
  "${debian}/conffiles;${debian}/postinst;${debian}/prerm;${debian}/postrm")
set(CPACK_DEBIAN_BENCH_PACKAGE_NAME tidegate-bench)
set(CPACK_DEBIAN_BENCH_PACKAGE_SECTION net)

set(CPACK_RPM_COMPONENT_INSTALL ON)
set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_MAIN_COMPONENT broker)
set(CPACK_PACKAGE_RELOCATABLE OFF)
set(CPACK_RPM_BROKER_PACKAGE_DESCRIPTION "${CPACK_DEBIAN_BROKER_DESCRIPTION}")
set(CPACK_RPM_PACKAGE_LICENSE MIT)
set(CPACK_RPM_PACKAGE_AUTOREQ ON)
set(CPACK_RPM_BROKER_USER_FILELIST "%attr(0640, root, tidegate) %config(noreplace) /etc/tidegate/tidegate.lua"
  "%config(noreplace) /etc/tidegate/policy.lua")
set(CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION /etc /lib /usr/lib/systemd /usr/lib/systemd/system /usr/lib/sysusers.d
  /usr/share/bash-completion /usr/share/bash-completion/completions /usr/share/zsh /usr/share/zsh/site-functions
  /usr/share/zsh/vendor-completions /usr/share/fish /usr/share/fish/vendor_completions.d)
set(rpm ${CMAKE_SOURCE_DIR}/conf/package/rpm)
set(CPACK_RPM_BROKER_PACKAGE_REQUIRES_PRE "shadow-utils, glibc-common") # useradd, groupadd; getent
set(CPACK_RPM_BROKER_PRE_INSTALL_SCRIPT_FILE ${rpm}/pre)
set(CPACK_RPM_BROKER_POST_INSTALL_SCRIPT_FILE ${rpm}/post)
set(CPACK_RPM_BROKER_PRE_UNINSTALL_SCRIPT_FILE ${rpm}/preun)
set(CPACK_RPM_BROKER_POST_UNINSTALL_SCRIPT_FILE ${rpm}/postun)

# What Debian's policy wants below /usr/share/doc of each package.
string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC) # of SOURCE_DATE_EPOCH, where that is set
execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} log -1 --format=%cD OUTPUT_VARIABLE committed ERROR_QUIET
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(committed AND NOT DEFINED ENV{SOURCE_DATE_EPOCH})
  set(now "${committed}") # the same commit makes the same package
endif()
file(WRITE ${CMAKE_BINARY_DIR}/install/changelog "tidegate (${PROJECT_VERSION}-1) unstable; urgency=medium

  * Version ${PROJECT_VERSION}: CHANGELOG.md says what is in it.

 -- ${CPACK_PACKAGE_CONTACT}  ${now}
")
find_program(GZIP gzip REQUIRED)
execute_process(COMMAND ${GZIP} -9nf ${CMAKE_BINARY_DIR}/install/changelog COMMAND_ERROR_IS_FATAL ANY)
foreach(package tidegate tidegate-bench)
  string(REGEX REPLACE "^tidegate$" broker component ${package})
  string(REGEX REPLACE "^tidegate-" "" component ${component})
  install(FILES ${debian}/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component} EXCLUDE_FROM_ALL)
  install(FILES ${CMAKE_BINARY_DIR}/install/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component}
    RENAME changelog.Debian.gz EXCLUDE_FROM_ALL)
  install(FILES ${debian}/${package}.lintian-overrides DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides RENAME ${package}
    COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()
include(CPack)
