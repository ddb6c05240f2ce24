package main

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

type node struct{ left, right *node }

var (
	sink16   *[16]byte
	sink64   *[64]byte
	sinkNode *node
)

// What the last benchmark found wrong with its answer. testing.Benchmark tells of a failure neither that nor why.
var wrongAnswer error

// For the benchmark's own goroutine: ends it.
func wrong(b *testing.B, format string, arguments ...any) {
	wrongAnswer = fmt.Errorf(format, arguments...)
	b.FailNow()
}

func pingPong(b *testing.B) {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for v := range ping {
			pong <- v
		}
		close(pong)
	}()
	for i := 0; i < b.N; i++ {
		ping <- i
		if v := <-pong; v != i {
			wrong(b, "%d came back, expected %d", v, i)
		}
	}
	close(ping)
}

func buffered(pairs int) func(b *testing.B) {
	return func(b *testing.B) {
		channel, done := make(chan int, 128), make(chan int)
		for i := 0; i < pairs; i++ {
			go func() {
				sum := 0
				for v := range channel {
					sum += v
				}
				done <- sum
			}()
		}
		var senders sync.WaitGroup
		for i := 1; i < pairs; i++ {
			senders.Add(1)
			go func() {
				for i := 0; i < b.N; i++ {
					channel <- 1
				}
				senders.Done()
			}()
		}
		for i := 0; i < b.N; i++ {
			channel <- 1
		}
		senders.Wait()
		close(channel)
		sum := 0
		for i := 0; i < pairs; i++ {
			sum += <-done
		}
		if sum != pairs*b.N {
			wrong(b, "the sum of the values is %d, expected %d", sum, pairs*b.N)
		}
	}
}

func fib(n uint64, up chan uint64) {
	if n < 2 {
		up <- n
		return
	}
	down := make(chan uint64, 2)
	go fib(n-1, down)
	go fib(n-2, down)
	up <- <-down + <-down
}

var benches = map[string]bench{
	"yield": {2, func(b *testing.B) {
		stop, done := false, make(chan int)
		go func() {
			for !stop {
				runtime.Gosched()
			}
			done <- 1
		}()
		for i := 0; i < b.N; i++ {
			runtime.Gosched()
		}
		stop = true
		<-done
	}},
	"ping_pong_round_trip": {1, pingPong},
	"buffered_1_to_1":      {1, buffered(1)},
	"buffered_4_to_4":      {4, buffered(4)},
	"select_two": {1, func(b *testing.B) {
		a, c, stop, done := make(chan int), make(chan int), make(chan int), make(chan int)
		go func() {
			for i := 0; ; i++ {
				to := a
				if i%2 == 1 {
					to = c
				}
				select {
				case to <- i:
				case <-stop:
					done <- 1
					return
				}
			}
		}()
		for i := 0; i < b.N; i++ {
			select {
			case <-a:
			case <-c:
			}
		}
		close(stop)
		<-done
	}},
	"spawn_join": {100, func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			var group sync.WaitGroup
			group.Add(100)
			for k := 0; k < 100; k++ {
				go func() { group.Done() }()
			}
			group.Wait() // counts them: one too few waits for ever, one too many panics
		}
	}},
	"mutex_contended": {8000, func(b *testing.B) {
		var mutex sync.Mutex
		counter := 0
		for i := 0; i < b.N; i++ {
			var group sync.WaitGroup
			group.Add(8)
			for k := 0; k < 8; k++ {
				go func() {
					for n := 0; n < 1000; n++ {
						mutex.Lock()
						counter++
						mutex.Unlock()
					}
					group.Done()
				}()
			}
			group.Wait()
		}
		if counter != 8000*b.N {
			wrong(b, "the counter is %d, expected %d", counter, 8000*b.N)
		}
	}},
	"allocate_16": {1, func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			sink16 = new([16]byte)
		}
	}},
	"allocate_64": {1, func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			sink64 = new([64]byte)
		}
	}},
	"allocate_node": {1, func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			sinkNode = new(node)
		}
	}},
	"fib_27": {1, func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			up := make(chan uint64)
			go fib(27, up)
			if v := <-up; v != 196418 {
				wrong(b, "fib(27) is %d, expected 196418", v)
			}
		}
	}},
	"sleep_million": {1_000_000, func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			var group sync.WaitGroup
			group.Add(1_000_000)
			for k := 0; k < 1_000_000; k++ {
				go func() {
					time.Sleep(time.Millisecond)
					group.Done()
				}()
			}
			group.Wait()
		}
	}},
}
