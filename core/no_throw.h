// What a callee throws, as an error: for places that must outlive whatever they call, such as a
// server's handlers and threads.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <verbatim/core/status.h>

namespace verbatim {

// f()'s Status or Result. Memory refused, or a size that no container can have, is over_limit; any
// other exception is an internal error.
template <class F>
std::invoke_result_t<F> no_throw(F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (const std::bad_alloc&) {
    return over_limit("out of memory");
  } catch (const std::length_error&) {
    return over_limit("out of memory");
  } catch (const std::exception& e) {
    return internal_error(e.what());
  } catch (...) {
    return internal_error("an exception of unknown type");
  }
}

}  // namespace verbatim
