// What a model is and computes, in a file that a user's own tests check: `verbatim lock`,
// docs/models.md.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <verbatim/cli/common.h>
#include <verbatim/repops/models/model.h>

namespace verbatim::cli {

// How an input is made. Element i of input n under a seed has u = philox_u64(seed, i, n): a
// floating one is (u >> 40) * 2^-23 - 1, from -1 to below 1, then cast to the type; an integer is
// low + u mod (high - low + 1); an ascending one is i.
struct LockInput {
  std::string name;
  DType dtype = DType::undefined;
  std::vector<int64_t> shape;
  bool ascending = false;
  int64_t low = 0, high = 0;
};

struct LockCase {
  uint64_t seed = 0;
  std::map<std::string, Digest> outputs;  // tensor roots by output name
};

struct Lock {
  uint32_t semantics = 0;
  std::string precision;
  Digest root;                            // of the model
  std::map<std::string, Digest> tensors;  // roots by name
  std::vector<LockInput> inputs;
  std::vector<LockCase> cases;
};

// The least seed that is there twice.
std::optional<uint64_t> find_repeated(std::vector<uint64_t> seeds);

struct LockSettings {
  std::string precision = "fp32";
  std::map<std::string, int64_t> dims = {};  // by symbol, or INPUT.AXIS where there is none
  std::map<std::string, std::pair<int64_t, int64_t>> ranges = {};  // of integer inputs, by name
  std::vector<uint64_t> seeds = {1, 2};
};

// The program that is locked: Model::program(), of a language model the logits of
// scoring_program().
Result<Program> locked_program(const Model& model, const std::string& precision);

// A lock of the model as it is. Dimensions without a size are 2 where they come first, else 16;
// integer inputs without a range lie within the table that they index, or else in 0..1. Errors:
// usage where a setting names nothing, limit where the inputs would take more than 1 GiB, whatever
// running gives, with the sizes that nobody chose.
Result<Lock> make_lock(const Model& model, const LockSettings& settings, Backend& backend);

// The JSON document: keys in a fixed order, digests in hexadecimal, two spaces of indentation, a
// newline at the end.
std::string lock_text(const Lock& lock);
Result<Lock> parse_lock(std::string_view text, const std::string& source);

struct LockDifference {
  std::string what;         // "semantics", "tensor", "model", "input", "program" or "output"
  std::string name;         // of the tensor, or "seed 1: logits"; "seed 1" where none was computed
  std::string locked, now;  // "" where it is not there
  std::string said;         // in plain words
};
// What of the lock does not hold for the model: empty where all does. The inputs are made anew from
// what the lock says of them. Another model's outputs that cannot be computed are a difference; the
// locked model's are an error, and so are inputs that cannot be made.
Result<std::vector<LockDifference>> check_lock(const Lock& lock, const Model& model,
                                               Backend& backend);

}  // namespace verbatim::cli
