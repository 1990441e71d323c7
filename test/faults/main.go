// Command faults shows what becomes of requests while an HSM misbehaves: the table of faults and
// loads in docs/resilience.md.
//
//	go run ./test/faults -proxy bin/xks-proxy            every fault, at 600 and 1800 requests a second
//	go run ./test/faults -short                          the most telling ones, in a minute
//	go run ./test/faults -fault 'hang|SIGSTOP' -rate 600 -target hsm-a
//	go run ./test/faults -chaos -for 10m                 random faults, one HSM at a time
//
// It makes a pair of SoftHSM tokens, puts a module in front of each that misbehaves on demand
// (package faulty), starts the real program with its default times, and keeps a steady load of signed
// Encrypts and Decrypts on it over TLS from this process. The exit code is 1 if a row is not as it
// should be.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xks-proxy/test/harness"
)

// options are the command line.
type options struct {
	proxy       string
	rates       []int
	targets     []string
	faults      *regexp.Regexp
	hold, calm  time.Duration // of the fault; of load before it
	short       bool
	verbose     bool
	chaos       bool
	chaosFor    time.Duration
	connections int
	seed        uint64
	markdown    string
	settings    []string // NAME=value, for the program's environment
	vendors     string   // directory of vendors' modules
	vendor      *vendor  // nil: a pair of SoftHSM tokens
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == tokenJobCommand {
		err := tokenJobChild(os.Stdin, os.Stdout)
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	o, err := parseOptions()
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := run(ctx, o)
	if err != nil {
		log.Print(err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

func parseOptions() (*options, error) {
	o := new(options)
	rates := flag.String("rate", "", "requests a second (default 600,1800; in a short run 600)")
	targets := flag.String("target", "", "hsm-a, hsm-b, \"in turn\" (default all three; in a short run hsm-a and hsm-b by turns)")
	pattern := flag.String("fault", "", "regular expression of the faults' names")
	flag.StringVar(&o.proxy, "proxy", "bin/xks-proxy", "the program to test")
	flag.DurationVar(&o.hold, "hold", 3*time.Second, "how long each fault lasts")
	flag.BoolVar(&o.short, "short", false, "the most telling faults only, each for 1 s")
	flag.BoolVar(&o.verbose, "v", false, "print what the program logs during each fault")
	flag.BoolVar(&o.chaos, "chaos", false, "random faults in the place of the table")
	flag.DurationVar(&o.chaosFor, "for", 10*time.Minute, "how long chaos lasts")
	flag.IntVar(&o.connections, "connections", 128, "keep-alive connections")
	flag.Uint64Var(&o.seed, "seed", rand.Uint64(), "of what is random")
	flag.StringVar(&o.markdown, "markdown", "", "document to write the table into")
	flag.StringVar(&o.vendors, "vendors", "",
		"directory of modules (test/vendors): mixed pairs in the place of the table")
	flag.Func("set", "a setting of the program, as in its environment: HSMS_0_SESSIONS=16", func(s string) error {
		o.settings = append(o.settings, s)
		return nil
	})
	flag.Parse()
	o.calm = time.Second
	if o.short {
		o.calm = 500 * time.Millisecond
		setUnlessGiven("hold", func() { o.hold = time.Second })
	}
	var err error
	o.rates, err = parseRates(*rates, o)
	if err != nil {
		return nil, err
	}
	if *targets != "" {
		o.targets = strings.Split(*targets, ",")
	}
	o.faults, err = regexp.Compile(*pattern)
	if err != nil {
		return nil, fmt.Errorf("-fault: %w", err)
	}
	return o, nil
}

func parseRates(text string, o *options) ([]int, error) {
	switch {
	case text == "" && o.vendors != "":
		return []int{300}, nil
	case text == "" && (o.short || o.chaos):
		return []int{600}, nil
	case text == "":
		return []int{600, 1800}, nil
	}
	var rates []int
	for word := range strings.SplitSeq(text, ",") {
		rate, err := strconv.Atoi(word)
		if err != nil || rate < 1 {
			return nil, fmt.Errorf("-rate %q: want numbers above 0", text)
		}
		rates = append(rates, rate)
	}
	return rates, nil
}

func setUnlessGiven(name string, set func()) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if !given {
		set()
	}
}

func run(ctx context.Context, o *options) (bool, error) {
	fmt.Printf("seed %d\n", o.seed)
	machine := harness.WatchMachine(stoodStill)
	if o.vendors != "" {
		return runVendors(ctx, o, machine)
	}
	w, err := newWorld(ctx, o, machine)
	if err != nil {
		return false, err
	}
	defer func() { w.close() }() // the last one
	if o.chaos {
		return w.runChaos(ctx, o)
	}
	fmt.Println(table.Header())
	good := true
	var rows []*row
	for n, p := range o.plan() {
		if ctx.Err() != nil {
			return false, fmt.Errorf("interrupted after %d rows", n)
		}
		r, err := w.runUndisturbed(o, p.fault, p.rate, p.target)
		if r != nil {
			r.print()
			rows = append(rows, r)
			good = good && !r.missed()
		}
		if err == nil {
			continue
		}
		good = false
		log.Printf("  %s on %s at %d/s: %v", p.fault.name, p.target, p.rate, err)
		w.close()
		fresh, err := newWorld(ctx, o, machine)
		if err != nil {
			return false, err
		}
		w = fresh
	}
	if len(rows) == 0 {
		return false, fmt.Errorf("no fault has a name like %q", o.faults)
	}
	fmt.Println(summary(rows))
	if o.markdown != "" {
		err := writeTable(o.markdown, o, rows)
		if err != nil {
			return false, err
		}
	}
	return good, nil
}

// planned is a row to run.
type planned struct {
	fault  *fault
	rate   int
	target string
}

// plan lists the rows.
func (o *options) plan() []planned {
	var list []planned
	for i := range faults {
		f := &faults[i]
		if !o.faults.MatchString(f.name) || o.short && !f.short {
			continue
		}
		for _, rate := range o.ratesOf(f) {
			for _, target := range o.targetsOf(f, len(list)) {
				list = append(list, planned{f, rate, target})
			}
		}
	}
	return list
}

func (o *options) ratesOf(f *fault) []int {
	if f.rates == nil {
		return o.rates
	}
	return slices.DeleteFunc(slices.Clone(f.rates), func(rate int) bool { return !slices.Contains(o.rates, rate) })
}

func (o *options) targetsOf(f *fault, n int) []string {
	switch {
	case f.all:
		return []string{everyTarget}
	case f.name == "none":
		return []string{"hsm-a"}
	case o.targets != nil:
		return o.targets
	case o.short:
		return []string{[]string{"hsm-a", "hsm-b"}[n%2]}
	}
	return []string{"hsm-a", "hsm-b", inTurn}
}
