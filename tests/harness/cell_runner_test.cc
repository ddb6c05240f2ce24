// What a cell's process may do, and what its record says of it: a shell script in the place of the cell's program.
#include "harness/cell_runner.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gearbox::harness {
namespace {

CellRunner runner(const std::string& script) { return CellRunner({"/bin/sh", "-c", script}); }

Cell any_cell() {
  Cell cell;
  cell.workload = "fake";
  cell.id = cell_id(cell, "build");
  return cell;
}

TEST(CellRunner, AFloodOfAResultEndsTheCellAndNotTheRunner) {
  CellRunner r =
      runner("ulimit -f 65536; yes >&3");  // should nobody stop it, 32 MiB of the disk are enough to see that
  r.limits.timeout_s = 120;
  r.limits.output_limit_mib = 8;
  const Json record = r.run(any_cell(), 1, 7).record;
  EXPECT_EQ(record["status"], "signal");
  EXPECT_NE(record["reason"].get<std::string>().find("more than 8 MiB"), std::string::npos) << to_line(record);
}

// A cell at its time limit is asked for its traces (SIGQUIT) before it is killed, and the record has them.
TEST(CellRunner, ACellAtItsTimeLimitSaysWhereItStands) {
  struct Case {
    const char *script, *printed;
    bool on_signal;  // it dies of SIGQUIT or SIGKILL, and not by itself
  };
  for (const Case& c :
       {Case{"trap 'echo goroutine 7 [running] >&2; exit 2' QUIT; while :; do sleep 0.1; done", "goroutine 7 [running]",
             false},
        Case{"echo begun >&2; trap 'echo unheard >&2' TERM; trap 'echo asked >&2' QUIT; while :; do sleep 0.1; done",
             "begun\nasked\n", true},
        Case{"echo begun >&2; trap '' QUIT TERM; while :; do sleep 0.1; done", "begun\n", true},
        Case{"echo begun >&2; sleep 60 & exec sleep 60", "begun\n", true}, Case{"exec sleep 60", "", true}}) {
    CellRunner r = runner(c.script);
    r.limits.timeout_s = 1;
    const auto outcome = r.run(any_cell(), 1, 7);
    EXPECT_EQ(outcome.record["status"], "timeout") << c.script;
    EXPECT_EQ(outcome.record["signal"].is_string(), c.on_signal) << to_line(outcome.record);
    EXPECT_NE(outcome.record["reason"].get<std::string>().find("within 1 s"), std::string::npos);
    ASSERT_TRUE(outcome.record.contains("stderr")) << to_line(outcome.record);
    const auto text = outcome.record["stderr"].get<std::string>();
    EXPECT_NE(text.find(c.printed), std::string::npos) << c.script << ": " << text;
    EXPECT_EQ(text, outcome.errors);
  }
  EXPECT_FALSE(runner("echo loud >&2; exit 1").run(any_cell(), 1, 7).record.contains("stderr"));
}

// What a cell says of itself is a claim: it is believed when each field is what docs/RECORDS.md says.
TEST(CellRunner, AResultThatCannotBeBelievedIsAFailureThatNamesTheField) {
  struct Case {
    const char *result, *in_reason;
  };
  const std::vector<Case> cases = {
      {R"({"status":"banana"})", "status"},
      {R"({"status":"timeout","reason":"a sentence"})", "status"},
      {R"({"status":7})", "status"},
      {R"({"status":"exit"})", "reason"},
      {R"({"status":"check_failed","reason":3})", "reason"},
      {R"({"status":"ok","reason":"why not"})", "reason"},
      {R"({"status":"ok","metrics":7})", "metrics"},
      {R"({"status":"ok","metrics":[7]})", "metrics[0]"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"s","better":"lower","value":1},{"name":"b"}]})", "metrics[1]"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"s","better":"sideways","value":1}]})", "metrics[0].better"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"s","better":"lower","value":"1"}]})", "metrics[0].value"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"ns","better":"lower","value":-1}]})", "metrics[0].value"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":3,"better":"lower","value":1}]})", "metrics[0].unit"},
      {R"({"status":"ok","metrics":[{"name":"","unit":"s","better":"lower","value":1}]})", "metrics[0].name"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"s","better":"lower","value":1},
           {"name":"a","unit":"s","better":"lower","value":2}]})",
       "metrics[1].name"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"s","better":"lower","value":1e999}]})", "readable"},
      {R"({"status":"ok","metrics":[{"name":"a","unit":"s","better":"lower","value":NaN}]})", "readable"},
      {R"({"status":"ok","hists":{}})", "hists"},
      {R"({"status":"ok","hists":[{"name":"h","unit":"ns","count":-1}]})", "hists[0].count"},
      {R"({"status":"ok","hists":[{"name":"h","unit":"ns","count":1,"sum":1,"min":1,"max":1,"percentiles":[[50]],
           "buckets":[]}]})",
       "hists[0].percentiles[0]"},
      {R"({"status":"ok","hists":[{"name":"h","unit":"ns","count":1,"sum":1,"min":1,"max":1,"percentiles":[],
           "buckets":[[1,2,null]]}]})",
       "hists[0].buckets[0]"},
      {R"({"status":"ok","counters":[]})", "counters"},
      {R"({"status":"ok","counters":{"a":"b"}})", "counters.a"},
      {R"({"status":"ok","checks":[{"name":"sum","ok":"yes","detail":""}]})", "checks[0].ok"},
      {R"({"status":"ok","checks":[{"name":"sum","ok":true}]})", "checks[0].detail"},
      {R"({"status":"ok","checks":[{"name":"sum","ok":false,"detail":"wrong"}]})", "checks[0].ok"},
      {R"({"status":"ok","effective":{"scheduler":{"runnext":[[[[]]]]}}})", "effective.scheduler.runnext"},
      {R"({"status":"ok","guard":{}})", "guard"},
      {"[]", "object"},
      {"{", "readable"},
  };
  for (const Case& c : cases) {
    const Json record = runner(fmt::format("cat <<'END' >&3\n{}\nEND\n", c.result)).run(any_cell(), 1, 7).record;
    ASSERT_TRUE(record["status"].is_string()) << c.result;
    EXPECT_EQ(record["status"], "infra") << c.result;
    ASSERT_TRUE(record["reason"].is_string()) << c.result;
    EXPECT_NE(record["reason"].get<std::string>().find(c.in_reason), std::string::npos) << to_line(record);
    EXPECT_TRUE(record["metrics"] == Json::array() && record["hists"] == Json::array()) << to_line(record);
  }
}

TEST(CellRunner, AnOkCellOfAKnownWorkloadHasItsHeadline) {
  Cell cell;
  cell.workload = "ping_pong";
  cell.id = cell_id(cell, "build");
  const auto status_of = [&](const char* metrics) {
    const auto outcome = runner(fmt::format(R"(echo '{{"status":"ok","metrics":{}}}' >&3)", metrics)).run(cell, 1, 7);
    return outcome.record["status"].get<std::string>() + ": " + outcome.record["reason"].dump();
  };
  EXPECT_EQ(status_of(R"([{"name":"throughput","unit":"x/s","better":"higher","value":0.5}])"), "ok: null");
  for (const char* metrics : {R"([{"name":"throughput","unit":"x/s","better":"higher","value":0}])",
                              R"([{"name":"throughput","unit":"x/s","better":"higher","value":-3.5}])",
                              R"([{"name":"throughput","unit":"x/s","better":"higher","value":null}])",
                              R"([{"name":"throughputt","unit":"x/s","better":"higher","value":1}])", "[]"}) {
    EXPECT_EQ(status_of(metrics).find("check_failed: "), 0u) << metrics << ": " << status_of(metrics);
    EXPECT_NE(status_of(metrics).find("headline 'throughput'"), std::string::npos) << status_of(metrics);
  }
  cell.workload = "kv_server";  // one that serves has nothing to measure
  EXPECT_EQ(status_of("[]").find("check_failed: "), 0u) << status_of("[]");
  cell.params = {{"serve", "on"}};
  EXPECT_EQ(status_of("[]"), "ok: null");
}

}  // namespace
}  // namespace gearbox::harness
