// What a workload's report becomes in the cell: a result, or a reason why it is none.
#include "harness/cell_result.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gearbox::harness {
namespace {

Json result_of(const Report& report, bool serves = false) {
  return measured(RunStats{}, report, "throughput", serves, 1'000'000, 1'000'000);
}

Report report_with(double headline) {
  Report report;
  report.check("sum", true, "3");
  report.metric("throughput", "x/s", "higher", headline);
  return report;
}

TEST(CellResult, AHeadlineIsFiniteAndAboveZero) {
  EXPECT_EQ(result_of(report_with(0.25))["status"], "ok");
  EXPECT_EQ(why_malformed(result_of(report_with(0.25))), std::nullopt);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double headline : {0.0, -0.0, -1.0, std::nan(""), infinity, -infinity}) {
    const Json result = result_of(report_with(headline));
    EXPECT_EQ(result["status"], "check_failed") << headline;
    EXPECT_NE(result["reason"].get<std::string>().find("headline 'throughput'"), std::string::npos) << to_line(result);
    EXPECT_TRUE(result["metrics"].empty() && result["hists"].empty());
    EXPECT_EQ(why_malformed(result), std::nullopt);
  }
  Report standing_still;
  standing_still.check("sum", true, "3");
  standing_still.throughput(1000, 0, "x/s");
  EXPECT_EQ(result_of(standing_still)["status"], "check_failed");
}

TEST(CellResult, OnlyAServerMayMeasureNothing) {
  Report silent;
  silent.check("sum", true, "3");
  EXPECT_EQ(result_of(silent)["status"], "check_failed");
  EXPECT_EQ(result_of(silent, true)["status"], "ok");
  silent.metric("other", "x/s", "higher", 1);
  EXPECT_EQ(result_of(silent)["status"], "check_failed");
  EXPECT_TRUE(serves({{"port", "1"}, {"serve", "on"}}));
  EXPECT_FALSE(serves({{"serve", "off"}}));
}

TEST(CellResult, AMetricThatHasNoValueIsNullUnlessItLeads) {
  Report report = report_with(1);
  report.metric("ratio", "", "lower", std::nan(""));
  const Json result = result_of(report);
  EXPECT_EQ(result["status"], "ok");
  EXPECT_TRUE(result["metrics"][1]["value"].is_null());
}

TEST(CellResult, AnAmountIsNotNegative) {
  for (const char* unit : {"s", "ns", "us", "ms", "bytes"}) {
    Report report = report_with(1);
    report.metric("lost", unit, "lower", -1);
    EXPECT_NE(result_of(report)["reason"].dump().find("must be 0 or more in its unit"), std::string::npos) << unit;
  }
  Report report = report_with(1);
  report.metric("drift", "%", "lower", -1);
  EXPECT_EQ(result_of(report)["status"], "ok");
}

TEST(CellResult, TwoMetricsOfOneNameAreNone) {
  Report twice = report_with(1);
  twice.check("sum", true, "3");  // a check may be made in every round
  EXPECT_EQ(result_of(twice)["status"], "ok");
  for (const char* taken : {"throughput", "wall"}) {  // the second is a name that every record has
    Report report = report_with(1);
    report.metric(taken, "x/s", "higher", 2);
    const Json result = result_of(report);
    EXPECT_EQ(result["status"], "check_failed") << taken;
    EXPECT_NE(result["reason"].get<std::string>().find("for the second time"), std::string::npos) << to_line(result);
  }
}

TEST(CellResult, AWrongAnswerComesBeforeEverythingElse) {
  Report report = report_with(0);
  report.check("order", false, "found 2, expected 1");
  EXPECT_EQ(result_of(report)["reason"], "order: found 2, expected 1");
  EXPECT_EQ(result_of(Report{})["reason"], "the workload made no check of its answer");
}

TEST(CellResult, WhatIsNestedWithoutEndIsRefusedWithoutWalkingIt) {
  std::string deep = R"({"status":"exit","reason":)" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  auto result = parse_json(deep, "test");
  ASSERT_TRUE(result);
  EXPECT_NE(why_malformed(*result), std::nullopt);
}

}  // namespace
}  // namespace gearbox::harness
