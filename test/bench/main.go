// Command bench measures what an operation costs the proxy, as a ratio to a bare
// Go HTTPS server that echoes bodies of the same size, in one run.
//
//	go run ./test/bench -proxy bin/xks-proxy
//
//	go run ./test/bench -proxy bin/xks-proxy -stores 1000
//
// It makes demo tokens with different numbers of keys, serves them with the real
// program, and loads both servers in turn over HTTP/1.1 keep-alive connections from this
// process. CPU is what the kernel accounts to the servers' processes (the
// HSMs' included, the client's not). Machines are noisy: the ratios are what
// counts, and each is taken from measurements next to each other.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"xks-proxy/test/harness"
)

type options struct {
	proxy       string
	keys        []int
	stores      int
	storeKeys   int
	rounds      int
	duration    time.Duration
	connections int
	directory   string
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 4 && os.Args[1] == echoCommand {
		log.Fatal(serveEcho(os.Args[2], os.Args[3]))
	}
	o, err := parseOptions()
	if err != nil {
		log.Fatal(err)
	}
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func parseOptions() (*options, error) {
	o := new(options)
	keys := flag.String("keys", "1,100,1000,5000", "numbers of keys on the tokens")
	flag.IntVar(
		&o.stores,
		"stores",
		0,
		"compare this many key stores, each in a file of its own, with one, instead of numbers of keys",
	)
	flag.IntVar(&o.storeKeys, "store-keys", 10000, "keys on the tokens for -stores")
	flag.StringVar(&o.proxy, "proxy", "bin/xks-proxy", "the program to measure")
	flag.IntVar(&o.rounds, "rounds", 3, "measurements of each case; the table shows the median")
	flag.DurationVar(&o.duration, "duration", 4*time.Second, "length of one measurement")
	flag.IntVar(
		&o.connections,
		"connections",
		16,
		"connections that send one request after the other",
	)
	flag.StringVar(
		&o.directory,
		"directory",
		"",
		"where tokens are made (default: a temporary directory, in memory if there is /dev/shm)",
	)
	flag.Parse()
	for n := range strings.SplitSeq(*keys, ",") {
		number, err := strconv.Atoi(n)
		if err != nil {
			return nil, fmt.Errorf("-keys: %w", err)
		}
		o.keys = append(o.keys, number)
	}
	return o, nil
}

func run(o *options) error {
	if o.directory == "" {
		directory, err := os.MkdirTemp(harness.FastDirectory(), "xks-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(directory)
		o.directory = directory
	}
	proxy, err := filepath.Abs(o.proxy)
	if err != nil {
		return err
	}
	o.proxy = proxy
	if o.stores > 0 {
		return o.measureStores()
	}
	fmt.Printf(
		"%d connections, %v each, median of %d; CPU of all server processes, HSMs included\n\n",
		o.connections,
		o.duration,
		o.rounds,
	)
	fmt.Println(
		"| keys on the token | operation | CPU an operation | requests/s | p50 | p99 | bare echo, CPU | ratio |",
	)
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, keys := range o.keys {
		if err := o.measureProxy(keys); err != nil {
			return fmt.Errorf("%d keys: %w", keys, err)
		}
	}
	return nil
}

// measureProxy measures every operation against one pair of tokens.
func (o *options) measureProxy(keys int) error {
	d, err := harness.Prepare(
		context.Background(),
		o.proxy,
		filepath.Join(o.directory, fmt.Sprintf("keys-%d", keys)),
		keys,
	)
	if err != nil {
		return err
	}
	proxy, err := startProxy(o, d, d.Address(), storeOf(d))
	if err != nil {
		return err
	}
	defer proxy.stop()
	echo, err := startEcho(proxy)
	if err != nil {
		return err
	}
	defer echo.stop()
	operations := []string{opEncrypt, opEncryptCDIV, opDecrypt}
	if keys != o.keys[0] {
		operations = operations[:1] // the others are measured once
	}
	for _, operation := range operations {
		if err := o.compare(proxy, echo, keys, operation); err != nil {
			return fmt.Errorf("%s: %w", operation, err)
		}
	}
	return nil
}

// compare measures proxy and echo in turn and prints one row.
func (o *options) compare(proxy, echo *server, keys int, operation string) error {
	m, err := proxy.message(operation)
	if err != nil {
		return err
	}
	var ours, bare []result
	var ratios []float64
	for range o.rounds {
		b, err := o.measure(echo, &message{body: m.body})
		if err != nil {
			return err
		}
		r, err := o.measure(proxy, m)
		if err != nil {
			return err
		}
		ours, bare = append(ours, r), append(bare, b)
		ratios = append(ratios, r.cpu.Seconds()/b.cpu.Seconds())
	}
	slices.Sort(ratios)
	r, b := medianByCPU(ours), medianByCPU(bare)
	fmt.Printf(
		"| %d | %s | %.1f µs | %.0f | %.2f ms | %.2f ms | %.1f µs | %.2f (%.2f–%.2f) |\n",
		keys,
		operation,
		microseconds(
			r.cpu,
		),
		r.perSecond,
		milliseconds(r.p50),
		milliseconds(r.p99),
		microseconds(b.cpu),
		ratios[len(ratios)/2],
		ratios[0],
		ratios[len(ratios)-1],
	)
	return nil
}

// result is one measurement.
type result struct {
	cpu       time.Duration // for one operation
	perSecond float64
	p50, p99  time.Duration
}

func (o *options) measure(s *server, m *message) (result, error) {
	before, err := harness.CPU(s.program.PID)
	if err != nil {
		return result{}, err
	}
	latencies, elapsed, err := load(s, m, o.connections, o.duration)
	if err != nil {
		return result{}, err
	}
	after, err := harness.CPU(s.program.PID)
	if err != nil {
		return result{}, err
	}
	slices.Sort(latencies)
	n := len(latencies)
	return result{
		cpu: (after - before) / time.Duration(n), perSecond: float64(n) / elapsed.Seconds(),
		p50: latencies[n/2], p99: latencies[n*99/100],
	}, nil
}

func medianByCPU(results []result) result {
	slices.SortFunc(results, func(a, b result) int { return int(a.cpu - b.cpu) })
	return results[len(results)/2]
}

func microseconds(d time.Duration) float64 { return float64(d) / 1e3 }
func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }
