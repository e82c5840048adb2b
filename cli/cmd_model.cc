// model digest: what a model is, in one number.
#include <verbatim/cli/common.h>
#include <verbatim/repops/models/model.h>

namespace verbatim::cli {
namespace {

Result<int> digest(const Context& context, const std::string& path) {
  VB_ASSIGN(const auto model, Model::load(path));
  Json tensors = Json::object();
  std::string text;
  for (const auto& [name, root] : model->tensor_roots()) {
    tensors[printable(name)] = root.hex();
    text += root.hex() + "  " + printable(name) + "\n";
  }
  const std::string root = model->root().hex();
  print_result(context, {{"root", root}, {"tensors", tensors}}, text + "root " + root + "\n");
  return kDone;
}

}  // namespace

void register_model(CLI::App& app, Context& context) {
  CLI::App& model = *app.add_subcommand("model", "What a model is");
  model.require_subcommand(1);
  auto path = std::make_shared<std::string>();
  CLI::App& c = *model.add_subcommand(
      "digest",
      "The root over a model's tensors, configuration and tokenizer, and each tensor's own");
  c.add_option("path", *path, "A Hugging Face folder or an .onnx file")->required();
  add_json_flag(c, context);
  on_run(c, context, [=, &context] { return digest(context, *path); });
}

}  // namespace verbatim::cli
