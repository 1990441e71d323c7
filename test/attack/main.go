// Command attack attacks the real program and prints the results: the table in docs/security.md.
//
//	go run ./test/attack -proxy bin/xks-proxy         every attack, about a quarter of an hour
//	go run ./test/attack -short                       all of them, smaller, in half a minute
//	go run ./test/attack -attack 'mutants|smuggling' -seed 7
//
// It makes a pair of SoftHSM tokens and starts the program with three key stores and its default
// limits. Honest traffic runs on one of them all the time, 200 signed requests a second, from this
// process; each attack runs in a child process of lower priority, because a real attacker has
// processors of his own. The exit code is 1 if an attack got anything that it must not get, if
// honest requests failed, or if the program did not give back what the attack had cost it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

// options are the command line.
type options struct {
	proxy    string
	attacks  *regexp.Regexp
	short    bool
	seed     uint64
	mutants  int // 0: by short
	markdown string
}

// strikeCommand is the first argument of the child that attacks.
const strikeCommand = "strike"

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == strikeCommand {
		err := strikeChild(os.Args[2], os.Stdin, os.Stdout)
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
	flag.StringVar(&o.proxy, "proxy", "bin/xks-proxy", "the program to attack")
	pattern := flag.String("attack", "", "regular expression of the attacks' names")
	flag.BoolVar(&o.short, "short", false, "smaller attacks: half a minute in all")
	flag.Uint64Var(&o.seed, "seed", rand.Uint64(), "of what is random in the attacks")
	flag.IntVar(
		&o.mutants, "mutants", 0,
		"signed requests to mutate (default 1000000, in a short run 20000)",
	)
	flag.StringVar(&o.markdown, "markdown", "", "document to write the table into")
	flag.Parse()
	if flag.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", flag.Arg(0))
	}
	if o.mutants == 0 {
		o.mutants = 1_000_000
		if o.short {
			o.mutants = 20_000
		}
	}
	var err error
	o.attacks, err = regexp.Compile(*pattern)
	if err != nil {
		return nil, fmt.Errorf("-attack: %w", err)
	}
	return o, nil
}

func run(ctx context.Context, o *options) (bool, error) {
	fmt.Printf("seed %d\n", o.seed)
	w, err := newWorld(ctx, o)
	if err != nil {
		return false, err
	}
	defer w.close()
	fmt.Println(table.Header())
	good := true
	var rows []*row
	for i := range attacks {
		a := &attacks[i]
		if !o.attacks.MatchString(a.name) {
			continue
		}
		r, err := w.runUndisturbed(ctx, a)
		if err != nil {
			return false, fmt.Errorf("%s: %w", a.name, err)
		}
		r.print()
		rows = append(rows, r)
		good = good && len(r.wrong) == 0
	}
	if len(rows) == 0 {
		return false, errors.New("no attack has a name like that")
	}
	fmt.Println(summary(rows))
	memory, back := w.memoryBack(ctx, rows[0], rows[len(rows)-1])
	fmt.Println(memory)
	good = good && back
	if o.markdown != "" {
		err := writeTable(o.markdown, o, rows, memory)
		if err != nil {
			return false, err
		}
	}
	return good, nil
}
