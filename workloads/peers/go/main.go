// The same programs in Go: what Gearbox's workloads and microbenchmarks are compared with, shape for shape.
//
//	gearbox-peer list                        the names
//	gearbox-peer <name> [-procs N] [-set key=value]...
//
// Prints one JSON object: {"name", "values": {metric: number}, "ok", "version"}. A workload checks its own answer as its
// counterpart does; a wrong one is ok=false and exit code 1. Nothing here is tuned: it is what a Go programmer writes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"testing"
)

type params map[string]uint64

// A benchmark: nanoseconds for each item. items: how many one iteration stands for.
type bench struct {
	items uint64
	run   func(b *testing.B)
}

// A workload: its own values, and whether its answer was right.
type workload struct {
	defaults params
	zeros    string // the parameters that may be 0, with spaces around each
	run      func(p params) (map[string]float64, error)
}

type settings struct{ values params }

func (s *settings) String() string { return "" }
func (s *settings) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	number, err := strconv.ParseUint(value, 10, 64)
	if !found || err != nil {
		return fmt.Errorf("want key=number, got %q", text)
	}
	s.values[key] = number
	return nil
}

func atLeastOne(p params, zeros string) error {
	for key, value := range p {
		if value == 0 && !strings.Contains(zeros, " "+key+" ") {
			return fmt.Errorf("%s is 0; it is at least 1", key)
		}
	}
	return nil
}

func names() []string {
	var all []string
	for name := range benches {
		all = append(all, name)
	}
	for name := range workloads {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "gearbox-peer: "+format+"\n", arguments...)
	os.Exit(2)
}

// Of this program alone: the maximum that getrusage() tells has that of the process in it which started this one.
func peakResidentBytes() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return float64(kib) * 1024
		}
	}
	return 0
}

func main() {
	testing.Init()
	if len(os.Args) < 2 {
		fail("which one? %s", strings.Join(names(), " "))
	}
	name := os.Args[1]
	if name == "list" {
		fmt.Println(strings.Join(names(), "\n"))
		return
	}
	set := settings{params{}}
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	procs := flags.Int("procs", 0, "GOMAXPROCS; 0: one for each processor")
	flags.Var(&set, "set", "key=value, a parameter of the workload")
	flags.Parse(os.Args[2:])
	if flags.NArg() > 0 {
		fail("there is no option %q; there is -procs, -set", flags.Arg(0))
	}
	if *procs > 0 {
		runtime.GOMAXPROCS(*procs)
	}
	values := map[string]float64{}
	var failure error
	if b, ok := benches[name]; ok {
		for key := range set.values {
			fail("%s has no parameter %q", name, key)
		}
		result := testing.Benchmark(b.run)
		if failure = wrongAnswer; failure == nil {
			values["ns"] = float64(result.T.Nanoseconds()) / float64(result.N) / float64(b.items)
		}
	} else if w, ok := workloads[name]; ok {
		p := params{}
		for key, value := range w.defaults {
			p[key] = value
		}
		for key, value := range set.values {
			if _, known := p[key]; !known {
				fail("%s has no parameter %q", name, key)
			}
			p[key] = value
		}
		if failure = atLeastOne(p, w.zeros); failure == nil {
			values, failure = w.run(p)
		}
	} else {
		fail("there is no %q; there is %s", name, strings.Join(names(), " "))
	}
	if failure == nil {
		values["rss"] = peakResidentBytes()
	} else {
		values = map[string]float64{}
	}
	answer := map[string]any{"name": name, "values": values, "ok": failure == nil, "version": runtime.Version()}
	if failure != nil {
		answer["failure"] = failure.Error()
	}
	json.NewEncoder(os.Stdout).Encode(answer)
	if failure != nil {
		os.Exit(1)
	}
}
