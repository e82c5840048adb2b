// Errors as values.
//
//   Result<Tensor> t = read_npy("x.npy");
//   if (!t.ok()) return t.status();
//
//   VB_ASSIGN(Tensor t, read_npy("x.npy"));   // the same in one line
//
// A Status says what to do, not only what failed: parsers of outside data use bad_input_at(), which
// names the file, the byte offset and the reason. Nothing in this library throws across a public
// interface.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace verbatim {

enum class StatusCode : uint8_t {
  ok = 0,
  usage,        // the caller asked for something impossible (exit code 64)
  bad_input,    // outside data is malformed or inconsistent (65)
  unavailable,  // a backend, file or service that is needed is not there (69)
  unsupported,  // well-formed, but beyond what this build implements (69)
  limit,        // larger than the stated limits allow (65)
  deadline,     // out of time (3: FORFEIT where a party caused it)
  internal,     // a bug in this library (70)
  busy,         // every place is taken: the same, asked again later, may do (69)
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::ok; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same error, with "context: " in front of its message.
  Status with_context(const std::string& context) const {
    return ok() ? *this : Status(code_, context + ": " + message_);
  }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

// The process exit code that the command line gives for a failed status (interfaces: 64, 65, 69,
// 70).
int exit_code(StatusCode code);

inline Status usage_error(std::string m) { return {StatusCode::usage, std::move(m)}; }
inline Status bad_input(std::string m) { return {StatusCode::bad_input, std::move(m)}; }
inline Status unavailable(std::string m) { return {StatusCode::unavailable, std::move(m)}; }
inline Status unsupported(std::string m) { return {StatusCode::unsupported, std::move(m)}; }
inline Status over_limit(std::string m) { return {StatusCode::limit, std::move(m)}; }
inline Status busy(std::string m) { return {StatusCode::busy, std::move(m)}; }
inline Status internal_error(std::string m) { return {StatusCode::internal, std::move(m)}; }

// "source: byte 123: reason"
Status bad_input_at(const std::string& source, uint64_t offset, const std::string& reason);

// A T, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}         // NOLINT: implicit by design
  Result(Status status) : state_(std::move(status)) {}  // NOLINT: implicit by design

  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }

  T& operator*() & { return std::get<T>(state_); }
  const T& operator*() const& { return std::get<T>(state_); }
  T&& operator*() && { return std::get<T>(std::move(state_)); }
  T* operator->() { return &std::get<T>(state_); }
  const T* operator->() const { return &std::get<T>(state_); }

 private:
  std::variant<Status, T> state_;
};

}  // namespace verbatim

// Returns the error of `expr` (a Status) from the enclosing function, if there is one.
#define VB_TRY(expr)                                                                 \
  do {                                                                               \
    if (::verbatim::Status vb_status_ = (expr); !vb_status_.ok()) return vb_status_; \
  } while (false)

#define VB_CONCAT_(a, b) a##b
#define VB_CONCAT(a, b) VB_CONCAT_(a, b)
#define VB_ASSIGN_(tmp, decl, expr)   \
  auto tmp = (expr);                  \
  if (!tmp.ok()) return tmp.status(); \
  decl = *std::move(tmp)
// Declares `decl` from the value of `expr` (a Result), or returns its error. A type with commas
// needs `auto`.
#define VB_ASSIGN(decl, expr) VB_ASSIGN_(VB_CONCAT(vb_result_, __LINE__), decl, expr)
