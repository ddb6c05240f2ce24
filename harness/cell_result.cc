#include "harness/cell_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/os/memory.h"

namespace gearbox::harness {
namespace {

Json metric_json(const std::string& name, const std::string& unit, std::string_view better, double value) {
  Json out = {{"name", name}, {"unit", unit}, {"better", better}};
  out["value"] = std::isfinite(value) ? Json(value) : Json(nullptr);
  return out;
}

Json hist_json(const std::string& name, const std::string& unit, const Histogram& h) {
  Json percentiles = Json::array(), buckets = Json::array();
  for (double p : {50.0, 90.0, 99.0, 99.9, 99.99, 99.999}) percentiles.push_back(Json::array({p, h.percentile(p)}));
  for (const auto& b : h.buckets()) buckets.push_back(Json::array({b.lower, b.upper, b.count}));
  return {{"name", name},   {"unit", unit},   {"count", h.count()},         {"sum", h.sum()},
          {"min", h.min()}, {"max", h.max()}, {"percentiles", percentiles}, {"buckets", buckets}};
}

// Looks at one value after the other and keeps the first complaint. Values are shown without their insides: what is
// nested a million deep must not be walked through.
class Reader {
 public:
  using Is = bool (*)(const Json&);

  bool need(bool right, const std::string& field, const Json& value, const char* expected) {
    if (!right && !wrong_) {
      const std::string shown = value.is_structured() ? fmt::format("an {}", value.type_name()) : value.dump();
      wrong_ = fmt::format("{} must be {}, is {}", field, expected, shown.substr(0, 60));
    }
    return right;
  }
  // The member `key` of an object, which must be there.
  void member(const Json& object, const std::string& field, const char* key, Is is, const char* expected) {
    const auto found = object.find(key);
    const std::string name = fmt::format("{}.{}", field, key);
    if (found == object.end()) {
      if (!wrong_) wrong_ = fmt::format("{} is missing", name);
    } else {
      need(is(*found), name, *found, expected);
    }
  }
  // The elements of `result[key]`, objects with a name; with `unique` one that no other has. An absent list is empty.
  template <class Look>
  void objects(const Json& result, const char* key, bool unique, Look look) {
    const auto list = result.find(key);
    if (list == result.end() || !need(list->is_array(), key, *list, "a list")) return;
    std::set<std::string> names;
    for (std::size_t i = 0; i < list->size() && !wrong_; ++i) {
      const Json& one = (*list)[i];
      const std::string field = fmt::format("{}[{}]", key, i);
      if (!need(one.is_object(), field, one, "an object")) return;
      member(
          one, field, "name", [](const Json& v) { return v.is_string() && v != ""; }, "a name");
      if (unique && !wrong_ && !names.insert(one["name"].template get<std::string>()).second)
        wrong_ = fmt::format("{}.name is '{}' for the second time", field, one["name"].template get<std::string>());
      look(one, field);
    }
  }
  // The members of `result[key]`. An absent object is an empty one.
  template <class Look>
  void members(const Json& result, const std::string& field, const char* key, Look look) {
    const auto object = result.find(key);
    if (object == result.end() || !need(object->is_object(), field, *object, "an object")) return;
    for (const auto& [name, value] : object->items()) look(value, fmt::format("{}.{}", field, name), name);
  }
  const std::optional<std::string>& wrong() const { return wrong_; }

 private:
  std::optional<std::string> wrong_;
};

bool is_text(const Json& v) { return v.is_string(); }
bool is_number(const Json& v) { return v.is_number() && std::isfinite(v.get<double>()); }
// A unit of which there cannot be less than none; harness/analysis/rules.py has the same list.
bool is_amount(const Json& unit) {
  const auto units = {"s", "ns", "us", "ms", "bytes"};
  return std::find(units.begin(), units.end(), unit) != units.end();
}
bool is_count(const Json& v) { return v.is_number_unsigned(); }
template <std::size_t kSize>
bool is_tuple(const Json& v) {
  return v.is_array() && v.size() == kSize && std::all_of(v.begin(), v.end(), is_number);
}

void look_at_hist(Reader& reader, const Json& hist, const std::string& field) {
  reader.member(hist, field, "unit", is_text, "a text");
  for (const char* key : {"count", "sum", "min", "max"}) reader.member(hist, field, key, is_count, "a whole number");
  for (const auto& [key, is, expected] :
       {std::tuple<const char*, Reader::Is, const char*>{"percentiles", is_tuple<2>, "a percentile and its value"},
        {"buckets", is_tuple<3>, "a lower end, an upper end and a count"}}) {
    reader.member(
        hist, field, key, [](const Json& v) { return v.is_array(); }, "a list");
    if (reader.wrong()) return;
    const Json& list = hist[key];
    for (std::size_t i = 0; i < list.size(); ++i)
      if (!reader.need(is(list[i]), fmt::format("{}.{}[{}]", field, key, i), list[i], expected)) return;
  }
}

// How long the longest stop of the world was, and which share of the worst window of each length the program had to itself.
// Null where some stops were not kept: the worst may be among them.
void add_pauses(const RunStats& stats, Json& metrics) {
  const bool whole = stats.stops_left_out == 0 && stats.main_ns.begin_ns < stats.main_ns.end_ns;
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();  // null in a record
  std::int64_t longest = 0;
  for (const Interval& stop : stats.stops) longest = std::max(longest, stop.end_ns - stop.begin_ns);
  metrics.push_back(metric_json("longest_pause", "ns", "lower", whole ? static_cast<double>(longest) : kUnknown));
  for (const std::int64_t ms : {1, 10, 100})
    metrics.push_back(
        metric_json(fmt::format("mmu_{}ms", ms), "%", "higher",
                    whole ? 100 * minimum_utilization(stats.stops, stats.main_ns, ms * 1'000'000) : kUnknown));
}

}  // namespace

bool serves(const OptionPairs& params) {
  return std::find(params.begin(), params.end(), OptionPairs::value_type{"serve", "on"}) != params.end();
}

std::optional<std::string> why_malformed(const Json& result) {
  Reader reader;
  if (!reader.need(result.is_object(), "the result", result, "an object")) return reader.wrong();
  const auto status = result.find("status");
  if (status == result.end()) return "status is missing";
  // The other statuses are not the cell's to say.
  const bool known = *status == "ok" || *status == "check_failed" || *status == "exit" || *status == "unsupported";
  if (!reader.need(known, "status", *status, "ok, check_failed, exit or unsupported")) return reader.wrong();
  const bool ok = *status == "ok";
  const Json reason = result.contains("reason") && !result["reason"].is_structured() ? result["reason"] : Json(nullptr);
  if (ok) {
    reader.need(!result.contains("reason") || result["reason"].is_null(), "reason", reason,
                "null when the status is ok");
  } else {
    reader.need(reason.is_string() && reason != "", "reason", reason, "a sentence when the status is not ok");
  }
  reader.objects(result, "metrics", true, [&](const Json& metric, const std::string& field) {
    reader.member(metric, field, "unit", is_text, "a text");
    reader.member(
        metric, field, "better", [](const Json& v) { return v == "higher" || v == "lower"; }, "higher or lower");
    reader.member(
        metric, field, "value", [](const Json& v) { return v.is_null() || is_number(v); }, "a finite number or null");
    if (!reader.wrong() && is_amount(metric["unit"]) && metric["value"].is_number())
      reader.need(metric["value"].get<double>() >= 0, field + ".value", metric["value"], "0 or more in its unit");
  });
  reader.objects(result, "hists", true,
                 [&](const Json& hist, const std::string& field) { look_at_hist(reader, hist, field); });
  reader.objects(result, "checks", false, [&](const Json& check, const std::string& field) {
    reader.member(
        check, field, "ok", [](const Json& v) { return v.is_boolean(); }, "true or false");
    reader.member(check, field, "detail", is_text, "a text");
    if (ok && !reader.wrong())
      reader.need(check["ok"] == true, field + ".ok", check["ok"], "true when the status is ok");
  });
  reader.members(result, "counters", "counters",
                 [&](const Json& counter, const std::string& field, const std::string&) {
                   reader.need(is_number(counter), field, counter, "a number");
                 });
  reader.members(result, "effective", "effective", [&](const Json&, const std::string& field, const std::string& name) {
    reader.members(result["effective"], field, name.c_str(),
                   [&](const Json& value, const std::string& option, const std::string&) {
                     reader.need(is_text(value), option, value, "a text");
                   });
  });
  reader.members(result, "libraries", "libraries",
                 [&](const Json& version, const std::string& field, const std::string&) {
                   reader.need(version.is_null() || (version.is_string() && version != ""), field, version,
                               "a version as a text, or null");
                 });
  if (result.contains("guard")) reader.need(is_text(result["guard"]), "guard", result["guard"], "a text");
  return reader.wrong();
}

std::optional<std::string> why_no_headline(const Json& result, std::string_view headline) {
  const auto metrics = result.find("metrics");
  if (metrics != result.end()) {
    for (const auto& metric : *metrics) {
      if (metric["name"] != headline) continue;
      const Json& value = metric["value"];
      if (!value.is_number())
        return fmt::format("the workload's headline '{}' is not a finite number, so nothing was measured", headline);
      if (!(value.get<double>() > 0))
        return fmt::format("the workload's headline '{}' is {}; a measured value is above 0", headline, value.dump());
      return std::nullopt;
    }
  }
  return fmt::format("the workload reported no metric of the name of its headline '{}'", headline);
}

Json measured(const RunStats& stats, const Report& report, std::string_view headline, bool serves, std::int64_t wall_ns,
              std::int64_t cpu_ns) {
  Json checks = Json::array(), metrics = Json::array(), hists = Json::array(), counters = Json::object();
  std::string failed;
  for (const auto& check : report.checks) {
    checks.push_back({{"name", check.name}, {"ok", check.ok}, {"detail", check.detail}});
    if (!check.ok) failed += fmt::format("{}{}: {}", failed.empty() ? "" : "; ", check.name, check.detail);
  }
  if (report.checks.empty()) failed = "the workload made no check of its answer";
  for (const auto& counter : stats.counters) counters[counter.name] = counter.value;
  for (const auto& m : report.metrics) metrics.push_back(metric_json(m.name, m.unit, m.better.word(), m.value));
  metrics.push_back(metric_json("wall", "s", "lower", static_cast<double>(wall_ns) * 1e-9));
  metrics.push_back(metric_json("cpu", "s", "lower", static_cast<double>(cpu_ns) * 1e-9));
  metrics.push_back(metric_json("peak_rss", "bytes", "lower", static_cast<double>(os::peak_resident_bytes())));
  metrics.push_back(metric_json("gc_cycles", "cycles", "lower", static_cast<double>(stats.gc_cycles)));
  metrics.push_back(metric_json("gc_cpu", "s", "lower", static_cast<double>(stats.gc_cpu_ns) * 1e-9));
  metrics.push_back(metric_json("allocated", "bytes", "lower", static_cast<double>(stats.allocated_bytes)));
  add_pauses(stats, metrics);
  for (const auto& h : report.hists) hists.push_back(hist_json(h.name, h.unit, h.histogram));
  if (stats.gc_pause_ns.count() > 0) hists.push_back(hist_json("gc_pause", "ns", stats.gc_pause_ns));
  if (stats.pause_seen_ns.count() > 0) hists.push_back(hist_json("pause_seen", "ns", stats.pause_seen_ns));
  if (stats.time_to_stop_ns.count() > 0) hists.push_back(hist_json("time_to_stop", "ns", stats.time_to_stop_ns));

  Json out = {{"status", "ok"},       {"reason", nullptr}, {"metrics", metrics},       {"hists", hists},
              {"counters", counters}, {"checks", checks},  {"guard", stats.guard_kind}};
  if (failed.empty())
    if (auto wrong = why_malformed(out)) failed = "the workload's report cannot be believed: " + *wrong;
  if (failed.empty() && !serves) failed = why_no_headline(out, headline).value_or("");
  // A wrong answer has no time: metrics and histograms of such a cell must not reach a plot.
  if (!failed.empty()) {
    out["status"] = "check_failed";
    out["reason"] = failed;
    out["metrics"] = out["hists"] = Json::array();
  }
  return out;
}

}  // namespace gearbox::harness
