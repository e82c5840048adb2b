// Bodies of control-flow nodes for tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <verbatim/repops/graph.h>

namespace verbatim::testing {

// A body of `inputs` inputs; build(builder, inputs) gives its outputs.
template <class Build>
Body body_of(int inputs, Build&& build) {
  GraphBuilder b;
  std::vector<ValueId> in;
  for (int i = 0; i < inputs; ++i) in.push_back(b.body_input("in" + std::to_string(i)));
  const std::vector<ValueId> out = build(b, in);
  for (size_t i = 0; i < out.size(); ++i) b.output("out" + std::to_string(i), out[i]);
  const Result<Body> body = b.finish_body();
  EXPECT_TRUE(body.ok()) << body.status().message();
  return *body;
}

}  // namespace verbatim::testing
