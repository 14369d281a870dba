# What `cmake --install` puts where. Below the prefix (/usr in the release preset): the program, policies, stubs, the
# systemd unit. In /etc/tidegate: the configuration and its policy, which are the operator's from then on and are
# never overwritten.
include(GNUInstallDirs)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME broker)
set(TIDEGATE_ETC /etc/tidegate) # where the program looks for its configuration, whatever the prefix

# The default configuration is written for a checkout; installed, it says where things are then.
file(READ conf/tidegate.lua conf)
foreach(change
    "../data|/var/lib/tidegate"
    "../scripts/policies/open.lua|policy.lua")
  string(REPLACE "|" ";" change "${change}")
  list(GET change 0 from)
  list(GET change 1 to)
  string(FIND "${conf}" "\"${from}\"" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "conf/tidegate.lua does not hold \"${from}\", which conf/install.cmake replaces")
  endif()
  string(REPLACE "\"${from}\"" "\"${to}\"" conf "${conf}")
endforeach()
string(REPLACE "a database in ../data" "a database in /var/lib/tidegate" conf "${conf}")
string(REPLACE "check conf/tidegate.lua" "check ${TIDEGATE_ETC}/tidegate.lua" conf "${conf}")
file(WRITE ${CMAKE_BINARY_DIR}/install/tidegate.lua "${conf}")
file(COPY_FILE ${CMAKE_SOURCE_DIR}/scripts/policies/open.lua ${CMAKE_BINARY_DIR}/install/policy.lua ONLY_IF_DIFFERENT)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS conf/tidegate.lua scripts/policies/open.lua)
configure_file(conf/tidegate.service.in ${CMAKE_BINARY_DIR}/install/tidegate.service @ONLY)

install(TARGETS tidegate RUNTIME)
# a package of its own: who runs a broker does not need it
install(TARGETS tidegate-bench RUNTIME COMPONENT bench)
# A build with sanitizers is for specs, and slow; one for another machine cannot run what it builds.
if(NOT TIDEGATE_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(manual ${CMAKE_BINARY_DIR}/manual)
  add_custom_command(OUTPUT ${manual}/tidegate.1.gz
    COMMAND ${CMAKE_SOURCE_DIR}/conf/package/manual.sh $<TARGET_FILE:tidegate> $<TARGET_FILE:tidegate-bench>
      ${CMAKE_SOURCE_DIR}/scripts/meta/tidegate.lua ${manual}
    DEPENDS tidegate tidegate-bench conf/package/manual.sh scripts/meta/tidegate.lua VERBATIM)
  set(completions ${CMAKE_BINARY_DIR}/completions)
  add_custom_command(OUTPUT ${completions}/bash-completion/completions/tidegate
    COMMAND ${CMAKE_SOURCE_DIR}/conf/package/completions.sh $<TARGET_FILE:tidegate> ${completions}
    DEPENDS tidegate conf/package/completions.sh VERBATIM)
  add_custom_target(manual ALL DEPENDS ${manual}/tidegate.1.gz ${completions}/bash-completion/completions/tidegate)
  install(DIRECTORY ${completions}/ DESTINATION ${CMAKE_INSTALL_DATADIR})
  foreach(section 1 5 7)
    install(DIRECTORY ${manual}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section}
      FILES_MATCHING PATTERN "*.${section}.gz" PATTERN "tidegate-bench.1.gz" EXCLUDE)
  endforeach()
  install(FILES ${manual}/tidegate-bench.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT bench)
endif()
# without pages: links from there lead nowhere
install(DIRECTORY scripts/policies scripts/meta DESTINATION ${CMAKE_INSTALL_DATADIR}/tidegate PATTERN "*.md" EXCLUDE)
# all pages, and what they link to, where they are in the tree: so their links work
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
file(GLOB_RECURSE pages RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS conf/*.md conf/proxies/* scripts/*.md spec/*.md src/*.md spec/bench/plots/*.svg)
file(GLOB more RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS *.md)
foreach(page ${pages} ${more} scripts/lib/test.lua spec/bench/limit.c spec/cluster/run.lua conf/postgres.lua
    conf/prometheus/alerts.yml conf/grafana/tidegate.json conf/container/Containerfile conf/container/compose.yml
    conf/kubernetes/tidegate.yaml conf/helm/tidegate/values.yaml conf/helm/tidegate/Chart.yaml
    conf/helm/tidegate/templates/tidegate.yaml)
  get_filename_component(folder ${page} DIRECTORY)
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_DOCDIR}/${folder})
endforeach()
install(FILES ${CMAKE_BINARY_DIR}/install/tidegate.service conf/tidegate.socket DESTINATION lib/systemd/system)
install(FILES conf/tidegate.sysusers DESTINATION lib/sysusers.d RENAME tidegate.conf)
install(FILES conf/tidegate.tmpfiles DESTINATION lib/tmpfiles.d RENAME tidegate.conf)
foreach(name tidegate.lua policy.lua)
  install(CODE "
    if(EXISTS \"\$ENV{DESTDIR}${TIDEGATE_ETC}/${name}\")
      message(STATUS \"Kept: \$ENV{DESTDIR}${TIDEGATE_ETC}/${name}\")
    else()
      file(INSTALL \"${CMAKE_BINARY_DIR}/install/${name}\" DESTINATION \"${TIDEGATE_ETC}\")
    endif()" COMPONENT broker)
endforeach()
