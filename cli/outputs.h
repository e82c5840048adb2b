// What a command writes, looked at before it computes anything.
#pragma once

#include <string>
#include <vector>

#include <verbatim/core/status.h>

namespace verbatim::cli {

// `reads`: the files and folders that the command reads, models as Model::load() takes them. An
// output that was not asked for, "", is as it must be.

// A file that can be written, and is none of those read, nor one within a folder of them. Errors:
// usage, unavailable.
Status check_output_file(const std::string& path, const std::vector<std::string>& reads);

// A folder that can be made, since there is none or an empty one, and is none of those read. Errors
// as above.
Status check_output_folder(const std::string& path, const std::vector<std::string>& reads);

// The files that --input flags name.
std::vector<std::string> input_files(const std::vector<std::string>& input_flags);

}  // namespace verbatim::cli
