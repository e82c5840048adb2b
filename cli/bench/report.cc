#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include <nlohmann/json.hpp>

#include <verbatim/cli/bench/bench.h>

namespace verbatim::bench {
namespace {

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : "%.2f", x);
  return text;
}

double rounded(double x) { return x > 0 ? std::strtod(number(x).c_str(), nullptr) : 0; }

}  // namespace

std::string to_json(const std::vector<Row>& rows) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Row& r : rows) {
    nlohmann::ordered_json j = {
        {"name", r.name}, {"shape", r.shape}, {"threads", r.threads}, {"ours", rounded(r.ours)}};
    const bool alone = r.peer_name.empty();
    j["peer"] = alone ? nlohmann::ordered_json() : nlohmann::ordered_json(rounded(r.peer));
    j["peer_name"] = r.peer_name;
    j["peer_version"] = r.peer_version;
    j["peer_kernel"] = r.peer_kernel;
    j["unit"] = r.unit;
    j["ratio"] = alone ? nlohmann::ordered_json()
                       : nlohmann::ordered_json(std::round(r.ratio() * 1000) / 1000);
    j["ours_kernel"] = r.ours_kernel;
    if (!r.device.empty()) {
      j["device"] = r.device;
      j["driver"] = r.driver;
    }
    if (r.limit > 0) {
      j["limit"] = rounded(r.limit);
      j["of_limit"] = std::round(r.ours / r.limit * 1000) / 1000;
    }
    list.push_back(std::move(j));
  }
  return list.dump(1) + "\n";
}

std::string to_table(const std::vector<Row>& rows) {
  std::string text =
      "| work | shape | threads | ours | | peer | | unit | ratio | of the limit |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n";
  for (const Row& r : rows) {
    text += "| " + r.name + " | " + r.shape + " | " + std::to_string(r.threads) + " | " +
            number(r.ours) + " | " + r.ours_kernel + " | " +
            (r.peer_name.empty() ? "" : number(r.peer)) + " | " + r.peer_name +
            (r.peer_kernel.empty() ? "" : " (" + r.peer_kernel + ")") + " | " + r.unit + " | " +
            (r.peer_name.empty() ? "" : number(r.ratio())) + " | " +
            (r.limit > 0 ? number(r.ours / r.limit) : "") + " |\n";
  }
  return text;
}

namespace {

constexpr double kWidth = 860, kHeight = 460, kLeft = 70, kRight = 190, kTop = 40, kBottom = 90;
constexpr const char* kColours[] = {"#1b6ca8", "#d1495b", "#66a182",
                                    "#edae49", "#8d6a9f", "#555555"};

struct Line {
  std::string label;
  std::map<size_t, double> points;  // by column
};

std::string text_at(double x, double y, const std::string& text, const std::string& more = "") {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" " + more + ">" + text + "</text>\n";
}

// A scale whose marks are 1, 2 or 5 times a power of ten.
double mark_step(double greatest) {
  const double power = std::pow(10, std::floor(std::log10(greatest / 4)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (greatest / (factor * power) <= 6) return factor * power;
  return 10 * power;
}

}  // namespace

std::string to_svg(const std::vector<Row>& rows, const std::string& title) {
  std::vector<std::string> columns;
  std::vector<Line> lines;
  const auto line = [&](const std::string& label) -> Line& {
    for (Line& l : lines)
      if (l.label == label) return l;
    return lines.emplace_back(Line{label, {}});
  };
  double greatest = 0;
  for (const Row& r : rows) {
    const std::string column = r.name + " " + r.shape;
    size_t at =
        static_cast<size_t>(std::find(columns.begin(), columns.end(), column) - columns.begin());
    if (at == columns.size()) columns.push_back(column);
    const std::string threads =
        r.threads == 1 ? ", 1 thread" : ", " + std::to_string(r.threads) + " threads";
    const auto put = [&](const std::string& label, double value) {
      line(label).points[at] = value;
      greatest = std::max(greatest, value);
    };
    put("Verbatim" + threads, r.ours);
    if (!r.peer_name.empty()) put(r.peer_name + threads, r.peer);
    if (r.limit > 0) put("limit" + threads, r.limit);
  }
  const double width = kWidth - kLeft - kRight, height = kHeight - kTop - kBottom;
  const auto x_of = [&](size_t i) {
    return kLeft + width * (static_cast<double>(i) + 0.5) / static_cast<double>(columns.size());
  };
  const auto y_of = [&](double v) { return kTop + height * (1 - v / (greatest * 1.05)); };
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(kWidth) +
                    "\" height=\"" + number(kHeight) +
                    "\" font-family=\"sans-serif\" font-size=\"11\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  svg += text_at(kLeft, 22, title + (rows.empty() ? "" : ", " + rows[0].unit), "font-size=\"14\"");
  if (rows.empty()) return svg + "</svg>\n";
  for (double mark = 0; mark <= greatest * 1.05; mark += mark_step(greatest)) {
    const std::string y = number(y_of(mark));
    svg += "<line x1=\"" + number(kLeft) + "\" x2=\"" + number(kLeft + width) + "\" y1=\"" + y +
           "\" y2=\"" + y + "\" stroke=\"#ddd\"/>\n";
    svg += text_at(kLeft - 6, y_of(mark) + 4, number(mark), "text-anchor=\"end\"");
  }
  for (size_t i = 0; i < columns.size(); ++i)
    svg += text_at(x_of(i), kTop + height + 14, columns[i],
                   "text-anchor=\"end\" font-size=\"9\" transform=\"rotate(-25 " + number(x_of(i)) +
                       " " + number(kTop + height + 14) + ")\"");
  for (size_t l = 0; l < lines.size(); ++l) {
    const std::string colour = kColours[l % std::size(kColours)];
    std::string points;
    for (const auto& [i, v] : lines[l].points) {
      points += number(x_of(i)) + "," + number(y_of(v)) + " ";
      svg += "<circle cx=\"" + number(x_of(i)) + "\" cy=\"" + number(y_of(v)) +
             "\" r=\"3\" fill=\"" + colour + "\"/>\n";
    }
    svg += "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"" + colour + "\" points=\"" +
           points + "\"/>\n";
    const double y = kTop + 14 + 16 * static_cast<double>(l);
    svg += "<rect x=\"" + number(kLeft + width + 10) + "\" y=\"" + number(y - 8) +
           "\" width=\"10\" height=\"10\" fill=\"" + colour + "\"/>\n";
    svg += text_at(kLeft + width + 26, y + 1, lines[l].label);
  }
  return svg + "</svg>\n";
}

}  // namespace verbatim::bench
