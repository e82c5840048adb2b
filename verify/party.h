// Whoever answers a referee: a provider over the network, one in this process, or a transcript.
#pragma once

#include <verbatim/verify/protocol.h>

namespace verbatim {

class Party {
 public:
  virtual ~Party() = default;
  virtual const PublicKey& key() const = 0;
  // The answer to encode_request() bytes. An error of code deadline, unavailable or limit is the
  // party's failing (out of time, unreachable, too large an answer); any other code is trouble of
  // our own and stops the referee. Must return within the party's time budget.
  virtual Result<SignedAnswer> ask(ByteView request) = 0;
};

}  // namespace verbatim
