// completion: a script for bash or zsh, written from the commands themselves.
#include <functional>

#include <verbatim/cli/common.h>

namespace verbatim::cli {
namespace {

// One case line for each command path: its subcommands and long options.
std::string cases(const CLI::App& app, const std::string& path) {
  std::string words, rest;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    words += " " + sub->get_name();
    rest += cases(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name());
  }
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) words += " --" + name;
  return "    '" + path + "') words='" + (words.empty() ? "" : words.substr(1)) + "' ;;\n" + rest;
}

std::string script(const CLI::App& app, const std::string& shell) {
  std::string s = shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "";
  s += "_verbatim() {\n  local path='' word words=''\n  for word in "
       "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
       "    case $word in -*) ;; *) case \" $(_verbatim_words \"$path\") \" in *\" $word \"*) "
       "path=${path:+$path }$word ;; esac ;; esac\n  done\n"
       "  mapfile -t COMPREPLY < <(compgen -W \"$(_verbatim_words \"$path\")\" -- "
       "\"${COMP_WORDS[COMP_CWORD]}\")\n"
       "  [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "
       "\"${COMP_WORDS[COMP_CWORD]}\")\n}\n"
       "_verbatim_words() {\n  local words=''\n  case $1 in\n";
  return s + cases(app, "") +
         "  esac\n  echo \"$words\"\n}\ncomplete -o filenames -F _verbatim verbatim\n";
}

}  // namespace

void register_completion(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>("bash");
  CLI::App& c = *app.add_subcommand(
      "completion", "Print a completion script: source <(verbatim completion bash)");
  c.add_option("shell", *shell, "bash or zsh")->check(CLI::IsMember({"bash", "zsh"}));
  on_run(c, context, [shell, &app]() -> Result<int> {
    std::fputs(script(app, *shell).c_str(), stdout);
    return kDone;
  });
}

}  // namespace verbatim::cli
