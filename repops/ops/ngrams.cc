// TfIdfVectorizer of integers: how often given n-grams occur. Counts are exact.
#include <map>
#include <vector>

#include <verbatim/repops/ops/arithmetic.h>
#include <verbatim/repops/ops/copy.h>
#include <verbatim/repops/ops/registry.h>

namespace verbatim {
namespace {

using Ints = std::vector<int64_t>;

struct Vectorizer {
  int64_t least = 1, most = 1, skip = 0;  // lengths of n-grams; elements that may be skipped
  std::string mode;
  std::map<Ints, int64_t> columns;  // of the n-grams of these lengths
  int64_t width = 0;
  std::vector<float> weights;  // of the columns; empty: 1
};

// The pool holds n-grams of length 1, then 2, and so on; starts[n - 1] is where those of length n
// begin, indexes the column of each of them. Of one n-gram twice, the last counts.
Status read_pool(const Node& node, Vectorizer& v) {
  VB_ASSIGN(const Ints starts, node.attributes.require<Ints>("ngram_counts"));
  VB_ASSIGN(const Ints indexes, node.attributes.require<Ints>("ngram_indexes"));
  VB_ASSIGN(const Ints pool, node.attributes.require<Ints>("pool_int64s"));
  for (const int64_t column : indexes) {
    if (column < 0 || column >= kMaxSize) return bad_input("column " + std::to_string(column));
    v.width = std::max(v.width, column + 1);
  }
  const auto size = static_cast<int64_t>(pool.size());
  size_t next = 0;
  for (size_t n = 1; n <= starts.size(); ++n) {
    const int64_t begin = starts[n - 1], end = n < starts.size() ? starts[n] : size,
                  length = static_cast<int64_t>(n);
    if (begin < 0 || begin > end || end > size)
      return bad_input("ngram_counts " + std::to_string(begin) + " of " + std::to_string(size));
    for (int64_t at = begin; at + length <= end; at += length, ++next) {
      if (next >= indexes.size()) return bad_input("more n-grams than ngram_indexes");
      if (length >= v.least && length <= v.most)
        v.columns[Ints(pool.begin() + at, pool.begin() + at + length)] = indexes[next];
    }
  }
  return {};
}

Result<Vectorizer> read_vectorizer(const Node& node) {
  const Attributes& a = node.attributes;
  Vectorizer v;
  if (a.has("pool_strings")) return unsupported("n-grams of strings");
  VB_ASSIGN(v.mode, a.require<std::string>("mode"));
  if (v.mode != "TF" && v.mode != "IDF" && v.mode != "TFIDF")
    return bad_input("mode '" + printable(v.mode) + "'");
  VB_ASSIGN(v.least, a.require<int64_t>("min_gram_length"));
  VB_ASSIGN(v.most, a.require<int64_t>("max_gram_length"));
  VB_ASSIGN(v.skip, a.require<int64_t>("max_skip_count"));
  constexpr int64_t kMost = 1 << 10;
  if (v.least < 1 || v.most < v.least || v.most > kMost || v.skip < 0)
    return bad_input("n-grams of " + std::to_string(v.least) + " to " + std::to_string(v.most) +
                     " elements, " + std::to_string(v.skip) + " skipped");
  VB_TRY(read_pool(node, v));
  VB_ASSIGN(v.weights, a.get<std::vector<float>>("weights", std::vector<float>()));
  if (!v.weights.empty() && static_cast<int64_t>(v.weights.size()) < v.width)
    return bad_input(std::to_string(v.weights.size()) + " weights for " + std::to_string(v.width) +
                     " columns");
  return v;
}

// Adds the n-grams of one row to its counts: single elements once, longer ones for each distance
// between neighbours, 1 to skip + 1.
void count_row(const Vectorizer& v, const Integers& x, int64_t begin, int64_t size, float* counts) {
  Ints gram;
  const auto count = [&](int64_t at, int64_t length, int64_t distance) {
    if (at + (length - 1) * distance >= size) return;
    gram.clear();
    for (int64_t i = 0; i < length; ++i) gram.push_back(x[begin + at + i * distance]);
    if (const auto found = v.columns.find(gram); found != v.columns.end())
      counts[found->second] += 1;
  };
  for (int64_t distance = 1; distance - 1 <= v.skip && distance <= size; ++distance)
    for (int64_t at = 0; at < size; ++at)
      for (int64_t length = v.least; length <= v.most; ++length)
        if (length > 1 || distance == 1) count(at, length, distance);
}

// TfIdfVectorizer(x [C] or [N, C]) -> [columns] or [N, columns], float32: the count (TF, in
// binary32), whether there is any times the weight (IDF), or the count times the weight, rounded
// (TFIDF).
Result<Tensors> tf_idf_vectorizer(const Node& node, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  VB_ASSIGN(const Vectorizer v, read_vectorizer(node));
  VB_ASSIGN(const Integers elements, Integers::of(x, "x"));
  if (x.rank() > 2) return bad_input("n-grams of " + x.describe());
  const int64_t rows = x.rank() == 2 ? x.dim(0) : 1, size = x.rank() == 0 ? 1 : x.dim(x.rank() - 1);
  std::vector<int64_t> dims = {v.width};
  if (x.rank() == 2) dims.insert(dims.begin(), rows);
  VB_ASSIGN(const Shape shape, Shape::of(dims));
  VB_ASSIGN(Tensor y, Tensor::zeros(DType::f32, shape));
  float* out = y.mutable_data<float>().data();
  for (int64_t r = 0; r < rows; ++r) count_row(v, elements, r * size, size, out + r * v.width);
  if (v.mode == "TF") return Tensors{y};
  for (int64_t i = 0; i < y.elements(); ++i) {
    const float weight = v.weights.empty() ? 1.0f : v.weights[i % v.width],
                count = v.mode == "IDF" && out[i] > 0 ? 1.0f : out[i];
    out[i] = canonical(out[i] > 0 ? weight * count : 0.0f);
  }
  return Tensors{y};
}

uint64_t tf_idf_cost(const Node& node, std::span<const Tensor> inputs, std::span<const Tensor>) {
  const Result<Vectorizer> v = read_vectorizer(node);
  const Tensor& x = inputs[0];
  if (!v.ok() || x.rank() > 2) return 0;
  const int64_t size = x.rank() == 0 ? 1 : x.dim(x.rank() - 1);
  const auto lengths = static_cast<uint64_t>(v->most - v->least + 1);
  const auto distances = static_cast<uint64_t>(std::min(v->skip, size)) + 1;
  return saturating_multiply(saturating_multiply(static_cast<uint64_t>(x.elements()), distances),
                             lengths * (static_cast<uint64_t>(v->most) + 16));
}

constexpr OpDef kOps[] = {
    {"", "TfIdfVectorizer", 1, 1, 1, tf_idf_vectorizer, tf_idf_cost},
};

}  // namespace

std::span<const OpDef> ngram_ops() { return kOps; }

}  // namespace verbatim
