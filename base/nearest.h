// "Did you mean": the candidate with the smallest edit distance, for errors that name the nearest right thing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gearbox {

// The nearest of the candidates by Damerau-Levenshtein distance (restricted), ignoring case. Empty when there are no
// candidates, or when nothing is near enough to be helpful (more than half of the longer word would have to change).
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean 'gmp'?" or "" when nothing is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace gearbox
