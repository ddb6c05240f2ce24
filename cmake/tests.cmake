# One test binary per folder of tests/ that holds C++; every test in it is a ctest entry of its own process, so that a crash or a hang
# costs one test. tests/house/*_test.py hold the tree's own rules, tests/docs/*_test.py hold the documents to the code, tests/harness/*_test.py use the command line. tests/analysis is Python's unittest, run by the front-door script.
enable_testing()
find_package(GTest REQUIRED)
include(GoogleTest)

file(GLOB test_rooms CONFIGURE_DEPENDS RELATIVE "${CMAKE_SOURCE_DIR}/tests" "${CMAKE_SOURCE_DIR}/tests/*")
set(test_binaries "")
foreach(room IN LISTS test_rooms)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/${room}/*.cc")
  if(sources AND IS_DIRECTORY "${CMAKE_SOURCE_DIR}/tests/${room}")
    set(binary "test_${room}")
    add_executable(${binary} ${sources})
    target_compile_options(${binary} PRIVATE -Wno-dangling-else)  # `if (x) EXPECT_EQ(...)`: gtest's macros hold the else
    target_compile_options(${binary} PRIVATE ${GEARBOX_PROGRAM_FLAGS})  # tests are programs
    if(GEARBOX_PRESET STREQUAL "release")
      target_compile_options(${binary} PRIVATE -O1)  # the tests themselves; what they test keeps its -O3
    endif()
    # Tests of the gears and of the runtime take nothing else in: the harness's JSON costs more to build than they do.
    set(rooms gearbox_core)
    if(room MATCHES "^(harness|workloads|fuzz)$")
      set(rooms gearbox_all)
    endif()
    target_link_libraries(${binary} PRIVATE ${rooms} GTest::gmock GTest::gtest GTest::gtest_main)
    target_compile_definitions(${binary} PRIVATE GEARBOX_SOURCE_DIR="${CMAKE_SOURCE_DIR}" GEARBOX_BINARY_DIR="${CMAKE_BINARY_DIR}")
    if(TARGET gearbox-bin AND room STREQUAL "harness")
      add_dependencies(${binary} gearbox-bin)  # tests start it as a child process
    endif()
    gtest_discover_tests(${binary} TEST_PREFIX "${room}." NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 180)
    list(APPEND test_binaries ${binary})
  endif()
endforeach()

# These start hundreds of cells. A sanitized program takes a second to begin, and on a busy machine one of them takes longer than 600 s.
set(GEARBOX_LONG_TEST_S 600)
if(GEARBOX_SANITIZERS)
  set(GEARBOX_LONG_TEST_S 2400)
endif()
foreach(room house docs harness)
  file(GLOB room_tests CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/${room}/*_test.py")
  foreach(test IN LISTS room_tests)
    get_filename_component(name "${test}" NAME_WE)
    add_test(NAME ${room}.${name} COMMAND "${GEARBOX_PYTHON}" -B "${test}" "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}")
    # The cost lets them begin first: each is as long as hundreds of the others, and would be left alone on one CPU at the end.
    set_tests_properties(${room}.${name} PROPERTIES TIMEOUT ${GEARBOX_LONG_TEST_S} COST 1000)
  endforeach()
endforeach()

# Everything that `gearbox test` needs, without the microbenchmarks.
add_custom_target(everything-tested DEPENDS ${test_binaries})
if(TARGET gearbox-bin)
  add_dependencies(everything-tested gearbox-bin)
endif()

file(GLOB_RECURSE bench_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/bench/*.cc")
if(bench_sources)
  find_package(benchmark REQUIRED)
  add_executable(bench EXCLUDE_FROM_ALL ${bench_sources})
  target_link_libraries(bench PRIVATE gearbox_all benchmark::benchmark benchmark::benchmark_main)
endif()
