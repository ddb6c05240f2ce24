package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

func skynet(up chan uint64, first, leaves uint64) {
	if leaves == 1 {
		up <- first
		return
	}
	children := leaves
	if children > 10 {
		children = 10
	}
	down := make(chan uint64, children)
	given := uint64(0)
	for i := uint64(0); i < children; i++ {
		share := leaves / children
		if i < leaves%children {
			share++
		}
		go skynet(down, first+given, share)
		given += share
	}
	sum := uint64(0)
	for i := uint64(0); i < children; i++ {
		sum += <-down
	}
	up <- sum
}

func bottomUp(depth uint64) *node {
	if depth == 0 {
		return &node{}
	}
	return &node{bottomUp(depth - 1), bottomUp(depth - 1)}
}

func (n *node) count() uint64 {
	if n.left == nil {
		return 1
	}
	return 1 + n.left.count() + n.right.count()
}

func binaryTrees(p params) (map[string]float64, error) {
	const least = 4
	depth, workers := p["depth"], uint64(runtime.GOMAXPROCS(0))
	began := time.Now()
	longLived := bottomUp(depth)
	nodes, expected := longLived.count(), uint64(2)<<depth-1
	for d := uint64(least); d <= depth; d += 2 {
		trees := uint64(1) << (depth - d + least)
		counts := make(chan uint64, workers)
		for w := uint64(0); w < workers; w++ {
			share := trees / workers
			if w < trees%workers {
				share++
			}
			go func(d uint64) {
				sum := uint64(0)
				for i := uint64(0); i < share; i++ {
					sum += bottomUp(d).count()
				}
				counts <- sum
			}(d)
		}
		for w := uint64(0); w < workers; w++ {
			nodes += <-counts
		}
		expected += trees * (uint64(2)<<d - 1)
	}
	elapsed := time.Since(began)
	if nodes != expected || longLived.count() != uint64(2)<<depth-1 {
		return nil, fmt.Errorf("%d nodes, expected %d", nodes, expected)
	}
	return withPauses(map[string]float64{"throughput": float64(nodes) / elapsed.Seconds()}), nil
}

// Quantiles of the time that a stop of the world for the collector took, in nanoseconds: asking, stopping, and being
// stopped.
func withPauses(values map[string]float64) map[string]float64 {
	for _, each := range []struct{ metric, name string }{
		{"/sched/pauses/total/gc:seconds", "pause"}, {"/sched/pauses/stopping/gc:seconds", "stop"}} {
		sample := []metrics.Sample{{Name: each.metric}}
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindFloat64Histogram { // before Go 1.22
			continue
		}
		h := sample[0].Value.Float64Histogram()
		total := uint64(0)
		for _, count := range h.Counts {
			total += count
		}
		if total == 0 {
			continue
		}
		for _, q := range []float64{50, 99} {
			rank, seen := uint64(math.Ceil(q/100*float64(total))), uint64(0)
			for i, count := range h.Counts {
				if seen += count; seen >= rank {
					values[fmt.Sprintf("%s_p%.0f", each.name, q)] = h.Buckets[i+1] * 1e9
					break
				}
			}
		}
	}
	return values
}

func gcLatency(p params) (map[string]float64, error) {
	stop := make(chan int)
	for i := uint64(0); i < p["goroutines"]; i++ {
		go func() { <-stop }()
	}
	ring := make([][]byte, p["ring"])
	push := func(i uint64) {
		message := make([]byte, p["message_bytes"])
		for k := range message {
			message[k] = byte(i)
		}
		ring[i%p["ring"]] = message
	}
	for i := uint64(0); i < p["warmup"]; i++ {
		push(i)
	}
	latency := make([]int32, 0, p["pushes"])
	began := time.Now()
	last := time.Duration(0)
	for i := p["warmup"]; i < p["warmup"]+p["pushes"]; i++ {
		push(i)
		now := time.Since(began)
		latency = append(latency, int32(now-last))
		last = now
	}
	close(stop)
	end := p["warmup"] + p["pushes"]
	first := uint64(0) // of those that are alive
	if end > p["ring"] {
		first = end - p["ring"]
	}
	for i := first; i < end; i++ {
		if message := ring[i%p["ring"]]; bytes.Count(message, []byte{byte(i)}) != len(message) {
			return nil, fmt.Errorf("message %d is damaged", i)
		}
	}
	sort.Slice(latency, func(a, b int) bool { return latency[a] < latency[b] })
	values := map[string]float64{"throughput": float64(p["pushes"]) / last.Seconds()}
	for _, q := range []float64{50, 99, 99.9, 99.99} {
		rank := int(math.Ceil(q/100*float64(len(latency)))) - 1
		values["p"+strconv.FormatFloat(q, 'f', -1, 64)] = float64(latency[rank])
	}
	return withPauses(values), nil
}

func echo(p params) (map[string]float64, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 4096)
				for {
					n, err := conn.Read(buffer)
					if n == 0 || err != nil {
						return
					}
					if _, err := conn.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	connections := p["connections"]
	each := (p["requests"] + connections - 1) / connections
	clients := make([]net.Conn, connections)
	for i := range clients {
		if clients[i], err = net.Dial("tcp", listener.Addr().String()); err != nil {
			return nil, err
		}
	}
	failures := make(chan error, connections)
	var done sync.WaitGroup
	began := time.Now()
	for i := range clients {
		done.Add(1)
		go func(number int) {
			defer done.Done()
			conn := clients[number]
			defer conn.Close()
			message, back := make([]byte, p["message_bytes"]), make([]byte, p["message_bytes"])
			for round := uint64(0); round < each; round++ {
				for k := range message {
					message[k] = byte(uint64(number)*31 + round + uint64(k))
				}
				if _, err := conn.Write(message); err != nil {
					failures <- err
					return
				}
				if _, err := io.ReadFull(conn, back); err != nil {
					failures <- err
					return
				}
				if string(message) != string(back) {
					failures <- fmt.Errorf("connection %d got other bytes back", number)
					return
				}
			}
		}(i)
	}
	done.Wait()
	elapsed := time.Since(began)
	listener.Close()
	select {
	case err := <-failures:
		return nil, err
	default:
	}
	return map[string]float64{"throughput": float64(each*connections) / elapsed.Seconds()}, nil
}

func residentBytes() float64 {
	text, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize())
}

var workloads = map[string]workload{
	"skynet": {params{"leaves": 1_000_000}, "", func(p params) (map[string]float64, error) {
		root := make(chan uint64)
		began := time.Now()
		go skynet(root, 0, p["leaves"])
		sum := <-root
		elapsed := time.Since(began)
		if sum != p["leaves"]*(p["leaves"]-1)/2 {
			return nil, fmt.Errorf("the sum is %d", sum)
		}
		return map[string]float64{"throughput": float64(p["leaves"]) / elapsed.Seconds()}, nil
	}},
	"binary_trees": {params{"depth": 18}, "", binaryTrees},
	"gc_latency": {params{"ring": 200_000, "message_bytes": 1024, "warmup": 1_000_000, "pushes": 5_000_000,
		"goroutines": 0}, " warmup goroutines ", gcLatency},
	"echo": {params{"connections": 64, "message_bytes": 64, "requests": 300_000}, "", echo},
	// A million goroutines that wait on one channel: time to make each, and memory of each.
	"parked": {params{"goroutines": 1_000_000}, "", func(p params) (map[string]float64, error) {
		debug.SetGCPercent(100)
		stop := make(chan int)
		var parked sync.WaitGroup
		parked.Add(int(p["goroutines"]))
		before := residentBytes()
		began := time.Now()
		for i := uint64(0); i < p["goroutines"]; i++ {
			go func() {
				parked.Done()
				<-stop
			}()
		}
		parked.Wait()
		elapsed := time.Since(began)
		bytes := residentBytes() - before
		close(stop)
		n := float64(p["goroutines"])
		return map[string]float64{"ns": float64(elapsed.Nanoseconds()) / n, "bytes": bytes / n}, nil
	}},
}
