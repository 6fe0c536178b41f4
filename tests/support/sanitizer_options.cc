// What the sanitizers do with what they find, when the tests are built with them: the first error ends the
// test. Part of each test program, so that it also holds without ctest.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

// Names that the sanitizers' run-time libraries look for.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" const char* __asan_default_options();
extern "C" const char* __ubsan_default_options();
extern "C" const char* __tsan_default_options();

const char* __asan_default_options() {
    return "halt_on_error=1:detect_leaks=1:detect_stack_use_after_return=1";
}
const char* __ubsan_default_options() {
    return "halt_on_error=1:print_stacktrace=1";
}
const char* __tsan_default_options() {
    return "halt_on_error=1:second_deadlock_stack=1";
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

#endif
