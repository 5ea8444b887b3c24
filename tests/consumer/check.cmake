# cmake -D build=... -D generator=... -D compiler=... -D config=... -P check.cmake
#
# Installs `build` into a temporary prefix and builds this folder's project against
# it; then again after the prefix has moved, to prove that it can.

set(work ${build}/consumer)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${work} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(use prefix)
  set(tree ${work}/build-${prefix})
  run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${tree} -G ${generator}
    -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_BUILD_TYPE=${config} -D CMAKE_PREFIX_PATH=${work}/${prefix})
  run(${CMAKE_COMMAND} --build ${tree})
  run(${tree}/consumer)
  run(${tree}/lesson1)
  run(${tree}/lesson2)
  set(net ${CMAKE_CURRENT_LIST_DIR}/../golden/oracle/net0)
  execute_process(COMMAND ${tree}/device ${net}.wtl ${net}.in OUTPUT_FILE ${work}/device.out COMMAND_ERROR_IS_FATAL ANY)
  run(${CMAKE_COMMAND} -E compare_files ${work}/device.out ${net}.out)
endfunction()

file(MAKE_DIRECTORY ${work})
run(${CMAKE_COMMAND} --install ${build} --config ${config} --prefix ${work}/first)
use(first)

file(RENAME ${work}/first ${work}/second)
use(second)

# Nothing installed may remember where it was built.
file(GLOB_RECURSE scripts ${work}/second/*.cmake)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH source)
cmake_path(GET source PARENT_PATH source)
foreach(script IN LISTS scripts)
  file(READ ${script} text)
  foreach(path IN ITEMS ${source} ${build})
    string(FIND "${text}" "${path}/" position)
    if(NOT position EQUAL -1)
      message(FATAL_ERROR "${script} mentions ${path}")
    endif()
  endforeach()
endforeach()
