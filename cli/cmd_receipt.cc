// receipt show | validate | verify; trace diff | import.
#include <verbatim/cli/common.h>
#include <verbatim/cli/runs.h>
#include <verbatim/cli/verdicts.h>
#include <verbatim/verify/receipt.h>
#include <verbatim/verify/trace.h>
#include <verbatim/verify/trace_import.h>

namespace verbatim::cli {
namespace {

Result<int> show(const Context& context, const std::string& path) {
  VB_ASSIGN(const Receipt r, read_receipt(path));
  Json inputs = Json::object(), outputs = Json::object(), shown = Json::object();
  std::string text = "task " + task_id(r.task).hex() + "\nmodel " + printable(r.task.model_name) +
                     "  root " + r.task.model_root.hex() + "\nprogram " +
                     r.task.program_root.hex() + "\n";
  for (const Shown& s : r.task.shown) {
    shown[s.name] = s.text;
    text += "  " + s.name + ": " + printable(s.text) + "\n";
  }
  for (const InputRoot& in : r.task.inputs) {
    inputs[in.name] = in.root.hex();
    text += "input " + in.root.hex() + "  " + in.name + "\n";
  }
  for (const OutputRoot& out : r.outputs) {
    outputs[out.name] = out.root.hex();
    text += "output " + out.root.hex() + "  " + out.name + "\n";
  }
  const std::string signer = r.signed_by ? to_hex(r.signed_by->key.bytes) : "";
  Json json = {{"semantics", r.task.semantics},
               {"task", task_id(r.task).hex()},
               {"model", {{"name", r.task.model_name}, {"root", r.task.model_root.hex()}}},
               {"program", r.task.program_root.hex()},
               {"settings", shown},
               {"inputs", inputs},
               {"commit", name_of(r.task.level)},
               {"steps", r.steps},
               {"outputs", outputs},
               {"root", r.final_root.hex()}};
  json["signed_by"] = signer.empty() ? Json(nullptr) : Json(signer);
  print_result(context, json,
               text + "commitment " + std::string(name_of(r.task.level)) + ", " +
                   std::to_string(r.steps) + " steps, semantics version " +
                   std::to_string(r.task.semantics) + "\nsigned by " +
                   (signer.empty() ? "nobody" : signer) + "\nroot " + r.final_root.hex() + "\n");
  return kDone;
}

int print_report(const Context& context, const ReceiptReport& report) {
  print_result(context, report_json(report), report_text(report));
  return report_exit_code(report);
}

Result<int> validate(const Context& context, const std::string& path) {
  VB_ASSIGN(const Receipt receipt, read_receipt(path));
  return print_report(context, validate_receipt(receipt));
}

struct VerifyFlags {
  std::string receipt, model;
  std::vector<std::string> inputs;
};

Result<int> verify(const Context& context, const VerifyFlags& flags) {
  VB_ASSIGN(const Receipt receipt, read_receipt(flags.receipt));
  VB_ASSIGN(const auto model, Model::load(flags.model));
  Result<Job> made = job_of_receipt(*model, receipt.task.shown, flags.inputs);
  if (!made.ok()) {
    // The receipt was not tried: it is another model's, or its inputs are not to be had.
    ReceiptReport report;
    report.reason = made.status().message();
    return print_report(context, report);
  }
  Job job = *std::move(made);
  VB_ASSIGN(const auto backend, context.make_backend());
  job.program.graph.compute_roots();
  return print_report(context, verify_receipt(receipt, job.program, job.inputs, *backend,
                                              model->root(), flags.inputs.empty()));
}

// Where the traces have something in common, and it is equal; else there is no verdict.
int print_no_difference(const Context& context, const TraceDiff& d, bool exact,
                        const std::string& extent) {
  const bool compared = d.compared > 0;
  Json json = {{"equal", nullptr}, {"compared", d.compared}, {"missing", d.missing}};
  if (compared) json["equal"] = true;
  print_result(context, json,
               (!compared ? "nothing was compared: no value is in both traces\n"
                : exact   ? "the traces are equal\n"
                          : "the traces are equal to within the tolerance\n") +
                   extent);
  return compared ? kDone : kNoVerdict;
}

Result<int> diff(const Context& context, const std::string& a_path, const std::string& b_path,
                 const Tolerance& tolerance) {
  VB_ASSIGN(const TraceReader a, TraceReader::open(a_path));
  VB_ASSIGN(const TraceReader b, TraceReader::open(b_path));
  VB_ASSIGN(const TraceDiff d, trace_diff(a, b, tolerance));
  const std::string extent = a.partial() || b.partial()
                                 ? std::to_string(d.compared) + " values compared, " +
                                       std::to_string(d.missing) + " missing in a partial trace\n"
                                 : "";
  if (d.equal)
    return print_no_difference(context, d, tolerance.absolute <= 0 && tolerance.relative <= 0,
                               extent);
  Json json = {{"equal", false}, {"compared", d.compared}, {"missing", d.missing}};
  json.update({{"step", d.step},
               {"node", d.node},
               {"operator", d.title},
               {"tile", d.tile},
               {"element", d.element},
               {"a_bits", d.a_bits},
               {"b_bits", d.b_bits},
               {"ulp", d.ulp ? Json(*d.ulp) : Json()},
               {"reason", d.reason}});
  std::string text = "first difference: step " + std::to_string(d.step) + ", node " +
                     std::to_string(d.node) + " (" + printable(d.title) + ")";
  text += d.element < 0
              ? ": " + d.reason + "\n"
              : ", tile " + std::to_string(d.tile) + ", element " + std::to_string(d.element) +
                    ": " + d.a_bits + " (" + d.a_value + ") and " + d.b_bits + " (" + d.b_value +
                    ")" + (d.apart.empty() ? "" : ", " + d.apart) + "\n";
  print_result(context, json, text + extent);
  return kRefuted;
}

struct ImportFlags {
  std::string dumps, model, precision = "fp32", output;
};

// The names by which another engine's dumps know the values of the program.
std::map<std::string, ValueId> dump_names(const Model& model, const Graph& graph) {
  return model.kind() == ModelKind::onnx ? model.onnx().values : node_value_names(graph);
}

Result<int> import_trace(const Context& context, const ImportFlags& flags) {
  VB_ASSIGN(const auto model, Model::load(flags.model));
  GenerateSettings settings;
  VB_ASSIGN(settings.precision, parse_precision(flags.precision));
  Result<Program> program = model->kind() == ModelKind::llama ? model->generation_program(settings)
                                                              : model->program(settings.precision);
  if (!program.ok()) return program.status();
  program->graph.compute_roots();
  VB_ASSIGN(
      const DumpReport report,
      import_dumps(flags.dumps, program->graph, dump_names(*model, program->graph), flags.output));
  const auto list = [](const char* what, const std::vector<std::string>& names) {
    std::string text = std::to_string(names.size()) + what;
    for (size_t i = 0; i < names.size() && i < 5; ++i)
      text += (i == 0 ? ": " : ", ") + printable(names[i]);
    return text + (names.size() > 5 ? ", ...\n" : "\n");
  };
  print_result(context,
               {{"trace", flags.output},
                {"values", report.values},
                {"missing", report.missing},
                {"unused", report.unused}},
               std::to_string(report.values) + " values imported into " + flags.output + "\n" +
                   list(" values of the model have no dump", report.missing) +
                   list(" files are no one value's", report.unused));
  return kDone;
}

void register_trace(CLI::App& app, Context& context) {
  CLI::App& trace =
      *app.add_subcommand("trace", "Compare stored runs (`run --trace DIR`), other engines' too");
  trace.require_subcommand(1);
  {
    auto a = std::make_shared<std::string>(), b = std::make_shared<std::string>();
    auto tolerance = std::make_shared<Tolerance>();
    CLI::App& c = *trace.add_subcommand("diff",
                                        "The first step, operator and element at which two traces "
                                        "differ: 0 where none does, 1 where "
                                        "one does, 2 where they have no value in common");
    c.add_option("a", *a, "Trace folder")->required();
    c.add_option("b", *b, "Trace folder")->required();
    c.add_option("--tolerance", tolerance->absolute,
                 "T: |a - b| <= T + R * |b| counts as equal. Default: T and R 0, bits are compared")
        ->check(number_from_zero());
    c.add_option("--relative", tolerance->relative, "R in the same")->check(number_from_zero());
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return diff(context, *a, *b, *tolerance); });
  }
  auto flags = std::make_shared<ImportFlags>();
  CLI::App& c = *trace.add_subcommand(
      "import", "Another engine's values, a .npy file for each by its name, as a trace");
  c.add_option("dir", flags->dumps, "Folder of .npy files")->required();
  c.add_option("--model", flags->model, "The model whose values they are")->required();
  c.add_option("--precision", flags->precision, "Of the run to compare with");
  c.add_option("-o,--output", flags->output, "Trace folder to write; must not exist yet")
      ->required();
  add_json_flag(c, context);
  on_run(c, context, [=, &context] { return import_trace(context, *flags); });
}

}  // namespace

void register_receipt(CLI::App& app, Context& context) {
  CLI::App& receipt = *app.add_subcommand("receipt", "Show and check receipts");
  receipt.require_subcommand(1);
  auto flags = std::make_shared<VerifyFlags>();
  {
    CLI::App& c = *receipt.add_subcommand(
        "show", "Print what a receipt says; everything shown is bound by its root");
    c.add_option("file", flags->receipt, "Receipt")->required();
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return show(context, flags->receipt); });
  }
  {
    CLI::App& c = *receipt.add_subcommand(
        "validate", "Check a receipt's form, hashes and signature; nothing is recomputed");
    c.add_option("file", flags->receipt, "Receipt")->required();
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return validate(context, flags->receipt); });
  }
  {
    CLI::App& c = *receipt.add_subcommand(
        "verify", "Run the program again and compare: VERIFIED (0), REFUTED (1) or NO_VERDICT (2)");
    c.add_option("file", flags->receipt, "Receipt")->required();
    c.add_option("--model", flags->model, "The model: a folder or an .onnx file")->required();
    c.add_option(
         "--input", flags->inputs,
         "NAME=FILE for each input, for a receipt of `run`; texts and prompts are in the receipt")
        ->type_name("NAME=FILE");
    add_backend_flags(c, context);
    add_json_flag(c, context);
    on_run(c, context, [=, &context] { return verify(context, *flags); });
  }
  register_trace(app, context);
}

}  // namespace verbatim::cli
